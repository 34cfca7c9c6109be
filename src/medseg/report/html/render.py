"""A page as text; the same page gives the same bytes."""

import re
from collections.abc import Iterator
from functools import singledispatch
from itertools import count

from medseg.report.html.blocks import (
    Block,
    Bullets,
    Details,
    Facts,
    Figure,
    Links,
    Page,
    Paragraph,
    Section,
    TableBlock,
)
from medseg.report.html.style import CSS, SCRIPT
from medseg.report.html.tables import table_html
from medseg.report.html.text import data_uri, escaped, linked

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'"
"""What a browser may load for the page: nothing but what stands in it."""


def render(page: Page) -> str:
    """Return the page as one HTML document that needs no other file and no network."""
    flags = "".join(f'<span class="flag">{escaped(flag)}</span>' for flag in page.flags)
    contents = "\n".join(f'<li><a href="#{item.id}">{escaped(item.title)}</a></li>' for item in page.sections)
    body = "\n".join(_section(section) for section in page.sections)
    title = escaped(" ".join([*(f"[{flag}]" for flag in page.flags), page.title]))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escaped(POLICY)}">\n'
        f"<title>{title}</title>\n<style>{CSS}</style>\n</head>\n<body>\n"
        f'<header>\n<p>{flags}</p>\n<h1>{escaped(page.title)}</h1>\n<nav aria-label="Contents">\n<ul>\n'
        f"{contents}\n</ul>\n</nav>\n</header>\n<main>\n{body}\n</main>\n"
        "<footer><p>Written by medseg from run folders alone; a click on the head of a column sorts its table.</p>"
        f"</footer>\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


def _section(section: Section) -> str:
    names = (f"{section.id}-t{number}" for number in count(1))
    inner = "\n".join(_block(block, names) for block in section.blocks)
    return (
        f'<section aria-labelledby="{section.id}">\n<h2 id="{section.id}">{escaped(section.title)}</h2>\n{inner}\n'
        "</section>"
    )


@singledispatch
def _block(block: Block, names: Iterator[str]) -> str:
    raise AssertionError(f"{type(block).__name__} is no block of a page")


@_block.register
def _paragraph(block: Paragraph, names: Iterator[str]) -> str:
    kind = ' class="strong"' if block.strong else ""
    return f"<p{kind}>{escaped(block.text)}</p>"


@_block.register
def _bullets(block: Bullets, names: Iterator[str]) -> str:
    return "<ul>\n" + "\n".join(f"<li>{escaped(line)}</li>" for line in block.lines) + "\n</ul>" if block.lines else ""


@_block.register
def _facts(block: Facts, names: Iterator[str]) -> str:
    pairs = "\n".join(f"<dt>{escaped(name)}</dt><dd>{escaped(value)}</dd>" for name, value in block.pairs)
    return f"<dl>\n{pairs}\n</dl>"


@_block.register
def _links(block: Links, names: Iterator[str]) -> str:
    return "<ul>\n" + "\n".join(f"<li>{linked(link.text, link.address)}</li>" for link in block.links) + "\n</ul>"


@_block.register
def _table(block: TableBlock, names: Iterator[str]) -> str:
    return table_html(block, next(names))


@_block.register
def _figure(block: Figure, names: Iterator[str]) -> str:
    caption = f"<figcaption>{escaped(block.caption)}</figcaption>" if block.caption else ""
    width = f' style="max-width:{block.width}px"' if block.width else ""
    assert re.fullmatch(r"image/(png|jpeg|svg\+xml)", block.media), f"{block.media} is no picture"
    return (
        f'<figure{width}>\n<div class="board" role="group" tabindex="0" aria-label="picture">'
        f'<img src="{data_uri(block.content, block.media)}" alt="{escaped(block.alt)}"></div>\n{caption}\n</figure>'
    )


@_block.register
def _details(block: Details, names: Iterator[str]) -> str:
    inner = "\n".join(_block(inside, names) for inside in block.blocks)
    return f"<details>\n<summary>{escaped(block.summary)}</summary>\n{inner}\n</details>"
