"""What a page consists of: sections of blocks, each of them plain data; all text is escaped when it is written."""

import re
from dataclasses import dataclass

from medseg.report.tables import Table


@dataclass(frozen=True)
class Paragraph:
    """A paragraph; ``strong`` ones state what must not be overlooked."""

    text: str
    strong: bool = False


@dataclass(frozen=True)
class Bullets:
    """A list of sentences."""

    lines: tuple[str, ...]


@dataclass(frozen=True)
class Facts:
    """Pairs of what and which, for instance a name and a digest."""

    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Link:
    """A file beside the page, or an address; only such as can do no harm become links."""

    text: str
    address: str


@dataclass(frozen=True)
class Links:
    """A list of links."""

    links: tuple[Link, ...]


@dataclass(frozen=True)
class TableBlock:
    """A table; its rows can be sorted by any column.

    Attributes:
        table: the table.
        muted: numbers of the rows that are greyed, for instance what cannot be compared; their text says why.
        marked: numbers of the rows that are ours among others.
    """

    table: Table
    muted: frozenset[int] = frozenset()
    marked: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Figure:
    """A picture inside the page.

    Attributes:
        content: bytes of the file.
        media: its type, for instance ``image/svg+xml``.
        alt: what it shows, in words and numbers.
        caption: below it.
        width: in pixels at which it is shown at most; 0 for the width of the page.
    """

    content: bytes
    media: str
    alt: str
    caption: str = ""
    width: int = 0


@dataclass(frozen=True)
class Details:
    """Blocks that are folded away under a line."""

    summary: str
    blocks: tuple["Block", ...]


Block = Paragraph | Bullets | Facts | Links | TableBlock | Figure | Details


@dataclass(frozen=True)
class Section:
    """A part of a page that the list of contents leads to.

    Attributes:
        id: anchor; letters, digits and hyphens.
        title: heading.
        blocks: from top to bottom.
    """

    id: str
    title: str
    blocks: tuple[Block, ...]

    def __post_init__(self) -> None:
        assert re.fullmatch(r"[a-z][a-z0-9-]*", self.id), f"section id '{self.id}' is no anchor"


@dataclass(frozen=True)
class Page:
    """A page.

    Attributes:
        title: heading.
        flags: what nobody may overlook, for instance ``("SYNTHETIC", "LEAKY SPLIT")``.
        sections: with different ids.
    """

    title: str
    flags: tuple[str, ...]
    sections: tuple[Section, ...]

    def __post_init__(self) -> None:
        ids = [section.id for section in self.sections]
        assert len(set(ids)) == len(ids), f"page '{self.title}': section ids {ids} are not unique"
