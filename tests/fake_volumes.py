"""Makers of tiny volumes: arrays, NIfTI files in any orientation, DICOM series, datasets in medseg's layout."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np

from medseg.rng import generator

COLUMNS = ("id", "image", "mask", "group", "fold", "domain", "split")
_AXES = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}


def make_affine(
    sizes: Sequence[float] = (1.0, 1.0, 1.0),
    *,
    codes: str = "RAS",
    angles: tuple[float, float, float] = (0.0, 0.0, 0.0),
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> np.ndarray:
    """Return a 4 x 4 affine (RAS+ mm) of a file with the axis codes and voxel sizes, rotated by angles in degrees."""
    from scipy.spatial.transform import Rotation

    affine = np.eye(4)
    axes = np.zeros((3, 3))
    for column, code in enumerate(codes):
        row, sign = _AXES[code]
        axes[row, column] = sign
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ axes @ np.diag(sizes)
    affine[:3, 3] = origin
    return affine


def save_nifti(path: Path, voxels: np.ndarray, affine: np.ndarray) -> Path:
    """Write (X, Y, Z) or (X, Y, Z, C) with nibabel alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels, affine), path)
    return path


def draw_volume(
    seed: int, *, shape: tuple[int, int, int] = (12, 20, 24), channels: int = 1, classes: int = 2
) -> tuple[np.ndarray, np.ndarray]:
    """Return a noisy float32 image (C, D, H, W), 0 outside a body, and uint8 labels (D, H, W) of nested ellipsoids.

    Class k is brighter by k in the first channel, darker in the second, and so on in turn.
    """
    rng = generator(seed, "volume")
    places = np.stack(np.meshgrid(*[np.linspace(-1, 1, side) for side in shape], indexing="ij"))
    centre = rng.uniform(-0.15, 0.15, 3).reshape(3, 1, 1, 1)
    radius = np.sqrt((((places - centre) / rng.uniform(0.75, 0.85, 3).reshape(3, 1, 1, 1)) ** 2).sum(0))
    labels = np.zeros(shape, np.uint8)
    for label in range(1, classes):
        labels[radius < 0.75 * (classes - label) / (classes - 1)] = label
    body = (places**2).sum(0) < 1.9
    image = np.stack([
        100 + 40 * (-1) ** channel * labels.astype(float) + rng.normal(0, 6, shape) for channel in range(channels)
    ])  # fmt: skip
    return (np.maximum(image, 1) * body).astype(np.float32), labels


def write_volume_dataset(
    root: Path,
    *,
    patients: int = 4,
    volumes_per_patient: int = 1,
    shape: tuple[int, int, int] = (12, 20, 24),
    channels: int = 1,
    classes: int = 2,
    spacing: tuple[float, float, float] = (2.0, 1.0, 1.0),
    missing: Mapping[str, Sequence[int]] | None = None,
    folds: int = 2,
    codes: str = "LPS",
    sizes_differ: bool = True,
) -> Path:
    """Write images/, masks/ and manifest.csv of NIfTI volumes in medseg's layout.

    Args:
        root: folder to write.
        patients: number of them, named p00, p01, ...
        volumes_per_patient: cases p00_0, p00_1, ...
        shape: (D, H, W) of the first case of a patient.
        channels: one file each, images/ID_0000.nii.gz and so on; a single channel is images/ID.nii.gz.
        classes: K, labels 0 to K-1.
        spacing: (z, y, x) in mm.
        missing: channels without a file by case id, for instance ``{"p01_0": [1]}``.
        folds: column ``fold`` by patient.
        codes: axis codes of the files.
        sizes_differ: every second patient is 2 slices, 4 rows and 2 columns larger.
    """
    rows: list[dict[str, object]] = []
    affine = make_affine(spacing[::-1], codes="RAS", origin=(-11.5, 7.25, 30.0))
    for patient in range(patients):
        extra = (2, 4, 2) if sizes_differ and patient % 2 else (0, 0, 0)
        size = (shape[0] + extra[0], shape[1] + extra[1], shape[2] + extra[2])
        for number in range(volumes_per_patient):
            stem = f"p{patient:02d}_{number}"
            image, labels = draw_volume(100 * patient + number, shape=size, channels=channels, classes=classes)
            names = []
            for channel in range(channels):
                name = f"images/{stem}.nii.gz" if channels == 1 else f"images/{stem}_{channel:04d}.nii.gz"
                if channel in (missing or {}).get(stem, ()):
                    names.append("")
                    continue
                names.append(name)
                _save_oriented(root / name, image[channel], affine, codes)
            _save_oriented(root / f"masks/{stem}.nii.gz", labels, affine, codes)
            side = "test" if patient % 3 == 2 else "train"
            cells = [stem, ";".join(names), f"masks/{stem}.nii.gz", f"p{patient:02d}", patient % folds, "", side]
            rows.append(dict(zip(COLUMNS, cells, strict=True)))
    with (root / "manifest.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return root


def _save_oriented(path: Path, values: np.ndarray, affine: np.ndarray, codes: str) -> None:
    """Write (D, H, W) of RAS+ orientation to a file with other axis codes, the same voxels in the same places."""
    path.parent.mkdir(parents=True, exist_ok=True)
    canonical = nib.Nifti1Image(np.ascontiguousarray(values.T), affine)
    wanted = nib.orientations.axcodes2ornt(tuple(codes))
    turn = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt(("R", "A", "S")), wanted)
    nib.save(canonical.as_reoriented(turn), path)


def write_series(
    folder: Path,
    voxels: np.ndarray,
    *,
    spacing: tuple[float, float, float] = (3.0, 1.5, 1.25),
    row: Sequence[float] = (1.0, 0.0, 0.0),
    column: Sequence[float] = (0.0, 1.0, 0.0),
    origin: Sequence[float] = (-20.0, 10.0, 5.0),
    slope: float = 1.0,
    intercept: float = 0.0,
) -> list[Path]:
    """Write int16 stored values (slice, row, column) as a CT series; file names do not follow the order in space.

    Args:
        folder: of the series.
        voxels: stored values, before slope and intercept.
        spacing: (slice, row, column) distance in mm.
        row: direction of growing columns in DICOM's axes (LPS).
        column: direction of growing rows.
        origin: of the first slice, LPS mm.
        slope: of the modality values.
        intercept: of the modality values.
    """
    from pydicom.uid import generate_uid

    folder.mkdir(parents=True, exist_ok=True)
    normal = np.cross(row, column)
    shared = {"SeriesInstanceUID": generate_uid(), "StudyInstanceUID": generate_uid(), "frame": generate_uid()}
    paths = []
    for number, pixels in enumerate(voxels):
        position = np.asarray(origin, float) + number * spacing[0] * normal
        dataset = _ct_slice(pixels, shared, number)
        dataset.ImagePositionPatient = [float(f"{value:.8f}") for value in position]
        dataset.ImageOrientationPatient = [float(f"{value:.12f}") for value in (*row, *column)]
        dataset.PixelSpacing = [spacing[1], spacing[2]]
        dataset.SliceThickness = spacing[0]
        dataset.RescaleSlope, dataset.RescaleIntercept = slope, intercept
        paths.append(folder / f"{(number * 7) % 101:03d}.dcm")
        dataset.save_as(paths[-1], enforce_file_format=True)
    return paths


def _ct_slice(pixels: np.ndarray, shared: Mapping[str, str], number: int):
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid()
    dataset.SeriesInstanceUID, dataset.StudyInstanceUID = shared["SeriesInstanceUID"], shared["StudyInstanceUID"]
    dataset.FrameOfReferenceUID = shared["frame"]
    dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate, dataset.PatientSex = "Fake^One", "fake", "", ""
    dataset.StudyDate, dataset.StudyTime, dataset.StudyID, dataset.AccessionNumber = "20200101", "120000", "1", ""
    dataset.ReferringPhysicianName, dataset.Modality, dataset.Manufacturer = "", "CT", "fake"
    dataset.SeriesNumber, dataset.InstanceNumber, dataset.PositionReferenceIndicator = 1, number + 1, ""
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
    dataset.PixelData = np.ascontiguousarray(pixels, "<i2").tobytes()
    return dataset
