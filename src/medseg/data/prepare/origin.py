"""Where a prepared dataset came from: names, sizes and hashes of what was given as its source."""

import hashlib
from pathlib import Path
from typing import Any

from medseg.data.prepare.archives import is_archive
from medseg.data.prepare.copies import files_below, sha256_of


def origin_of(source: Path) -> list[dict[str, Any]]:
    """Return name, bytes and sha256 of a source file; of a folder, those of its archives and of its list of files.

    The files that were used have hashes of their own in the manifest, so a folder is not read a second time.
    """
    if source.is_file():
        return [_file(source)]
    listing = [(path.relative_to(source).as_posix(), path.stat().st_size) for path in files_below(source)]
    text = "".join(f"{size}  {name}\n" for name, size in listing)
    parts = [_file(path) for path in sorted(source.iterdir()) if is_archive(path)]
    return [
        *parts,
        {
            "name": source.resolve().name,
            "files": len(listing),
            "bytes": sum(size for _, size in listing),
            "sha256_of_names_and_sizes": hashlib.sha256(text.encode("utf-8", "replace")).hexdigest(),
        },
    ]


def _file(path: Path) -> dict[str, Any]:
    return {"name": path.name, "bytes": path.stat().st_size, "sha256": sha256_of(path)}
