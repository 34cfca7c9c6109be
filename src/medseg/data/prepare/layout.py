"""Writes a dataset in medseg's layout: images, masks, manifest, provenance and checksums, all or nothing."""

import datetime as dt
import json
import os
import shutil
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from filelock import FileLock, Timeout

from medseg import __version__
from medseg.data.prepare import copies
from medseg.data.prepare import masks as pictures
from medseg.data.prepare.manifest import check_case, file_stem, manifest_text
from medseg.data.prepare.progress import Progress
from medseg.errors import DataError

_LOCK = ".lock"


class Layout:
    """A dataset that is being written; used as ``with Layout(...) as layout``, so that a failure leaves nothing.

    Everything goes into TARGET.part, which becomes TARGET in one step at the end. After a kill only TARGET.part is
    left; the next start clears it.

    Attributes:
        target: the folder to be.
        name: the dataset's name.
        part: the folder that is written to until then.

    Raises:
        DataError: the target exists or another process is writing it.
    """

    def __init__(self, target: Path, name: str) -> None:
        self.target = target.expanduser().absolute()
        self.name = name
        self.part = self.target.with_name(f"{self.target.name}.part")
        self._rows: list[dict[str, str]] = []
        self._ids: set[str] = set()
        self._stems: dict[str, str] = {}
        self._sums: dict[str, str] = {}
        self._notes: list[str] = []
        self._left_out: dict[str, str] = {}
        with _writing(self.part):
            self._lock = self._start()
        self._progress = Progress(f"prepare {name}", unit="cases")

    def _start(self) -> FileLock:
        if os.path.lexists(self.target):
            raise DataError(
                f"{self.target} exists; remove or rename it, or name another folder with --target. It is not touched."
            )
        self.part.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.part / _LOCK, timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise DataError(f"{self.part}: another process is preparing this folder; wait until it ends.") from None
        for item in self.part.iterdir():
            if item.name != _LOCK:
                shutil.rmtree(item) if item.is_dir() and not item.is_symlink() else item.unlink()
        for folder in ("images", "masks"):
            (self.part / folder).mkdir()
        return lock

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.discard()

    def discard(self) -> None:
        """Remove what was written; nothing happens after :meth:`finish`."""
        self._progress.stop()
        if self._lock.is_locked:
            shutil.rmtree(self.part, ignore_errors=True)
            self._lock.release()

    @property
    def scratch(self) -> Path:
        """A folder that is cleared at the end and after a kill, for what is unpacked."""
        return self.part / ".unpacked"

    def expect(self, cases: int) -> None:
        """State how many cases will come, for the progress bar."""
        self._progress.expect(cases)

    def note(self, text: str) -> None:
        """Keep a sentence for ``provenance.json``; the same one only once."""
        if text not in self._notes:
            self._notes.append(text)

    def leave_out(self, identifier: str, reason: str) -> None:
        """Record that something of the source was left out and why; it is counted, printed and kept."""
        self._left_out[identifier] = reason

    @property
    def notes(self) -> list[str]:
        """What was noted."""
        return list(self._notes)

    @property
    def left_out(self) -> dict[str, str]:
        """What was left out, and why."""
        return dict(self._left_out)

    def add(
        self,
        *,
        id: str,  # noqa: A002 - the manifest's column
        images: Sequence[Path | np.ndarray | None],
        masks: Sequence[Path | np.ndarray],
        group: str,
        fold: str | int = "",
        domain: str = "",
        affine: np.ndarray | None = None,
        **attributes: Any,
    ) -> None:
        """Store one case.

        Files are copied byte for byte where medseg reads them as they are; masks that are pictures become grey PNG
        with the same values. Arrays become PNG (2D) or NIfTI (3D, with ``affine``).

        Args:
            id: unique within the dataset.
            images: one file, DICOM series folder or array a modality, in the order of the channels; None where this
                modality is missing.
            masks: reference masks; label values as they are, truth values as 0 and 255 (2D) or 1 (3D).
            group: the patient; no split cuts it.
            fold: given by the publisher, "" where there is none.
            domain: scanner, site or dataset.
            affine: of (D, H, W) arrays: 4 x 4, index (x, y, z) = (W, H, D) to millimetres in RAS+.
            attributes: further columns of the manifest, None is stored empty.

        Raises:
            DataError: id, group or a column's name cannot be used, a file is unreadable, or sizes differ.
        """
        check_case(id, group=group, images=images, masks=masks, columns=attributes)
        if id in self._ids:
            raise DataError(f"case id '{id}' occurs more than once in the source; ids must be unique.")
        name = file_stem(id)
        with _writing(self.part, id):
            stored = [self._image(item, name, number, len(images), affine) for number, item in enumerate(images)]
            outlines = [self._mask(item, name, number, len(masks), affine) for number, item in enumerate(masks)]
        _same_size(id, [entry for entry in (*stored, *outlines) if entry is not None])
        files, labels = [entry and entry[0] for entry in stored], [entry[0] for entry in outlines]
        row = {"id": id, "group": str(group).strip(), "fold": str(fold), "domain": domain}
        row |= {key: "" if value is None else str(value).strip() for key, value in attributes.items()}
        row |= {"image": self._names(files), "mask": self._names(labels)}
        row |= {"sha256_image": self._hashes(files), "sha256_mask": self._hashes(labels)}
        self._rows.append(row)
        self._ids.add(id)
        self._progress.advance(1)

    def _claim(self, stem: str, owner: str) -> None:
        key = unicodedata.normalize("NFC", stem).casefold()
        if self._stems.setdefault(key, owner) != owner:
            raise DataError(
                f"cases '{self._stems[key]}' and '{owner}' would share the file '{stem}'; make their ids differ more."
            )

    def _image(
        self, item: Path | np.ndarray | None, name: str, number: int, count: int, affine: np.ndarray | None
    ) -> copies.Stored | None:
        if item is None:
            return None
        stem = self.part / "images" / (name if count == 1 else f"{name}_{number:04d}")
        self._claim(f"images/{stem.name}", name)
        if isinstance(item, np.ndarray):
            return copies.store_array(item, stem, affine=affine)
        return copies.store_file(Path(item), stem)

    def _mask(
        self, item: Path | np.ndarray, name: str, number: int, count: int, affine: np.ndarray | None
    ) -> copies.Stored:
        stem = self.part / "masks" / (name if count == 1 else f"{name}_{number}")
        self._claim(f"masks/{stem.name}", name)
        if isinstance(item, np.ndarray):
            return copies.store_mask_array(item, stem, affine=affine)
        if copies.is_volume_file(Path(item)):
            return copies.store_file(Path(item), stem)
        target, size, thresholded = copies.store_mask_picture(Path(item), stem)
        if thresholded:
            self.note(f"JPEG masks were thresholded at {pictures.THRESHOLD} and stored as 0 and 255.")
        return target, size

    def _names(self, files: Sequence[Path | None]) -> str:
        return ";".join(path.relative_to(self.part).as_posix() if path else "" for path in files)

    def _hashes(self, files: Sequence[Path | None]) -> str:
        hashes = []
        for path in files:
            hashes.append(copies.sha256_of(path) if path else "")
            if path and path.is_dir():
                for item in copies.files_below(path):
                    self._sums[item.relative_to(self.part).as_posix()] = copies.sha256_of(item)
            elif path:
                self._sums[path.relative_to(self.part).as_posix()] = hashes[-1]
        return ";".join(hashes)

    @property
    def counts(self) -> dict[str, int]:
        """Numbers of cases, patients and things left out so far."""
        patients = len({row["group"] for row in self._rows})
        return {"cases": len(self._rows), "patients": patients, "left_out": len(self._left_out)}

    def finish(self, provenance: Mapping[str, Any]) -> Path:
        """Write manifest, provenance and checksums, and give the folder its name.

        Args:
            provenance: what the caller knows, for instance ``sources`` and ``options``; added to ``dataset``,
                ``medseg``, ``date``, ``counts``, ``notes`` and ``left_out``.

        Returns:
            the finished folder.

        Raises:
            DataError: no case was added, or the target came into being meanwhile.
        """
        if not self._rows:
            raise DataError(f"{self.name}: no case was found in the source; compare its folders with the steps given.")
        self._progress.stop()
        with _writing(self.part):
            return self._complete(provenance)

    def _complete(self, provenance: Mapping[str, Any]) -> Path:
        self._write("manifest.csv", manifest_text(self._rows))
        record = {
            "dataset": self.name,
            "medseg": __version__,
            "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            **provenance,
            "counts": self.counts,
            "notes": self._notes,
            "left_out": self._left_out,
        }
        self._write("provenance.json", json.dumps(record, indent=1, ensure_ascii=False, default=str) + "\n")
        self._write("SHA256SUMS", "".join(f"{value}  {name}\n" for name, value in sorted(self._sums.items())))
        if os.path.lexists(self.target):
            raise DataError(f"{self.target} came into being meanwhile; nothing was written there.")
        shutil.rmtree(self.scratch, ignore_errors=True)
        (self.part / _LOCK).unlink(missing_ok=True)
        self.part.rename(self.target)
        self._lock.release()
        return self.target

    def _write(self, name: str, text: str) -> None:
        path = self.part / name
        with path.open("w", encoding="utf-8", newline="") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        if name != "SHA256SUMS":
            self._sums[name] = copies.sha256_of(path)


@contextmanager
def _writing(place: Path, identifier: str = "") -> Iterator[None]:
    """Turn what the file system refuses into one line."""
    try:
        yield
    except OSError as error:
        named = f"case '{identifier}': " if identifier else ""
        raise DataError(f"{named}{place} cannot be written ({error}); free space or choose another --target.") from None


def _same_size(identifier: str, stored: Sequence[copies.Stored]) -> None:
    """Refuse pictures of one case whose sizes differ; volumes are compared where their headers are read."""
    sizes = {path.parent.name: size for path, size in reversed(stored) if size}
    if len({size for _, size in stored if size}) > 1:
        shown = ", ".join(f"{folder} {size[0]}x{size[1]}" for folder, size in sorted(sizes.items()))
        raise DataError(
            f"case '{identifier}': its files differ in size ({shown}, rows x columns); export image and mask at one "
            "size, or leave the case out."
        )
