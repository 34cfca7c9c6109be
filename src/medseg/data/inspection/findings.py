"""What an inspection has to say: findings, each naming its case, its file and the way out."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

SEVERITIES = ("error", "warning", "note")
"""An error is what training refuses or must not use; a warning is often a fault; a note is worth knowing."""

KINDS: dict[str, tuple[str, str]] = {
    # The list of cases.
    "duplicate-id": ("error", "give every row of the manifest an id of its own"),
    "unsafe-id": ("error", "use letters, digits, '-', '_' and '.' in ids"),
    "no-group": ("error", "fill the manifest column 'group' with the patient, or splits can leak"),
    "folds-cut-group": ("error", "put all cases of a patient into one fold of the manifest"),
    "same-name-other-group": ("note", "make sure that equal file names of two patients are no copies"),
    "unused-file": ("warning", "add a row to the manifest, or the missing image, or delete the file"),
    # Files as such.
    "missing-file": ("error", "restore the file or take its row out of the manifest"),
    "empty-file": ("error", "copy the file again from its source; it has 0 bytes"),
    "unreadable": ("error", "copy the file again from its source"),
    "damaged": ("error", "copy the file again from its source; its own checksum or end mark disagrees"),
    "checksum": ("error", "copy the file again from its source, or correct the recorded SHA-256 if you changed it"),
    "trailing-bytes": ("warning", "something was appended to the file; export it again if you do not know what"),
    "unprotected": ("note", "write SHA256SUMS into the folder once (sha256sum images/* masks/* > SHA256SUMS)"),
    "wrong-suffix": ("note", "rename the file after its content"),
    # Pixels of an image.
    "no-image": ("error", "name an image file in the manifest"),
    "missing-modality": ("note", "decide in the config what a missing modality means: drop, zero or dropout"),
    "channel-count": ("error", "set data.card.in_channels to the number of channels, one file a modality"),
    "wrong-dimension": ("error", "set data.card.spatial_dims to what the files hold, 2 or 3"),
    "several-frames": ("error", "export one file per frame"),
    "float-picture": ("error", "export 8 or 16 bit; floating point has no known range"),
    "wide-integers": ("error", "export 8 or 16 bit"),
    "few-levels": ("warning", "rescale the export; a 16-bit image that uses a corner of its range becomes dark"),
    "alpha": ("warning", "transparency is dropped when read; flatten the export"),
    "palette-image": ("note", "colours are looked up in the palette; export grey or RGB to be sure"),
    "colour-image": ("note", "colours become grey (ITU-R 601); set data.card.in_channels=3 to keep them"),
    "exif-rotation": ("warning", "the turn noted in the file is not applied; store the image as it should be seen"),
    "not-finite": ("error", "replace NaN and infinite values in the export"),
    "constant": ("warning", "an image of one value shows nothing; export it again or take the case out"),
    "intensity-outlier": ("warning", "normalise per image, or export the case in the units of the others"),
    "dtype": ("note", "export all cases with one type of number"),
    # One grid for all files of a case, comparable grids in the dataset.
    "size-mismatch": ("error", "export all files of a case at one size"),
    "grid-mismatch": ("error", "resample all files of a case to one grid: same spacing, origin and axes"),
    "grid-shift": (
        "warning",
        "copy the image's affine into the header; the grids differ by a twentieth of a voxel at most",
    ),
    "spacing-unknown": ("error", "fill the manifest column 'spacing' as ROWxCOLUMN, or set data.card.unit=px"),
    "spacing-outlier": ("warning", "check the spacing of this case, or resample by data.preprocess.spacing"),
    "spacing-doubtful": ("warning", "restore the spacing from the source; distances in mm are wrong without it"),
    "orientation": ("note", "nothing to do: volumes are turned to RAS when read and turned back when written"),
    # Masks.
    "no-mask": ("error", "add a mask or take the case out of the manifest"),
    "jpeg-mask": ("warning", "edges are smeared: values above data.threshold count as the larger one; use PNG"),
    "jpeg-mask-classes": ("error", "a JPEG holds two classes at most; use PNG masks"),
    "palette-mask": ("note", "read by palette index, not by colour"),
    "colour-mask": ("error", "store one class value per pixel"),
    "undeclared-values": ("error", "repair the mask or declare the value in data.labels (file value: class index)"),
    "empty-mask": ("warning", "fine for a healthy case; else the outline is missing"),
    "full-mask": ("warning", "every pixel is foreground; check the mask"),
    # Copies.
    "same-image": ("warning", "take one of the two cases out"),
    "same-image-other-group": ("error", "give both cases one group, or take one out: a split could leak"),
    "same-channels": ("warning", "two channels of the case are one image; check the manifest"),
    "same-mask": ("warning", "two different images share one outline; check which of them it belongs to"),
    # The dataset as a whole.
    "no-cases": ("error", "check data.source.root and the manifest's rows"),
    "label-values": ("note", "data.labels fits"),
}
"""Kind of finding to its severity and remedy."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong or worth knowing.

    Attributes:
        severity: ``error``, ``warning`` or ``note``.
        kind: a key of ``KINDS``.
        case: its id, "" for the dataset as a whole.
        file: its path, "" where no file is at fault.
        what: what was found, with figures.
        remedy: the way out.
    """

    severity: str
    kind: str
    case: str
    file: str
    what: str
    remedy: str


@dataclass
class Collector:
    """Findings of one case (or of the dataset, under ""), gathered while it is read."""

    case: str
    found: list[Finding] = field(default_factory=list)
    unprotected: int = 0
    """Files in which a flipped bit would not be seen."""

    def add(self, kind: str, what: str, *, file: Path | None = None, remedy: str = "") -> None:
        """Note a finding; severity and, unless given, remedy follow from its kind."""
        severity, usual = KINDS[kind]
        name = "" if file is None else str(file)
        self.found.append(Finding(severity, kind, self.case, name, " ".join(what.split()), remedy or usual))

    @property
    def faulty(self) -> bool:
        """Whether an error is among the findings."""
        return any(finding.severity == "error" for finding in self.found)


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings from errors to notes, then by kind, case and file, each once."""
    rank = {severity: number for number, severity in enumerate(SEVERITIES)}
    return sorted(set(findings), key=lambda finding: (rank[finding.severity], finding.kind, finding.case, finding.file))


def faulty_cases(findings: Iterable[Finding]) -> list[str]:
    """Return the ids with at least one error, sorted."""
    return sorted({finding.case for finding in findings if finding.severity == "error" and finding.case})


def counted(findings: Iterable[Finding]) -> dict[str, int]:
    """Return the number of findings of each severity."""
    severities = [finding.severity for finding in findings]
    return {severity: severities.count(severity) for severity in SEVERITIES}


def summary_rows(findings: Sequence[Finding]) -> list[list[str]]:
    """Return one row a kind: severity, kind, number of findings, the first of them (case or file: what), remedy."""
    groups: dict[str, list[Finding]] = {}
    for finding in in_order(findings):
        groups.setdefault(finding.kind, []).append(finding)
    return [
        [first.severity, kind, str(len(group)), f"{first.case or 'dataset'}: {first.what}", first.remedy]
        for kind, group in groups.items()
        for first in group[:1]
    ]


def write_findings(path: Path, findings: Sequence[Finding]) -> None:
    """Write all findings as CSV, errors first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, [column.name for column in fields(Finding)])
        writer.writeheader()
        writer.writerows(asdict(finding) for finding in in_order(findings))
