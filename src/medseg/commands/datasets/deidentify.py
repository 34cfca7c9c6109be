"""``medseg data deidentify``: a folder of pictures and DICOM files without what could name a patient."""

import argparse
import csv
import os
import secrets
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from medseg.commands.show import show_table
from medseg.data.deidentify import Outcome, Pseudonyms, deidentify_dicom, deidentify_picture
from medseg.errors import ConfigError, DataError

PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"}
SALT = "MEDSEG_SALT"


def main(arguments: Sequence[str]) -> None:
    """Run ``medseg data deidentify --source DIR --target DIR``."""
    options = _parser().parse_args(list(arguments))
    deidentify(
        options.source,
        options.target,
        keep_sector_only=options.keep_sector_only,
        quarantine=options.quarantine,
        dates=options.dates,
        mapping=options.mapping,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="medseg data deidentify",
        description=f"Names are replaced by a keyed hash: set {SALT} to a long secret to get the same names again.",
    )
    parser.add_argument("--source", type=Path, required=True, help="folder of pictures and DICOM files")
    parser.add_argument("--target", type=Path, required=True, help="new or empty folder for the result and report.csv")
    parser.add_argument("--keep-sector-only", action="store_true", help="crop pictures to the scan's bounding box")
    parser.add_argument(
        "--quarantine", type=Path, help="folder for the ORIGINALS that were refused, for a person to see"
    )
    parser.add_argument("--dates", choices=("remove", "shift"), default="remove", help="DICOM dates; shift: by patient")
    parser.add_argument("--mapping", type=Path, help="CSV of original and new names: identifies patients, keep it safe")
    return parser


def deidentify(
    source: Path,
    target: Path,
    *,
    keep_sector_only: bool = False,
    quarantine: Path | None = None,
    dates: str = "remove",
    mapping: Path | None = None,
) -> Path:
    """Write what can be de-identified without a doubt below ``target`` and return its ``report.csv``.

    Args:
        source: folder, searched through.
        target: new or empty folder outside the source.
        keep_sector_only: crop pictures (not DICOM) to the scan.
        quarantine: where originals of refused files are copied; None only lists them.
        dates: ``remove`` or ``shift``.
        mapping: file for original and new names; None writes none.

    Raises:
        DataError: the source is empty, or files were refused and there is no quarantine.
        ConfigError: folders overlap, or the target is in use.
    """
    _check_folders(source, target, quarantine, mapping)
    salt = os.environ.get(SALT, "").encode() or secrets.token_bytes(32)
    names = Pseudonyms(salt)
    target.mkdir(parents=True, exist_ok=True)
    rows: list[tuple[Path, Outcome]] = []
    for path in sorted(path for path in source.rglob("*") if path.is_file()):
        outcome = _one(path, target, names, dates=dates, crop=keep_sector_only)
        if outcome.flags and quarantine is not None:
            quarantine.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, quarantine / f"{names.name('refused', str(path))}{_suffix(path)}")
        rows.append((path, outcome))
    report = _write_report(target / "report.csv", rows, names)
    if mapping is not None:
        _write_mapping(mapping, rows, source)
    _show(rows, report)
    refused = sum(bool(outcome.flags) for _, outcome in rows)
    if refused and quarantine is None:
        raise DataError(
            f"{target}: {refused} of {len(rows)} files were refused and are not there, see report.csv; look at them "
            "with --quarantine DIR, or take them out of the source."
        )
    return report


def _check_folders(source: Path, target: Path, quarantine: Path | None, mapping: Path | None) -> None:
    if not source.is_dir() or not any(path.is_file() for path in source.rglob("*")):
        raise DataError(f"{source}: no files there; give the folder of pictures or DICOM files as --source.")
    here = source.resolve()
    for name, other in (("--target", target), ("--quarantine", quarantine), ("--mapping", mapping)):
        if other is not None and (other.resolve() == here or here in other.resolve().parents):
            raise ConfigError(f"{name} {other} lies within the source; name a place outside.")
    if target.exists() and any(target.iterdir()):
        raise ConfigError(f"--target {target} is not empty; name a new folder, so that old files cannot be mixed in.")
    for name, other in (("--quarantine", quarantine), ("--mapping", mapping)):
        if other is not None and target.resolve() in (other.resolve(), *other.resolve().parents):
            raise ConfigError(f"{name} {other} would put identities into the target; name a place outside.")


def _suffix(path: Path) -> str:
    return path.suffix.lower() if path.suffix.lower() in {*PICTURES, ".dcm"} else ""


def _one(path: Path, target: Path, names: Pseudonyms, *, dates: str, crop: bool) -> Outcome:
    if path.suffix.lower() in PICTURES:
        return deidentify_picture(path, target, names=names, crop=crop)
    with path.open("rb") as stream:
        head = stream.read(132)
    if head[128:132] == b"DICM":
        return deidentify_dicom(path, target, names=names, dates=dates)
    return Outcome("", "none", ("neither a picture nor a DICOM file",))


def _write_report(path: Path, rows: Sequence[tuple[Path, Outcome]], names: Pseudonyms) -> Path:
    """Write one row a file; a refused file is named by a hash, because file names carry identities."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["file", "written", "patient", "actions", "flags"])
        for source, outcome in rows:
            name = outcome.name or f"{names.name('refused', str(source))}{_suffix(source)}"
            written = "no" if outcome.flags else "yes"
            writer.writerow([name, written, outcome.patient, outcome.actions, "; ".join(outcome.flags)])
    return path


def _write_mapping(path: Path, rows: Sequence[tuple[Path, Outcome]], source: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["original", "file"])
        writer.writerows([str(original.relative_to(source)), outcome.name] for original, outcome in rows)


def _show(rows: Sequence[tuple[Path, Outcome]], report: Path) -> None:
    flags = Counter(flag for _, outcome in rows for flag in outcome.flags)
    written = sum(not outcome.flags for _, outcome in rows)
    table = [["written", str(written)], ["refused", str(len(rows) - written)]]
    table += [[f"  {flag}", str(count)] for flag, count in flags.most_common()]
    show_table(f"de-identified: {report.parent}", ["files", "count"], table)
    print("Look at the pictures before they leave: no program can promise that nothing is left.")
