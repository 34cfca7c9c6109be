"""Faults of image files and manifests, injected into a written dataset; the faulty case is always ``p00_0``."""

import csv
import gzip
import hashlib
from collections.abc import Callable
from pathlib import Path

import cv2
import nibabel as nib
import numpy as np
from PIL import Image

CASE = "p00_0"


def image_of(root: Path, suffix: str = ".png", *, keep: bool = False, **options: object) -> Path:
    """Store the image of the case in another format, or return where it is."""
    return _stored(root, "images", suffix, keep=keep, **options)


def mask_of(root: Path, suffix: str = ".png", **options: object) -> Path:
    """Store the mask of the case in another format, or return where it is."""
    return _stored(root, "masks", suffix, **options)


def _stored(root: Path, folder: str, suffix: str, *, keep: bool = False, **options: object) -> Path:
    path = root / folder / f"{CASE}.png"
    if suffix == ".png":
        return path
    moved = path.with_suffix(suffix)
    Image.open(path).save(moved, **options)
    if not keep:
        path.unlink()
    column = "image" if folder == "images" else "mask"
    change_row(root, **{column: f"{folder}/{moved.name}"})
    return moved


def change_row(root: Path, case: str = CASE, **cells: str) -> None:
    """Change cells of a case's row in the manifest; new columns are added."""
    with (root / "manifest.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        for name, value in cells.items():
            row[name] = value if row["id"] == case else row.get(name, "")
    with (root / "manifest.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def cut(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def flip(path: Path, place: float, bit: int = 3) -> None:
    """Flip one bit at a share of the file."""
    content = bytearray(path.read_bytes())
    content[int(len(content) * place)] ^= 1 << bit
    path.write_bytes(bytes(content))


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path)).copy()


def save(path: Path, values: np.ndarray, mode: str | None = None) -> None:
    picture = Image.fromarray(values)
    (picture if mode is None else picture.convert(mode)).save(path)


def noisy_jpeg(root: Path, **options: object) -> Path:
    return image_of(root, ".jpg", quality=90, **options)


def several_frames(root: Path) -> None:
    first = Image.open(image_of(root)).convert("L")
    path = root / "images" / f"{CASE}.tif"
    first.save(path, save_all=True, append_images=[first])
    change_row(root, image=f"images/{CASE}.tif")


def palette(path: Path, values: np.ndarray) -> None:
    picture = Image.fromarray(values).convert("P")
    picture.putdata(values.reshape(-1).tolist())
    picture.putpalette([0, 0, 0, 255, 0, 0] * 128)
    picture.save(path)


def interpolated(root: Path) -> None:
    """A mask made small and large again as if it were an image."""
    path = mask_of(root)
    mask = pixels(path)
    small = cv2.resize(mask, None, fx=0.4, fy=0.4, interpolation=cv2.INTER_LINEAR)
    save(path, cv2.resize(small, mask.shape[::-1], interpolation=cv2.INTER_LINEAR))


def exif_turn(root: Path) -> None:
    path = image_of(root, ".jpg")
    picture = Image.open(path)
    picture.load()
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(path, exif=exif)


def sixteen_bits(root: Path, top: int) -> None:
    path = image_of(root)
    wide = pixels(path).astype(np.uint16) * (top // 255)
    Image.fromarray(wide).save(path)


def alpha(root: Path) -> None:
    path = image_of(root)
    picture = Image.open(path).convert("RGBA")
    picture.putalpha(Image.fromarray(np.where(pixels(path) > 90, 255, 40).astype(np.uint8)))
    picture.save(path)


def checksum(root: Path) -> None:
    """A BMP, which has no checksum of its own, with one bit changed after its SHA-256 was written down."""
    path = image_of(root, ".bmp")
    change_row(root, sha256_image=hashlib.sha256(path.read_bytes()).hexdigest())
    flip(path, 0.7)


def listed_checksum(root: Path) -> None:
    path = image_of(root, ".tif")
    (root / "SHA256SUMS").write_text(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  images/{path.name}\n")
    flip(path, 0.5)


Fault = tuple[str, Callable[[Path], object]]

PICTURE_ERRORS: dict[str, Fault] = {
    "JPEG cut at 90 %": ("damaged", lambda root: cut(noisy_jpeg(root), 0.9)),
    "JPEG cut at 50 %": ("damaged", lambda root: cut(noisy_jpeg(root), 0.5)),
    "JPEG cut at 10 %": ("damaged", lambda root: cut(noisy_jpeg(root), 0.1)),
    "JPEG without its last byte": ("damaged", lambda root: cut(noisy_jpeg(root), 0.9999)),
    "progressive JPEG cut at 50 %": ("damaged", lambda root: cut(noisy_jpeg(root, progressive=True), 0.5)),
    "PNG cut at 90 %": ("damaged", lambda root: cut(image_of(root), 0.9)),
    "PNG without its last byte": ("damaged", lambda root: cut(image_of(root), 0.9999)),
    "PNG mask cut at 50 %": ("damaged", lambda root: cut(mask_of(root), 0.5)),
    "BMP cut at 60 %": ("unreadable", lambda root: cut(image_of(root, ".bmp"), 0.6)),
    "TIFF cut at 60 %": ("unreadable", lambda root: cut(image_of(root, ".tif"), 0.6)),
    "TIFF with LZW cut at 60 %": ("unreadable", lambda root: cut(image_of(root, ".tif", compression="tiff_lzw"), 0.6)),
    "image of 0 bytes": ("empty-file", lambda root: image_of(root).write_bytes(b"")),
    "mask of 0 bytes": ("empty-file", lambda root: mask_of(root).write_bytes(b"")),
    "a text for an image": ("unreadable", lambda root: image_of(root).write_text("not found")),
    "bit flipped in the pixels of a PNG": ("damaged", lambda root: flip(image_of(root), 0.6)),
    "bit flipped in the header of a PNG": ("damaged", lambda root: flip(image_of(root), 0.02)),
    "bit flipped in a PNG mask": ("damaged", lambda root: flip(mask_of(root), 0.5)),
    "bit flipped in a BMP whose SHA-256 is in the manifest": ("checksum", checksum),
    "bit flipped in a TIFF whose SHA-256 is in SHA256SUMS": ("checksum", listed_checksum),
    "floating point": (
        "float-picture",
        lambda root: Image.fromarray(pixels(image_of(root)).astype(np.float32)).save(image_of(root, ".tif")),
    ),
    "32 bit integers": (
        "wide-integers",
        lambda root: Image.fromarray(pixels(image_of(root)).astype(np.int32) * 10**6).save(image_of(root, ".tif")),
    ),
    "several frames": ("several-frames", several_frames),
    "mask of another size": ("size-mismatch", lambda root: save(mask_of(root), pixels(mask_of(root))[:-1])),
    "missing mask": ("missing-file", lambda root: mask_of(root).unlink()),
    "missing image": ("missing-file", lambda root: image_of(root).unlink()),
    "no mask in the manifest": ("no-mask", lambda root: change_row(root, mask="")),
    "mask of 0 and 1": ("undeclared-values", lambda root: save(mask_of(root), pixels(mask_of(root)) // 255)),
    "mask with a stray value": (
        "undeclared-values",
        lambda root: save(mask_of(root), np.where(np.eye(*pixels(mask_of(root)).shape) > 0, 7, 255).astype(np.uint8)),
    ),
    "palette mask of 0 and 1": (
        "undeclared-values", lambda root: palette(mask_of(root), (pixels(mask_of(root)) // 255)),
    ),
    "bilinearly resized mask": ("undeclared-values", interpolated),
    "coloured mask": (
        "colour-mask",
        lambda root: save(mask_of(root), np.stack([pixels(mask_of(root)), *[0 * pixels(mask_of(root))] * 2], axis=2)),
    ),
    "id used twice": ("duplicate-id", lambda root: change_row(root, case="p01_0", id=CASE)),
    "no patient": ("no-group", lambda root: change_row(root, group="")),
    "patient in two folds": ("folds-cut-group", lambda root: change_row(root, fold="1")),
    "image of another patient": (
        "same-image-other-group",
        lambda root: [(root / part / f"{CASE}.png").write_bytes((root / part / "p01_0.png").read_bytes())
                      for part in ("images", "masks")],
    ),
}  # fmt: skip
"""Faults that training must not see: name to kind of finding and injection."""

PICTURE_WARNINGS: dict[str, Fault] = {
    "16 bit with few levels": ("few-levels", lambda root: sixteen_bits(root, 1023)),
    "RGBA": ("alpha", alpha),
    "palette image": ("palette-image", lambda root: palette(image_of(root), pixels(image_of(root)))),
    "coloured image where grey is expected": (
        "colour-image",
        lambda root: save(image_of(root), np.stack([pixels(image_of(root)), *[pixels(image_of(root)) // 2] * 2], 2)),
    ),
    "palette mask": ("palette-mask", lambda root: palette(mask_of(root), pixels(mask_of(root)))),
    "JPEG mask": ("jpeg-mask", lambda root: mask_of(root, ".jpg", quality=60)),
    "JPEG to be turned": ("exif-rotation", exif_turn),
    "PNG with a tail": ("trailing-bytes", lambda root: image_of(root).open("ab").write(b"tail")),
    "JPEG with a tail": ("trailing-bytes", lambda root: noisy_jpeg(root).open("ab").write(b"tail")),
    "JPEG named PNG": (
        "wrong-suffix",
        lambda root: Image.open(image_of(root)).copy().save(image_of(root), format="JPEG"),
    ),
    "empty mask": ("empty-mask", lambda root: save(mask_of(root), 0 * pixels(mask_of(root)))),
    "full mask": ("full-mask", lambda root: save(mask_of(root), 0 * pixels(mask_of(root)) + 255)),
    "constant image": ("constant", lambda root: save(image_of(root), 0 * pixels(image_of(root)) + 9)),
    "copied outline": (
        "same-mask", lambda root: mask_of(root).write_bytes((root / "masks" / "p01_0.png").read_bytes())
    ),
    "copy within a patient, other compression": (
        "same-image",
        lambda root: [save(root / part / "p00_1.png", pixels(root / part / f"{CASE}.png"))
                      for part in ("images", "masks")],
    ),
    "file without a row": ("unused-file", lambda root: (root / "masks" / "stray.png").write_bytes(b"x")),
}  # fmt: skip
"""Faults that training reads, perhaps rightly: name to kind of finding and injection."""


def nifti(root: Path, part: str, change: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]) -> None:
    """Rewrite a NIfTI file of the case with changed voxels and affine."""
    path = volume_of(root, part)
    found = nib.load(path)
    voxels, affine = change(np.asarray(found.dataobj).copy(), found.affine.copy())
    nib.save(nib.Nifti1Image(voxels, affine), path)


def volume_of(root: Path, part: str = "images", channel: str = "") -> Path:
    return root / part / f"{CASE}{channel}.nii.gz"


def set_voxel(value: float) -> Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    def change(voxels: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        voxels[3, 4, 5] = value
        return voxels, affine

    return change


def moved(millimetres: float) -> Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    def change(voxels: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        affine[0, 3] += millimetres
        return voxels, affine

    return change


def repacked(path: Path, change: Callable[[bytes], bytes]) -> None:
    """Change the content of a gzip file and compress it again, with a valid checksum."""
    path.write_bytes(gzip.compress(change(gzip.decompress(path.read_bytes()))))


VOLUME_ERRORS: dict[str, Fault] = {
    "NIfTI cut at 90 %": ("damaged", lambda root: cut(volume_of(root), 0.9)),
    "NIfTI cut at 10 %": ("damaged", lambda root: cut(volume_of(root), 0.1)),
    "NIfTI without its last byte": ("damaged", lambda root: cut(volume_of(root), 0.99999)),
    "NIfTI cut before it was compressed": (
        "unreadable", lambda root: repacked(volume_of(root), lambda content: content[: len(content) // 2])
    ),
    "bit flipped in the middle": ("damaged", lambda root: flip(volume_of(root), 0.5)),
    "bit flipped in the checksum": ("damaged", lambda root: flip(volume_of(root), 1 - 6 / 10**4)),
    "bit flipped in the mask": ("damaged", lambda root: flip(volume_of(root, "masks"), 0.5)),
    "gzip with a tail": ("unreadable", lambda root: volume_of(root).open("ab").write(b"tail")),
    "0 bytes": ("empty-file", lambda root: volume_of(root).write_bytes(b"")),
    "NaN": ("not-finite", lambda root: nifti(root, "images", set_voxel(np.nan))),
    "infinity": ("not-finite", lambda root: nifti(root, "images", set_voxel(np.inf))),
    "mask of another size": ("size-mismatch", lambda root: nifti(root, "masks", lambda v, a: (v[:-1], a))),
    "mask 5 mm off": ("grid-mismatch", lambda root: nifti(root, "masks", moved(5.0))),
    "mask a tenth of a voxel off": ("grid-mismatch", lambda root: nifti(root, "masks", moved(0.1))),
    "mask of another spacing": (
        "grid-mismatch", lambda root: nifti(root, "masks", lambda v, a: (v, a @ np.diag([1, 1, 1.5, 1])))
    ),
    "missing mask": ("missing-file", lambda root: volume_of(root, "masks").unlink()),
    "undeclared label": ("undeclared-values", lambda root: nifti(root, "masks", set_voxel(9))),
    "broken label": (
        "undeclared-values", lambda root: nifti(root, "masks", lambda v, a: (v.astype(np.float32) * 0.5, a))
    ),
    "two channels where one is declared": (
        "channel-count", lambda root: nifti(root, "images", lambda v, a: (np.stack([v, v + 1], axis=3), a))
    ),
    "a picture": (
        "wrong-dimension",
        lambda root: [Image.new("L", (9, 9)).save(root / "images" / "x.png"), change_row(root, image="images/x.png")],
    ),
    "volume of another patient": (
        "same-image-other-group",
        lambda root: [(root / part / f"{CASE}.nii.gz").write_bytes((root / part / "p02_0.nii.gz").read_bytes())
                      for part in ("images", "masks")],
    ),
}  # fmt: skip

VOLUME_WARNINGS: dict[str, Fault] = {
    "mask a thirtieth of a voxel off": ("grid-shift", lambda root: nifti(root, "masks", moved(0.033))),
    "empty mask": ("empty-mask", lambda root: nifti(root, "masks", lambda v, a: (0 * v, a))),
    "full mask": ("full-mask", lambda root: nifti(root, "masks", lambda v, a: (0 * v + 1, a))),
    "constant": ("constant", lambda root: nifti(root, "images", lambda v, a: (0 * v + 5, a))),
    "range 1000 times as wide": ("intensity-outlier", lambda root: nifti(root, "images", lambda v, a: (v * 1000, a))),
    "other type of number": ("dtype", lambda root: nifti(root, "images", lambda v, a: (v.astype(np.int16), a))),
    "other spacing than the dataset": (
        "spacing-outlier",
        lambda root: [nifti(root, part, lambda v, a: (v, a @ np.diag([3, 3, 3, 1]))) for part in ("images", "masks")],
    ),
}
