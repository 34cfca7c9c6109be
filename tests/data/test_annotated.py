"""The manifest column that says which classes a case annotates: read, checked against the masks, served in batches."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fake_partial import CLASSES, write_partial_dataset
from fake_volumes import write_volume_dataset
from fakes import write_dataset
from medseg.data.cache import Reading, content_hashes, dataset_digest, entry_key
from medseg.data.cases import Case, annotated_classes
from medseg.data.datamodule import SegmentationData
from medseg.data.preprocess import Preprocess
from medseg.data.sources.folder import read_manifest
from medseg.data.splits import twins_grouped
from medseg.data.views import Patches, Slices
from medseg.errors import DataError
from medseg.types import IGNORE, DataCard
from tiny import make_data
from tiny_volumes import make_volumes

LABELS = {0: 0, 1: 1, 2: 2}


def case(text: str | None) -> Case:
    return Case("c1", "p1", (Path("i.png"),), (Path("m.png"),), attributes={} if text is None else {"annotated": text})


def partial_data(folder: Path, **changes: object) -> SegmentationData:
    if not (folder / "set").exists():
        write_partial_dataset(folder / "set")
    return make_data(folder, card=DataCard("partial", 1, 3, CLASSES), labels=LABELS, **changes)


def rewritten(root: Path, values: dict[str, str]) -> None:
    """Write the column ``annotated`` anew for some cases."""
    lines = (root / "manifest.csv").read_text().splitlines()
    place = lines[0].split(",").index("annotated")
    rows = [line.split(",") for line in lines[1:]]
    for row in rows:
        row[place] = values.get(row[0], row[place])
    (root / "manifest.csv").write_text("\n".join([lines[0], *(",".join(row) for row in rows)]) + "\n")


# ---- the column


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, (True, True, True)),
        ("", (True, True, True)),
        (" ", (True, True, True)),
        ("nodule", (True, False, True)),
        ("gland", (True, True, False)),
        ("nodule; gland", (True, True, True)),
        ("gland;", (True, True, False)),
    ],
)
def test_named_classes_were_annotated_and_no_name_means_all(text: str | None, expected: tuple[bool, ...]) -> None:
    assert annotated_classes(case(text), classes=CLASSES) == expected


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("nodul", "names 'nodul', which is no foreground class"),
        ("background;nodule", "names 'background', which is no foreground class"),
        ("nodule,gland", "names 'nodule,gland', which is no foreground class"),
        (";", "names no class"),
    ],
)
def test_other_names_and_no_class_at_all_are_one_line(text: str, fault: str) -> None:
    with pytest.raises(DataError) as caught:
        annotated_classes(case(text), classes=CLASSES)
    assert str(caught.value).startswith(f"case 'c1': annotated '{text}' {fault}; name some of gland, nodule")
    assert "\n" not in str(caught.value)


def test_wrong_names_are_counted_before_a_file_is_opened(tmp_path: Path) -> None:
    root = write_partial_dataset(tmp_path / "set")
    rewritten(root, {"p01": "lump", "p04": "lump"})
    for path in (root / "masks").iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match=r"case 'p01': annotated 'lump' .*\(1 more problem\(s\) in dataset 'partial'\)"):
        partial_data(tmp_path)


def test_a_mask_with_a_class_that_is_not_annotated_is_named(tmp_path: Path) -> None:
    root = write_partial_dataset(tmp_path / "set")
    mask = np.array(Image.open(root / "masks" / "p03.png"))
    mask[0, 0] = 1  # a single pixel, which the network's grid would lose
    Image.fromarray(mask).save(root / "masks" / "p03.png")
    expected = (
        r"^case 'p03': its mask \S+p03\.png holds class 'gland', which the manifest column 'annotated' \('nodule'\)"
    )
    with pytest.raises(DataError, match=expected) as caught:
        partial_data(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_column_that_changes_after_caching_is_held_against_the_masks_again(tmp_path: Path) -> None:
    first = partial_data(tmp_path)
    rewritten(tmp_path / "set", {"p03": "gland"})
    with pytest.raises(DataError, match=r"case 'p03': its mask .* holds class 'nodule'"):
        partial_data(tmp_path)
    rewritten(tmp_path / "set", {"p03": "gland;nodule"})
    again = partial_data(tmp_path)
    assert again.digest != first.digest


def test_volumes_are_held_against_the_column_too(tmp_path: Path) -> None:
    root = write_volume_dataset(tmp_path / "volumes", patients=6, folds=3, classes=3)
    lines = (root / "manifest.csv").read_text().splitlines()
    names = ["annotated", "outer", *[""] * (len(lines) - 2)]
    (root / "manifest.csv").write_text("\n".join(f"{a},{b}" for a, b in zip(lines, names, strict=True)) + "\n")
    card = DataCard("fake", 1, 3, ["background", "outer", "inner"], 3, "mm", patch=[8, 16, 16])
    with pytest.raises(DataError, match=r"case 'p00_0': its mask \S+ holds class 'inner'.*\('outer'\)"):
        make_volumes(tmp_path, card=card, labels=LABELS)


# ---- batches


def test_batches_say_what_each_case_annotates(tmp_path: Path) -> None:
    data = partial_data(tmp_path)
    assert data.partly_annotated("train", "val")
    wanted = {case.id: annotated_classes(case, classes=CLASSES) for side in ("train", "val", "test") for case in
              data.cases(side)}  # fmt: skip
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        for batch in loader:
            assert batch["annotated"].dtype == torch.bool
            assert [tuple(row) for row in batch["annotated"].tolist()] == [wanted[name] for name in batch["case"]]


def test_patches_of_pictures_carry_it(tmp_path: Path) -> None:
    data = partial_data(tmp_path, view=Patches(dims=2, samples="in_2d", size=(16, 16), epoch_samples=12))
    (first, *_) = data.train_dataloader()
    assert first["annotated"].shape == (4, 3)
    annotated = {case.id: annotated_classes(case, classes=CLASSES) for case in data.cases("train")}
    assert [tuple(row) for row in first["annotated"].tolist()] == [annotated[name] for name in first["case"]]


@pytest.mark.parametrize("view", [Slices(size=(16, 16), epoch_samples=4), Patches(size=(8, 16, 16), epoch_samples=4)])
def test_slices_and_patches_of_volumes_carry_it(tmp_path: Path, view: Slices | Patches) -> None:
    root = write_volume_dataset(tmp_path / "volumes", patients=6, folds=3)
    lines = (root / "manifest.csv").read_text().splitlines()
    (root / "manifest.csv").write_text(
        "\n".join([f"{lines[0]},annotated", *(f"{row},organ" for row in lines[1:])]) + "\n"
    )
    card = DataCard("fake", 1, 3, ["background", "organ", "cyst"], 3, "mm", patch=[8, 16, 16])
    data = make_volumes(tmp_path, card=card, view=view)
    for batch in (next(iter(data.train_dataloader())), next(iter(data.test_dataloader()))):
        assert batch["annotated"].tolist() == [[True, True, False]] * len(batch["case"])


def test_twins_annotate_what_their_originals_do(tmp_path: Path) -> None:
    data = partial_data(tmp_path, split=partial(twins_grouped, seed=0))
    assert all(case.attributes["annotated"] for side in ("train", "val", "test") for case in data.cases(side))


def test_ignored_pixels_and_partial_cases_go_together(tmp_path: Path) -> None:
    write_partial_dataset(tmp_path / "set")
    path = tmp_path / "set" / "masks" / "p00.png"
    mask = np.array(Image.open(path))
    mask[:5] = 9
    Image.fromarray(mask).save(path)
    data = make_data(tmp_path, card=DataCard("partial", 1, 3, CLASSES), labels={**LABELS, 9: IGNORE})
    assert (data.read(next(case for case in data.cases("test") if case.id == "p00"))[1][:5] == IGNORE).all()


# ---- datasets without the column


def test_without_the_column_nothing_changes(tmp_path: Path) -> None:
    data = make_data(tmp_path)
    assert not data.partly_annotated("train", "val", "test")
    assert data.side("train").annotated is None
    for loader in (data.train_dataloader(), data.test_dataloader()):
        assert all("annotated" not in batch for batch in loader)


def test_a_column_that_leaves_nothing_out_adds_nothing_to_batches(tmp_path: Path) -> None:
    root = write_partial_dataset(tmp_path / "set")
    rewritten(root, {f"p{number:02d}": "gland;nodule" if number % 2 else "" for number in range(12)})
    data = partial_data(tmp_path)
    assert all("annotated" not in batch for batch in data.train_dataloader())


def test_keys_and_digests_of_datasets_without_the_column_are_those_of_before(tmp_path: Path) -> None:
    import hashlib

    cases = read_manifest(write_dataset(tmp_path / "set", patients=3))
    hashes = content_hashes(cases)
    labels = {0: 0, 255: 1}
    plain = Reading(Preprocess(size=32), channels=1, labels=labels)
    rows = [[each.id, [hashes[path] for path in each.images if path], [hashes[path] for path in each.masks]]
            for each in sorted(cases, key=lambda each: each.id)]  # fmt: skip
    content = {
        "version": 2,
        "recipe": plain.preprocess.recipe,
        "reading": [1, [[0, 0], [255, 1]], 127],
        "cases": [[*row, None] for row in rows],
    }
    key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:20]
    named = Reading(Preprocess(size=32), channels=1, labels=labels, classes=("background", "nodule"))
    assert entry_key(cases, hashes, plain) == entry_key(cases, hashes, named) == key
    patients = {each.id: each.patient for each in cases}
    digest = hashlib.sha256(json.dumps([[*row, patients[row[0]]] for row in rows]).encode()).hexdigest()  # type: ignore[index]
    assert dataset_digest(cases, hashes) == digest
