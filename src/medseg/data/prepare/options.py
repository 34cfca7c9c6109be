"""What preparers of a user's own data are told as ``key=value``: patients, classes, mask values."""

import csv
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from medseg.errors import ConfigError, DataError


def names(text: str | Sequence[str] | None, *, option: str) -> list[str]:
    """Return the parts of ``a,b,c``.

    Raises:
        ConfigError: a part is empty or occurs twice.
    """
    parts = [] if text is None else text.split(",") if isinstance(text, str) else [str(part) for part in text]
    parts = [part.strip() for part in parts]
    if "" in parts or len(set(parts)) != len(parts):
        raise ConfigError(f"{option}={text}: give names that differ, separated by commas, for instance {option}=a,b.")
    return parts


def value_map(text: str | Mapping[int, int] | None, *, option: str = "values") -> dict[int, int] | None:
    """Return ``{0: 0, 255: 1}`` of ``0:0,255:1``.

    Raises:
        ConfigError: it is no such list, or a value lies beyond 0 to 255.
    """
    if text is None:
        return None
    if isinstance(text, Mapping):
        found = dict(text)
    else:
        try:
            pairs = [part.split(":") for part in str(text).split(",")]
            found = {int(value): int(label) for value, label in pairs}
        except ValueError:
            found = {}
    if not found or any(not 0 <= label <= 255 for label in found.values()):
        raise ConfigError(f"{option}={text}: write value:label pairs with labels 0 to 255, for instance 0:0,255:1.")
    return found


def class_values(classes: Sequence[str]) -> dict[str, int]:
    """Return the mask value of each class: 255 for a single one, else 1, 2, ... in order; 0 is background."""
    if len(classes) > 255:
        raise ConfigError(f"{len(classes)} classes; a mask file holds 255 besides the background.")
    return {name: 255 if len(classes) == 1 else number for number, name in enumerate(classes, start=1)}


def class_note(values: Mapping[str, int]) -> str:
    """Return the sentence that tells which value of the masks is which class, and how a config says so."""
    shown = ", ".join(f"{value} = {name}" for name, value in values.items())
    labels = ", ".join(f"{value}: {number}" for number, value in enumerate([0, *values.values()]))
    return f"Mask values: 0 = background, {shown}; in a config: labels: {{{labels}}}."


def patient_finder(
    *, patient: str | None, one_image_per_patient: bool, patients: str | Path | None = None
) -> Callable[[str], str]:
    """Return the function from a file stem to its patient; a split must never cut a patient, so one way is required.

    Args:
        patient: regular expression whose first (group) is the patient, searched in the stem: ``^(p[0-9]+)_``.
        one_image_per_patient: every image is a patient of its own.
        patients: CSV file with the columns ``image`` (stem or file name) and ``patient``.

    Raises:
        ConfigError: none or several of the three are given, or the expression or the table is not usable.
    """
    given = [patient is not None, bool(one_image_per_patient), patients is not None]
    if sum(given) != 1:
        raise ConfigError(
            "which images share a patient is unknown, and splits would leak; give exactly one of patient='^(REGEX)', "
            "patients=TABLE.csv (columns image,patient) or one_image_per_patient=true."
        )
    if one_image_per_patient:
        return lambda stem: stem
    if patient is not None:
        return _by_pattern(str(patient))
    return _by_table(Path(str(patients)))


def _by_pattern(pattern: str) -> Callable[[str], str]:
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"patient='{pattern}' is no regular expression ({error}).") from None
    if not expression.groups:
        raise ConfigError(f"patient='{pattern}' has no (group); put the part that names the patient in parentheses.")

    def find(stem: str) -> str:
        match = expression.search(stem)
        if match is None or not match.group(1):
            raise DataError(f"no patient found in '{stem}' by patient='{pattern}'; correct the expression.")
        return match.group(1)

    return find


def _by_table(path: Path) -> Callable[[str], str]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"patients={path}: the table cannot be read ({error}).") from None
    if not rows or not {"image", "patient"} <= set(rows[0]):
        raise ConfigError(f"patients={path}: the table needs the columns image and patient, and rows.")
    table = {(row["image"] or "").strip(): (row["patient"] or "").strip() for row in rows}
    table |= {Path(name).stem: patient for name, patient in table.items()}

    def find(stem: str) -> str:
        if not table.get(stem):
            raise DataError(f"{path}: no patient for image '{stem}'; add its row.")
        return table[stem]

    return find
