"""Makers of tiny datasets in the folders, names and side files of the official archives."""

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import nibabel
import numpy as np
from PIL import Image

from medseg.rng import generator

SIZE = (24, 30)


def grey(seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Return a random grey picture (H, W)."""
    return generator(seed, "official").integers(0, 256, size).astype(np.uint8)


def blob(size: tuple[int, int] = SIZE, *, top: int = 5, value: int = 255) -> np.ndarray:
    """Return a mask (H, W) with a rectangle of 8 x 9 pixels."""
    mask = np.zeros(size, np.uint8)
    mask[top : top + 8, 6:15] = value
    return mask


def picture(path: Path, pixels: np.ndarray, **options: Any) -> None:
    """Write a picture; its kind is that of the suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def table(path: Path, rows: Sequence[Sequence[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(rows)


def text(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


def nifti(path: Path, values: np.ndarray, spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> None:
    """Write an array with the axes (x, y, z[, channel])."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values, np.diag([*spacing, 1.0])), path)


def volume(seed: int, *, channels: int = 1) -> np.ndarray:
    shape = (6, 5, 4) if channels == 1 else (6, 5, 4, channels)
    return generator(seed, "official volume").normal(100, 20, shape).astype(np.float32)


def labels(values: Sequence[int]) -> np.ndarray:
    found = np.zeros((6, 5, 4), np.uint8)
    for number, value in enumerate(values):
        found[number] = value
    return found


def tn3k(root: Path) -> None:
    """Five trainval and two test images; the folds go by position, one picture is in both parts."""
    for side, count in (("trainval", 5), ("test", 2)):
        for number in range(count):
            seed = 0 if (side, number) == ("test", 1) else number + (100 if side == "test" else 0)
            picture(root / f"tn3k/{side}-image/{number:04d}.jpg", grey(seed), quality=95)
            picture(root / f"tn3k/{side}-mask/{number:04d}.jpg", blob(), quality=80)
        rows = [[f"{number:04d}.jpg", number % 2] for number in range(count)]
        table(root / f"tn3k/label4{side}.csv", rows)
    for fold in range(5):
        division = {"train": [item for item in range(5) if item != fold], "val": [fold]}
        text(root / f"tn3k/tn3k-trainval-fold{fold}.json", json.dumps(division))


def tg3k(root: Path) -> None:
    """Three clips of 3, 3 and 2 frames; the published division cuts the second in two."""
    sizes = [(20, 24)] * 3 + [(22, 24)] * 3 + [(20, 24)] * 2
    for number, size in enumerate(sizes):
        picture(root / f"tg3k/thyroid-image/{number:04d}.jpg", grey(number, size))
        picture(root / f"tg3k/thyroid-mask/{number:04d}.jpg", blob(size))
    text(root / "tg3k/tg3k-trainval.json", json.dumps({"train": [0, 1, 2, 3, 4], "val": [5, 6, 7]}))


def tnscui(root: Path) -> None:
    for number in range(3):
        picture(root / f"TNSCUI2020_train/image/{number}.PNG", grey(number))
        picture(root / f"TNSCUI2020_train/mask/{number}.PNG", blob())
    table(root / "TNSCUI2020_train/train.csv", [["ID", "CATE"], ["0.PNG", 1], ["1.PNG", 0], ["2.PNG", 1]])


def ddti_report(number: int, marks: Sequence[tuple[int, str]], tirads: str = "4a") -> str:
    """Return a case's XML: ``marks`` are (frame, svg text)."""
    inner = "".join(f"<mark><image>{frame}</image><svg>{svg}</svg></mark>" for frame, svg in marks)
    facts = (
        f"<number>{number}</number><age>49</age><sex>F</sex><composition>solid</composition><tirads>{tirads}</tirads>"
    )
    return f'<?xml version="1.0" encoding="UTF-8" standalone="no"?>\n<case>{facts}{inner}</case>'


def ddti_shape(left: int, top: int, side: int) -> dict[str, Any]:
    """Return a square contour as the archive writes it."""
    corners = [(left, top), (left + side, top), (left + side, top + side), (left, top + side)]
    return {"points": [{"x": x, "y": y} for x, y in corners], "annotation": {}, "regionType": "freehand"}


def ddti(root: Path) -> None:
    """Case 1 with two frames (two contours on the first), 2 with one picture of case 7, 3 damaged, 353 and 396."""
    for stem, seed in (
        ("1_1", 1),
        ("1_2", 2),
        ("2_1", 3),
        ("3_1", 4),
        ("4_1", 5),
        ("7_1", 3),
        ("353_1", 6),
        ("396_1", 7),
    ):
        picture(root / f"{stem}.jpg", grey(seed))
    two = json.dumps([ddti_shape(2, 3, 4), ddti_shape(12, 10, 6)])
    one = json.dumps([ddti_shape(5, 5, 8)])
    text(root / "1.xml", ddti_report(1, [(1, two), (2, one)]))
    text(root / "3.xml", ddti_report(3, [(1, one[:-30]), (2, one)]))
    text(root / "4.xml", ddti_report(4, []))
    for number in (2, 7, 353, 396):
        text(root / f"{number}.xml", ddti_report(number, [(1, one)], tirads=""))


def busi(root: Path) -> None:
    """Benign 1 with two masks, benign 2 and malignant 1 the same picture, one normal."""
    home = root / "Dataset_BUSI_with_GT"
    for label, number, seed in (("benign", 1, 1), ("benign", 2, 2), ("malignant", 1, 2), ("normal", 1, 3)):
        picture(home / label / f"{label} ({number}).png", np.repeat(grey(seed)[..., None], 3, axis=2))
        mask = np.zeros(SIZE, np.uint8) if label == "normal" else blob()
        picture(home / label / f"{label} ({number})_mask.png", mask > 0)
    picture(home / "benign/benign (1)_mask_1.png", blob(top=14) > 0)


def stanford_cine(root: Path) -> None:
    """Two clips of patient 10, one of patient 103, five frames each; read through :class:`FakeHdf5`."""
    clips = [clip for clip in ("10_1", "10_2", "103_") for _ in range(5)]
    path = root / "dataset.hdf5"
    with path.open("wb") as stream:
        np.savez(
            stream,
            image=np.stack([grey(number) for number in range(15)]),
            mask=np.stack([blob()] * 15),
            annot_id=np.array(clips, "S"),
            frame_num=np.array([str(number % 5 + 1) for number in range(15)], "S"),
        )
    rows = [["annot_id", "age", "sex", "location", "size_x", "ti-rads_level", "histopath_diagnosis"]]
    table(
        root / "metadata.csv",
        [*rows, *([clip, 50, "F", "left", 1.2, 4, "benign"] for clip in ("10_1", "10_2", "103_"))],
    )


class FakeHdf5:
    """As much of an h5py file as the reader uses, over a file of :func:`stanford_cine`."""

    def __init__(self, path: Path, mode: str) -> None:
        try:
            with np.load(path, allow_pickle=False) as store:
                self.arrays = dict(store)
        except (ValueError, EOFError) as error:
            raise OSError(str(error)) from None

    def __enter__(self) -> "FakeHdf5":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.arrays.clear()

    def __contains__(self, name: str) -> bool:
        return name in self.arrays

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[name]


def thyroidxl(root: Path) -> None:
    for side, patients in (("train", {"P1": 2, "P2": 1}), ("test", {"P9": 1})):
        info = {}
        for patient, count in patients.items():
            names = [f"{patient}_{number}.png" for number in range(count)]
            info[patient] = {"images": names, "label": "benign"}
            for name in names:
                picture(root / side / "images" / name, grey(len(name)))
                picture(root / side / "masks" / name, blob(value=1))
        text(root / side / f"{side}_annotations.json", json.dumps({"info": info}))


def msd(root: Path, task: str = "Task05_Prostate", *, channels: int = 2) -> None:
    home = root / task
    stems = ["prostate_00", "prostate_01"]
    for number, stem in enumerate(stems):
        nifti(home / f"imagesTr/{stem}.nii.gz", volume(number, channels=channels), (0.6, 0.6, 3.6))
        nifti(home / f"labelsTr/{stem}.nii.gz", labels([0, 1, 2]), (0.6, 0.6, 3.6))
    nifti(home / "imagesTs/prostate_03.nii.gz", volume(9, channels=channels))
    text(home / "imagesTr/._prostate_00.nii.gz", "clutter")
    content = {
        "name": "PROSTATE",
        "tensorImageSize": "4D",
        "modality": {"0": "T2", "1": "ADC"},
        "labels": {"0": "background", "1": "PZ", "2": "TZ"},
        "numTraining": 2,
        "numTest": 1,
        "training": [{"image": f"./imagesTr/{s}.nii.gz", "label": f"./labelsTr/{s}.nii.gz"} for s in stems],
        "test": ["./imagesTs/prostate_03.nii.gz"],
    }
    text(home / "dataset.json", json.dumps(content))


def acdc(root: Path) -> None:
    for side, number, pathology in (("training", 1, "DCM"), ("testing", 101, "NOR")):
        name = f"patient{number:03d}"
        home = root / "database" / side / name
        facts = f"ED: 1\nES: 12\nGroup: {pathology}\nHeight: 184.0\nNbFrame: 30\nWeight: 95.0\n"
        text(home / "Info.cfg", facts)
        nifti(home / f"{name}_4d.nii.gz", volume(3, channels=3))
        for frame in (1, 12):
            nifti(home / f"{name}_frame{frame:02d}.nii.gz", volume(frame), (1.4, 1.4, 10.0))
            nifti(home / f"{name}_frame{frame:02d}_gt.nii.gz", labels([0, 1, 2, 3]), (1.4, 1.4, 10.0))


def promise12(root: Path) -> None:
    """Two training cases, one test case with and one without segmentation."""
    import SimpleITK as sitk  # noqa: N813

    for folder, number, segmented in (
        ("training_data", 0, True),
        ("training_data", 13, True),
        ("test_data", 0, True),
        ("test_data", 1, False),
    ):
        home = root / folder
        home.mkdir(parents=True, exist_ok=True)
        for name, values in ((f"Case{number:02d}", volume(number)), (f"Case{number:02d}_segmentation", labels([0, 1]))):
            if name.endswith("segmentation") and not segmented:
                continue
            image = sitk.GetImageFromArray(values.transpose(2, 1, 0).astype(np.int16))
            image.SetSpacing((0.625, 0.625, 3.6))
            sitk.WriteImage(image, str(home / f"{name}.mhd"))


def brats(root: Path) -> None:
    """Two patients of 2020, the second with the segmentation's odd name, and one of 2021."""
    home = root / "MICCAI_BraTS2020_TrainingData"
    names = [home / "BraTS20_Training_001", home / "BraTS20_Training_355", root / "BraTS2021_00000"]
    for seed, folder in enumerate(names):
        for offset, channel in enumerate(("flair", "t1", "t1ce", "t2")):
            nifti(folder / f"{folder.name}_{channel}.nii", volume(10 * seed + offset))
        seg = "W39_1998.09.19_Segm" if folder.name.endswith("355") else f"{folder.name}_seg"
        nifti(folder / f"{seg}.nii", labels([0, 1, 2, 4]))
    header = [
        "Grade",
        "BraTS_2017_subject_ID",
        "BraTS_2018_subject_ID",
        "TCGA_TCIA_subject_ID",
        "BraTS_2019_subject_ID",
    ]
    rows = [[*header, "BraTS_2020_subject_ID"]]
    rows.append(
        ["HGG", "Brats17_CBICA_AAB_1", "Brats18_CBICA_AAB_1", "NA", "BraTS19_CBICA_AAB_1", "BraTS20_Training_001"]
    )
    rows.append(["LGG", "NA", "NA", "NA", "NA", "BraTS20_Training_355"])
    table(home / "name_mapping.csv", rows)


def lgg(root: Path) -> None:
    for patient, count in (("TCGA_CS_4941_19960909", 3), ("TCGA_HT_7473_19970826", 1)):
        for number in range(1, count + 1):
            stem = root / "kaggle_3m" / patient / f"{patient}_{number}"
            picture(stem.with_name(f"{stem.name}.tif"), np.repeat(grey(number)[..., None], 3, axis=2))
            picture(stem.with_name(f"{stem.name}_mask.tif"), blob())
    table(root / "kaggle_3m/data.csv", [["Patient", "RNASeqCluster"], ["TCGA_CS_4941", 2]])


def drive(root: Path) -> None:
    for folder, number, suffix in (("training", 21, "training"), ("training", 22, "training"), ("test", 1, "test")):
        home = root / "DRIVE" / folder
        picture(home / f"images/{number:02d}_{suffix}.tif", np.repeat(grey(number)[..., None], 3, axis=2))
        picture(home / f"1st_manual/{number:02d}_manual1.gif", blob())
        picture(home / f"mask/{number:02d}_{suffix}_mask.gif", blob())
    picture(root / "DRIVE/test/2nd_manual/01_manual2.gif", blob(top=14))


def chase_db1(root: Path) -> None:
    for name in ("01L", "01R", "02L"):
        picture(root / f"CHASEDB1/Image_{name}.jpg", np.repeat(grey(len(name))[..., None], 3, axis=2))
        for observer in ("1st", "2nd"):
            picture(root / f"CHASEDB1/Image_{name}_{observer}HO.png", blob() > 0)


def isbi2012(root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    for name, frames in (("train-volume", [grey(n) for n in range(12)]), ("train-labels", [255 - blob()] * 12)):
        first, *rest = (Image.fromarray(frame) for frame in frames)
        first.save(root / f"{name}.tif", save_all=True, append_images=rest)
    picture(root / "test-volume.tif", grey(99))


def kvasir(root: Path) -> None:
    for number, name in enumerate(("cju0qkwl35piu0993l0dewei2", "cju0qoxqj9q6s0835b43399p4")):
        picture(root / f"Kvasir-SEG/images/{name}.jpg", np.repeat(grey(number)[..., None], 3, axis=2))
        picture(root / f"Kvasir-SEG/masks/{name}.jpg", np.repeat(blob()[..., None], 3, axis=2), quality=75)
    text(root / "Kvasir-SEG/kavsir_bboxes.json", "{}")


def isic(root: Path) -> None:
    for side, first in (("Training", 0), ("Validation", 10), ("Test", 20)):
        for number in (first, first + 1):
            name = f"ISIC_{number:07d}"
            picture(root / f"ISIC2018_Task1-2_{side}_Input/{name}.jpg", np.repeat(grey(number)[..., None], 3, axis=2))
            picture(root / f"ISIC2018_Task1_{side}_GroundTruth/{name}_segmentation.png", blob())
        text(root / f"ISIC2018_Task1-2_{side}_Input/ATTRIBUTION.txt", "")
    table(root / "metadata.csv", [["isic_id", "lesion_id"], ["ISIC_0000000", "IL_1"], ["ISIC_0000001", "IL_1"]])


def chest_xray(root: Path) -> None:
    home = root / "MontgomerySet"
    for name in ("MCUCXR_0001_0", "MCUCXR_0104_1"):
        picture(home / f"CXR_png/{name}.png", grey(len(name)))
        picture(home / f"ManualMask/leftMask/{name}.png", blob(top=2) > 0)
        picture(home / f"ManualMask/rightMask/{name}.png", blob(top=13) > 0)
        text(home / f"ClinicalReadings/{name}.txt", "Patient's Sex: F")
    for name in ("CHNCXR_0001_0", "CHNCXR_0330_1"):
        picture(root / f"ChinaSet_AllFiles/CXR_png/{name}.png", np.repeat(grey(len(name))[..., None], 3, axis=2))
    picture(root / "mask/CHNCXR_0001_0_mask.png", blob())


MAKERS: dict[str, Callable[[Path], None]] = {
    maker.__name__: maker
    for maker in (
        tn3k, tg3k, tnscui, ddti, busi, stanford_cine, thyroidxl, msd, acdc, promise12, brats, lgg, drive, chase_db1,
        isbi2012, kvasir, isic, chest_xray,
    )
}  # fmt: skip
"""Name of the preparer's module to the maker of its layout."""
