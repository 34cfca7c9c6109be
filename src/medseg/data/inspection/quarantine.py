"""Cases with an error set aside: a list of them, and a manifest without them that training can use."""

import csv
import os
from collections.abc import Sequence
from pathlib import Path

from medseg.data.cases import Case
from medseg.data.inspection.findings import Finding
from medseg.data.inspection.survey import Survey

_OWN = ("id", "image", "mask", "group", "fold", "domain")


def write_quarantine(path: Path, found: Survey) -> int:
    """Write one row for each case with an error, id, patient, number of errors and the first of them; return how many.

    Images and masks stay where they are.
    """
    errors: dict[str, list[Finding]] = {}
    for finding in found.findings:
        if finding.severity == "error" and finding.case:
            errors.setdefault(finding.case, []).append(finding)
    patients = {case.id: case.patient for case in found.cases}
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["id", "group", "errors", "kind", "file", "what", "remedy"])
        for identifier, listed in sorted(errors.items()):
            first = listed[0]
            writer.writerow(
                [identifier, patients[identifier], len(listed), first.kind, first.file, first.what, first.remedy]
            )
    return len(errors)


def write_manifest(path: Path, cases: Sequence[Case], *, root: Path) -> None:
    """Write a manifest of these cases in medseg's layout, files relative to ``root`` where they lie in it.

    Reading it back with ``read_manifest(root, manifest=path)`` gives the same cases.
    """
    extra = list(dict.fromkeys(name for case in cases for name in case.attributes))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow([*_OWN, *extra])
        for case in cases:
            files = [";".join("" if part is None else _place(part, root) for part in case.images)]
            files.append(";".join(_place(part, root) for part in case.masks))
            own = [case.id, *files, case.patient, case.fold, case.domain]
            writer.writerow([*own, *(case.attributes.get(name, "") for name in extra)])


def _place(path: Path, root: Path) -> str:
    whole, base = Path(os.path.abspath(path)), Path(os.path.abspath(root))  # noqa: PTH100  # links are not followed
    return whole.relative_to(base).as_posix() if whole.is_relative_to(base) else whole.as_posix()
