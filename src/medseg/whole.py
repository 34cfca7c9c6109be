"""Files that are whole or not there: written beside their place and moved into it at the end."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path | str, *, durable: bool = True) -> Iterator[Path]:
    """Give a path to write to, with the ending of the wanted one; at the end the file takes its place.

    A kill or an error leaves what was there before. Folders above are made. Two writers never share a path, and the
    later one wins.

    Args:
        path: the file that is wanted.
        durable: whether the content must be on the disk before the file is moved, which takes some milliseconds; not
            for what can be made anew.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.{os.getpid()}-{threading.get_ident()}.partial{path.suffix}")
    try:
        yield partial
        if durable:
            with partial.open("rb") as file:
                os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_whole(path: Path | str, text: str) -> None:
    """Write a text as UTF-8 with plain line ends, whole or not at all."""
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")
