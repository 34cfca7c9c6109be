"""A case: which files belong together and whose patient they are. No pixels."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from medseg.errors import DataError


@dataclass(frozen=True)
class Case:
    """One image with its reference mask.

    Attributes:
        id: unique name within the dataset.
        patient: the group that a split must never cut; the patient where known.
        images: image files (or DICOM series folders), one per channel group; None where this modality is missing.
        masks: reference mask files, empty where there is none; the foreground of several is united.
        domain: scanner, site or dataset the case comes from.
        fold: fold given by the publisher of the data, "" where there is none.
        attributes: any other columns of the manifest.
        twin: seed of the rigid and noise transform that makes this case out of the files; None is the original.
    """

    id: str
    patient: str
    images: tuple[Path | None, ...]
    masks: tuple[Path, ...] = ()
    domain: str = ""
    fold: str = ""
    attributes: dict[str, str] = field(default_factory=dict, hash=False)
    twin: int | None = None

    @property
    def files(self) -> list[Path]:
        """Every file of the case that is there by its record: images without the missing ones, then masks."""
        return [*(path for path in self.images if path is not None), *self.masks]


def by_id(cases: Sequence[Case]) -> dict[str, Case]:
    """Return the cases under their ids, in order of the ids.

    Raises:
        DataError: two cases share an id.
    """
    found = {case.id: case for case in sorted(cases, key=lambda case: case.id)}
    if len(found) == len(cases):
        return found
    ids = [case.id for case in cases]
    twice = min(identifier for identifier in ids if ids.count(identifier) > 1)
    raise DataError(f"case id '{twice}' occurs more than once; give every row of the manifest an id of its own.")


def annotated_classes(case: Case, *, classes: Sequence[str]) -> tuple[bool, ...]:
    """Return which of the K classes were annotated in a case; the background counts as one that was.

    The manifest column ``annotated`` names the foreground classes, separated by ``;``; where it is empty or absent all
    were. In the mask of a case that annotates some only, background means "none of these".

    Args:
        case: with the column among its attributes, or without it.
        classes: K names, background first.

    Raises:
        DataError: the column names another class, or none.
    """
    text = case.attributes.get("annotated", "").strip()
    if not text:
        return (True,) * len(classes)
    foreground = classes[1:]
    named = {part.strip() for part in text.split(";")} - {""}
    unknown = sorted(named.difference(foreground))
    if named and not unknown:
        return (True, *(name in named for name in foreground))
    fault = f"names '{unknown[0]}', which is no foreground class" if unknown else "names no class"
    raise DataError(
        f"case '{case.id}': annotated '{text}' {fault}; name some of {', '.join(foreground)} separated by ';' in this "
        "manifest column, or nothing where all are annotated."
    )


def spacing_of(case: Case, *, unit: str) -> tuple[float, float]:
    """Return the (row, column) size of a native pixel in ``unit``.

    In ``px`` this is (1, 1) whatever the manifest says. In any other unit the manifest column ``spacing`` must hold
    it as ``ROWxCOLUMN``, for instance ``0.1x0.08``.

    Raises:
        DataError: the unit is physical and the column is absent or malformed.
    """
    if unit == "px":
        return (1.0, 1.0)
    text = case.attributes.get("spacing", "")
    try:
        row, column = (float(part) for part in text.split("x"))
    except ValueError:
        row = column = 0.0
    if row > 0 and column > 0:
        return (row, column)
    raise DataError(
        f"case '{case.id}': spacing '{text}' is not ROWxCOLUMN in {unit}; fill the manifest column 'spacing' or set "
        "data.card.unit=px."
    )
