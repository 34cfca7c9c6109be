"""Identity out of DICOM files: tags by an allow-list after PS3.15 Annex E, pixels by a policy that fails closed.

Refused, with a reason and without output: what is no image (reports, documents, waveforms, presentation states),
compressions that cannot be decoded, burnt-in text where no ultrasound scan is found, screens of other machines, and
every doubt of ``steps.desensitise``. Compressed pixels are decoded and written plainly, because compressed streams
carry comments of their own. No program can promise that nothing is left: look at the pictures before they leave.
"""

import hashlib
import hmac
import warnings
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.data.deidentify_pixels import ULTRASOUND, cleaned_pixels, put_pixels
from medseg.data.deidentify_tags import ACTIONS, CLOSED, DATES, NESTED, NUMBERS, UIDS
from medseg.data.steps.desensitise import clean
from medseg.errors import ConfigError, DataError

if TYPE_CHECKING:
    from pydicom import Dataset

_SCREENS = "1.2.840.10008.5.1.4.1.1.7"  # secondary capture and its multi-frame kin
_READER_ERRORS = (OSError, ValueError, AttributeError, KeyError, TypeError, RuntimeError, NotImplementedError)
_SHORTEST = 5  # characters of an identity that are searched for in the output


@dataclass(frozen=True)
class Pseudonyms:
    """Replacements by a keyed hash: equal within a run (or wherever the same salt is used), without it not reversible.

    Attributes:
        salt: secret; keep it nowhere or in the environment.
    """

    salt: bytes = field(repr=False)

    def number(self, kind: str, value: str) -> int:
        """Return 122 bits that stand for a value of a kind."""
        return int.from_bytes(hmac.new(self.salt, f"{kind}\n{value}".encode(), hashlib.sha256).digest()[:16]) >> 6

    def name(self, kind: str, value: str) -> str:
        """Return ten hex digits that stand for a value."""
        return f"{self.number(kind, value):031x}"[:10]

    def uid(self, value: str) -> str:
        """Return a UID under the root of UUIDs (2.25) for any UID but those of the standard, which stay."""
        from pydicom.uid import UID_dictionary

        return value if value in UID_dictionary else f"2.25.{self.number('uid', value)}"

    def days(self, patient: str) -> timedelta:
        """Return the patient's own shift of dates, one day to ten years into the past."""
        return timedelta(days=-1 - self.number("days", patient) % 3652)


@dataclass(frozen=True)
class Outcome:
    """What became of one file.

    Attributes:
        name: of the output, without identity.
        actions: what was done, with counts; no values.
        flags: why it was refused; empty if it was written.
        patient: pseudonym, "" for pictures.
    """

    name: str
    actions: str
    flags: tuple[str, ...] = ()
    patient: str = ""


def deidentify_dicom(source: Path, folder: Path, *, names: Pseudonyms, dates: str = "remove") -> Outcome:
    """Write the de-identified file below ``folder`` as PATIENT/NAME.dcm, unless it is refused.

    Args:
        source: DICOM file.
        folder: where it goes.
        names: replacements.
        dates: ``remove``, or ``shift`` by days that are the patient's own.

    Raises:
        ConfigError: ``dates`` is unknown.
    """
    if dates not in ("remove", "shift"):
        raise ConfigError(f"dates='{dates}' is unknown; use remove or shift.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the reader's warnings quote values
        return _deidentified(source, folder, names=names, dates=dates)


def _deidentified(source: Path, folder: Path, *, names: Pseudonyms, dates: str) -> Outcome:
    import pydicom

    try:
        original = pydicom.dcmread(source)
        flags = _unfit(original)
        if flags:
            return Outcome("", "none", flags)
        made, actions = cleaned_tags(original, names=names, dates=dates)
        pixels, done, flags = cleaned_pixels(original)
    except (pydicom.errors.InvalidDicomError, *_READER_ERRORS) as error:
        # Whatever a reader stumbles over is a doubt, and the reader's own words may quote a value.
        return Outcome("", "none", (f"unreadable ({type(error).__name__})",))
    if flags:
        return Outcome("", "none", flags)
    put_pixels(made, pixels)
    _declare(made, dates=dates, pixels_cleaned=bool(done), names=names)
    patient = str(made.PatientID)
    name = f"{patient}/{names.name('file', str(original.SOPInstanceUID))}.dcm"
    data = _encoded(made)
    if _identity_left(original, data):
        return Outcome("", "none", ("an identity is left in the output",))
    (folder / patient).mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)
    return Outcome(name, "; ".join([actions, *done]), (), patient)


def _unfit(original: "Dataset") -> tuple[str, ...]:
    """Return why a file can not be handled at all."""
    from pydicom.uid import AllTransferSyntaxes

    if original.file_meta.get("TransferSyntaxUID") not in AllTransferSyntaxes:
        return ("unknown transfer syntax",)
    if "EncapsulatedDocument" in original:
        return ("encapsulated document",)
    if "PixelData" not in original:
        return ("no image: report, document, waveform or presentation state",)
    modality, burnt = str(original.get("Modality", "")), str(original.get("BurnedInAnnotation", "")).upper()
    if modality in ULTRASOUND:
        return ()
    if burnt == "YES":
        return ("burnt-in text in a picture that is no ultrasound scan",)
    if str(original.get("SOPClassUID", "")).startswith(_SCREENS) and burnt != "NO":
        return ("captured screen that does not say it is free of text",)
    return ()


def cleaned_tags(original: "Dataset", *, names: Pseudonyms, dates: str = "remove") -> "tuple[Dataset, str]":
    """Return a new dataset with what may stay and what was replaced, without pixels, and a count of actions.

    Args:
        original: as read.
        names: replacements.
        dates: ``remove`` or ``shift``.
    """
    identity = f"{original.get('IssuerOfPatientID', '')}\n{original.get('PatientID', '')}"
    counts: dict[str, int] = {}
    made = _allowed(original, names, counts)
    patient = names.name("patient", identity)
    made.PatientID, made.PatientName = patient, f"ANON^{patient}"
    for keyword, (action, _) in ACTIONS.items():
        if action == "Z":
            setattr(made, keyword, "")
    if dates == "shift":
        for keyword in DATES:
            moved = _shifted(str(original.get(keyword, "") or ""), names.days(identity))
            if moved:
                setattr(made, keyword, moved)
    listed = sum(1 for keyword, (action, _) in ACTIONS.items() if action in "DZ" and keyword in original)
    counts["replaced or emptied"] = listed
    counts["removed"] = counts.get("removed", 0) - listed
    return made, ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))


def _allowed(original: "Dataset", names: Pseudonyms, counts: dict[str, int]) -> "Dataset":
    """Return what the table lets stay, nested datasets alike."""
    from pydicom import Dataset, Sequence

    made = Dataset()
    for element in original:
        keyword = "" if element.tag.is_private else element.keyword
        if keyword == "PixelData":
            continue
        kept: Any = None
        if keyword in NESTED and element.VR == "SQ":
            kept = Sequence([_allowed(item, names, counts) for item in element.value])
        elif keyword in UIDS and element.VR == "UI":
            kept = [names.uid(str(uid)) for uid in _listed(element.value)]
        elif keyword in NUMBERS:
            kept = element.value if all(_is_number(value) for value in _listed(element.value)) else None
        elif keyword in CLOSED:
            kept = [str(value) for value in _listed(element.value) if str(value) in CLOSED[keyword]]
        if kept is None or (isinstance(kept, list) and not kept and keyword not in NESTED):
            counts["removed"] = counts.get("removed", 0) + 1
            continue
        setattr(made, keyword, kept[0] if isinstance(kept, list) and len(kept) == 1 and keyword not in NESTED else kept)
        counts["kept"] = counts.get("kept", 0) + 1
    return made


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return [value] if isinstance(value, (str, bytes, int, float)) else list(value)


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def _shifted(text: str, days: timedelta) -> str:
    """Return a date YYYYMMDD moved by days, or "" where it is none."""
    try:
        return (date(int(text[:4]), int(text[4:6]), int(text[6:8])) + days).strftime("%Y%m%d")
    except (ValueError, OverflowError):
        return ""


def _declare(made: "Dataset", *, dates: str, pixels_cleaned: bool, names: Pseudonyms) -> None:
    """Say in the file what was done, with the codes of PS3.16 context group 7050."""
    from pydicom import Dataset, Sequence

    codes = [("113100", "Basic Application Confidentiality Profile")]
    if pixels_cleaned:
        codes.append(("113101", "Clean Pixel Data Option"))
        made.BurnedInAnnotation = "NO"
    if dates == "shift":
        codes.append(("113107", "Retain Longitudinal Temporal Information Modified Dates Option"))
    items = []
    for value, meaning in codes:
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
        items.append(item)
    made.PatientIdentityRemoved = "YES"
    made.DeidentificationMethod = "medseg: allow-list after PS3.15 Annex E basic profile"
    made.DeidentificationMethodCodeSequence = Sequence(items)
    made.LongitudinalTemporalInformationModified = "MODIFIED" if dates == "shift" else "REMOVED"
    if "SOPInstanceUID" not in made or "SOPClassUID" not in made:
        raise ValueError("a file without its class or instance cannot be written")


def _encoded(made: "Dataset") -> bytes:
    """Return the bytes of a file with a header of our own and an empty preamble."""
    import io

    import pydicom
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    made.file_meta = FileMetaDataset()
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, made, enforce_file_format=True)
    return stream.getvalue()


def _identity_left(original: "Dataset", data: bytes) -> bool:
    """Return whether a name or number that was to be replaced can still be read in the output's bytes."""
    for keyword in ("PatientName", "PatientID", "AccessionNumber", "StudyID", "StudyInstanceUID", "SOPInstanceUID"):
        text = str(original.get(keyword, "") or "")
        if any(len(part) >= _SHORTEST and part.encode() in data for part in {text, *text.split("^")}):
            return True
    return False


def deidentify_picture(source: Path, folder: Path, *, names: Pseudonyms, crop: bool = False) -> Outcome:
    """Write a desensitised PNG without any metadata below ``folder``, unless there is a doubt.

    Args:
        source: PNG, JPEG, BMP or TIFF file with one frame.
        folder: where it goes.
        names: replacements; the file's name is replaced by a hash of its content.
        crop: keep the scan's bounding box only; else the size stays and the surroundings are black.
    """
    from PIL import Image

    from medseg.data.files import read_image

    try:
        colour = read_image(source, channels=3)
    except DataError:
        return Outcome("", "none", ("unreadable picture",))
    grey = (colour == colour[..., :1]).all()
    result = clean(np.ascontiguousarray(colour[..., :1]) if grey else colour)
    if result.doubts:
        return Outcome("", "none", result.doubts)
    pixels, actions = result.image, [f"{'+'.join(result.kinds)} kept", f"{int(result.removed.sum())} pixels filled in"]
    if crop:
        rows, columns = np.flatnonzero(result.scan.any(axis=1)), np.flatnonzero(result.scan.any(axis=0))
        top, left, bottom, right = int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1
        pixels = pixels[top:bottom, left:right]
        actions.append(f"cropped to rows {top}-{bottom - 1}, columns {left}-{right - 1}")
    name = f"{names.name('picture', hashlib.sha256(source.read_bytes()).hexdigest())}.png"
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.squeeze(axis=2) if grey else pixels).save(folder / name)
    return Outcome(name, "; ".join(actions))
