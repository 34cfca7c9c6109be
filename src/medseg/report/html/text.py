"""Text on its way into a page: escaped, and only such addresses as can do no harm."""

import base64
import html
import re

WEB = re.compile(r"https?://[^\s/]", re.IGNORECASE)
SCHEME = re.compile(r"\s*[a-z][\w+.-]*:", re.IGNORECASE)


def escaped(text: object) -> str:
    """Return text in which nothing is read as markup, also inside an attribute."""
    return html.escape(str(text), quote=True)


def is_safe(address: str) -> bool:
    """Return whether an address may become a link: ``http(s)``, an anchor, or a path relative to the page.

    Not ``javascript:`` or another scheme, not a path from the root of a disk or server, nothing with control
    characters, which browsers skip when they read a scheme.
    """
    if any(ord(letter) < 32 for letter in address):
        return False
    return bool(WEB.match(address)) or not (SCHEME.match(address) or address.startswith(("/", "\\")))


def linked(text: str, address: str) -> str:
    """Return a link, or the text alone where the address is empty or unsafe."""
    if not address or not is_safe(address):
        return escaped(text)
    away = ' rel="noopener noreferrer"' if WEB.match(address) else ""
    return f'<a href="{escaped(address.replace(" ", "%20"))}"{away}>{escaped(text)}</a>'


def data_uri(content: bytes, media: str) -> str:
    """Return bytes as an address that needs no file."""
    return f"data:{media};base64,{base64.b64encode(content).decode('ascii')}"
