"""A page as a parser sees it, with the checks that every page must pass, and pictures to put into one."""

from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from PIL import Image

VOID = {"meta", "img", "br", "hr", "input", "link"}


class Reader(HTMLParser):
    """Reads a page and notes what a browser would choke on, load or follow."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.faults: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.sources: list[str] = []
        self.alts: list[str] = []
        self.labelled: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append((tag, found))
        if tag not in VOID:
            self.open.append(tag)
        if "id" in found:
            self.ids.append(str(found["id"]))
        self.links += [str(found["href"])] if "href" in found else []
        self.sources += [str(found[name]) for name in ("src", "srcset", "data", "action") if name in found]
        self.alts += [str(found.get("alt") or "")] if tag == "img" else []
        self.labelled += [str(found["aria-labelledby"])] if "aria-labelledby" in found else []
        self.faults += [f"{tag} has the handler {name}" for name in found if name.startswith("on")]

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> closes something else")

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("script", "style"):
            self.text += data


def read(text: str) -> Reader:
    """Return what a parser sees, after the checks that every page must pass."""
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert reader.faults == []
    assert reader.open == []
    assert len(set(reader.ids)) == len(reader.ids)
    anchors = [link[1:] for link in reader.links if link.startswith("#")]
    assert set(anchors) <= set(reader.ids)
    assert set(reader.labelled) <= set(reader.ids)
    assert all(source.startswith("data:image/") for source in reader.sources)
    assert all(reader.alts)
    assert not [tag for tag, _ in reader.tags if tag in ("link", "iframe", "object", "embed", "base", "form")]
    styles = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in styles
    assert "@import" not in styles
    return reader


def noise(path: Path, width: int = 1500) -> Path:
    pixels = np.random.default_rng(0).integers(0, 255, (width // 2, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path
