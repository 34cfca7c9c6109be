"""What of a DICOM file's pixels may stay."""

from typing import TYPE_CHECKING

import numpy as np

from medseg.data.steps.desensitise import clean
from medseg.data.steps.sector import find_sector

if TYPE_CHECKING:
    from pydicom import Dataset

ULTRASOUND = ("US", "IVUS")
"""Modalities whose pixels are desensitised."""


def cleaned_pixels(original: "Dataset") -> tuple[np.ndarray, list[str], tuple[str, ...]]:
    """Return decoded pixels (frames, H, W[, 3]), what was done to them, and doubts.

    Ultrasound is desensitised: within its declared two-dimensional regions where there are any, else where the scan
    is found. Bits above those in use, where old files hide overlays, are cleared in every file.
    """
    pixels = np.asarray(original.pixel_array)
    frames = pixels if int(original.get("NumberOfFrames", 1) or 1) > 1 else pixels[None]
    if str(original.get("Modality", "")) not in ULTRASOUND:
        return _bits_in_use(frames, original), [], ()
    if frames.dtype != np.uint8:
        return frames, [], ("ultrasound of more than 8 bits",)
    if str(original.PhotometricInterpretation) not in ("MONOCHROME2", "RGB") and frames.ndim == 3:
        return frames, [], (f"photometric interpretation {original.PhotometricInterpretation}",)
    pictures = frames if frames.ndim == 4 else frames[..., None]
    region = _regions(original, pictures.shape[1:3])
    brightest = pictures.max(axis=0)
    inside = brightest if region is None else np.where(region[..., None], brightest, 0).astype(np.uint8)
    sector = find_sector(inside)
    results = [clean(picture, scan=sector.mask) for picture in pictures]
    doubts = dict.fromkeys([*sector.doubts, *(doubt for result in results for doubt in result.doubts)])
    made = np.stack([result.image for result in results]).reshape(frames.shape)
    filled = sum(int(result.removed.sum()) for result in results)
    where = "declared region and scan" if region is not None else "scan found"
    return made, [f"pixels outside the {where} blanked", f"{filled} pixels filled in"], tuple(doubts)


def _regions(original: "Dataset", size: tuple[int, ...]) -> np.ndarray | None:
    """Return the two-dimensional ultrasound regions that a file declares, bool (H, W), or None."""
    mask = np.zeros(size[:2], bool)
    for item in original.get("SequenceOfUltrasoundRegions") or []:
        if int(item.get("RegionSpatialFormat", 0)) != 1:
            continue
        rows = slice(int(item.RegionLocationMinY0), int(item.RegionLocationMaxY1) + 1)
        columns = slice(int(item.RegionLocationMinX0), int(item.RegionLocationMaxX1) + 1)
        mask[rows, columns] = True
    return mask if mask.any() else None


def _bits_in_use(frames: np.ndarray, original: "Dataset") -> np.ndarray:
    stored, allocated = int(original.BitsStored), int(original.BitsAllocated)
    if stored >= allocated or frames.dtype.kind not in "ui":
        return frames
    spare = frames.dtype.itemsize * 8 - stored
    return (frames << spare) >> spare  # an arithmetic shift keeps the sign of signed pixels


def put_pixels(made: "Dataset", frames: np.ndarray) -> None:
    """Put pixels (frames, H, W[, 3]) into a dataset, plainly, with the attributes that describe them."""
    colour = frames.ndim == 4
    made.Rows, made.Columns = frames.shape[1:3]
    made.SamplesPerPixel = 3 if colour else 1
    if colour:
        made.PhotometricInterpretation, made.PlanarConfiguration = "RGB", 0
    if len(frames) > 1:
        made.NumberOfFrames = len(frames)
    data = np.ascontiguousarray(frames).tobytes()
    made.PixelData = data + b"\0" * (len(data) % 2)
    made["PixelData"].VR = "OB" if frames.dtype.itemsize == 1 else "OW"
