"""The rows of a manifest.csv that is being written: what they must hold, the names of their files, their text."""

import csv
import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

from medseg.errors import DataError

OWN_COLUMNS = ("id", "image", "mask", "group", "fold", "domain", "sha256_image", "sha256_mask")
LONGEST_STEM = 200
"""Longest stem of a file in bytes; file systems end at 255 and suffixes need room."""


def check_case(
    identifier: str, *, group: str, images: Sequence[Any], masks: Sequence[Any], columns: Mapping[str, Any]
) -> None:
    """Refuse what the checks of a dataset would refuse later.

    Raises:
        DataError: the id cannot name a file, there is no patient, no image or no mask, or a column is the layout's.
    """
    if not isinstance(identifier, str) or not identifier or identifier != identifier.strip():
        raise DataError(f"case id {identifier!r} is empty or begins or ends with a blank; give it a plain name.")
    if identifier.startswith(".") or any(mark in identifier for mark in "/\\\0\n\r"):
        raise DataError(f"case id {identifier!r} cannot name a file; use letters, digits, '-', '_' and '.'.")
    if not str(group).strip():
        raise DataError(f"case '{identifier}' has no group (patient); without one splits can leak, so name it.")
    if all(item is None for item in images):
        raise DataError(f"case '{identifier}' has no image; leave it out.")
    if not masks:
        raise DataError(f"case '{identifier}' has no mask; leave it out, or give an empty one if nothing is there.")
    taken = [name for name in columns if name in OWN_COLUMNS or not name.isidentifier()]
    if taken:
        raise DataError(f"case '{identifier}': column '{taken[0]}' is the layout's own or no plain name; rename it.")


def file_stem(identifier: str) -> str:
    """Return the stem of a case's files: its id, or a shortened and cleaned one with a hash.

    ``;`` separates files in the manifest, and some file systems refuse ``<>:"|?*``, control signs and long names.
    """
    stem = re.sub(r'[;<>:"|?*\x00-\x1f]', "_", identifier)
    encoded = stem.encode("utf-8", "replace")
    if stem == identifier and len(encoded) <= LONGEST_STEM:
        return stem
    mark = hashlib.sha256(identifier.encode("utf-8", "replace")).hexdigest()[:12]
    return f"{encoded[: LONGEST_STEM - 13].decode('utf-8', 'ignore')}-{mark}"


def manifest_text(rows: Sequence[Mapping[str, str]]) -> str:
    """Return the CSV: the layout's columns, ``fold`` and ``domain`` where a row has one, then all further columns."""
    optional = [name for name in ("fold", "domain") if any(row[name] for row in rows)]
    further = dict.fromkeys(name for row in rows for name in row if name not in OWN_COLUMNS)
    columns = ["id", "image", "mask", "group", *optional, *further, "sha256_image", "sha256_mask"]
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, columns, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()
