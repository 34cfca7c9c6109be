"""Every fault that files can have becomes a finding; none is read without a word."""

import gzip
import hashlib
import io
import json
import shutil
import tempfile
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fake_faults import (
    CASE,
    PICTURE_ERRORS,
    PICTURE_WARNINGS,
    VOLUME_ERRORS,
    VOLUME_WARNINGS,
    change_row,
    cut,
    flip,
    image_of,
    mask_of,
    nifti,
    pixels,
)
from fake_volumes import write_volume_dataset
from fakes import draw_pair, write_dataset
from medseg.data.files import read_case, read_mask
from medseg.data.inspection.across import list_findings
from medseg.data.inspection.examine import Expected, examine
from medseg.data.inspection.figures import label_figures
from medseg.data.inspection.findings import KINDS, SEVERITIES, Collector, faulty_cases, write_findings
from medseg.data.inspection.fingerprint import fingerprint, read_fingerprint, stamp, write_cases, write_fingerprint
from medseg.data.inspection.integrity import scan
from medseg.data.inspection.quarantine import write_manifest, write_quarantine
from medseg.data.inspection.survey import Survey, survey
from medseg.data.sources.folder import read_manifest
from medseg.errors import DataError
from medseg.types import IGNORE, DataCard

PICTURES = Expected(1, {0: 0, 255: 1})
VOLUMES = Expected(1, {0: 0, 1: 1}, dims=3)
NAMES = ("background", "nodule")


def surveyed(root: Path, expected: Expected = PICTURES, **options) -> Survey:
    return survey(read_manifest(root), expected, names=NAMES, root=root, **{"workers": 2, **options})


def kinds(found: Survey, case: str = CASE) -> dict[str, str]:
    return {one.kind: one.severity for one in found.findings if one.case == case}


@pytest.fixture(scope="module")
def clean(tmp_path_factory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("clean"), patients=3, images_per_patient=2, size=(44, 52))


@pytest.fixture(scope="module")
def clean_volumes(tmp_path_factory) -> Path:
    return write_volume_dataset(tmp_path_factory.mktemp("volumes"), patients=3, codes="RAS")


@pytest.fixture
def root(clean, tmp_path) -> Path:
    return Path(shutil.copytree(clean, tmp_path / "set"))


@pytest.fixture
def volumes(clean_volumes, tmp_path) -> Path:
    return Path(shutil.copytree(clean_volumes, tmp_path / "volumes"))


def test_a_clean_dataset_has_no_error_and_no_warning(clean, clean_volumes):
    assert {one.kind for one in surveyed(clean).findings} == {"label-values"}
    assert {one.kind for one in surveyed(clean_volumes, VOLUMES).findings} == {"label-values"}


@pytest.mark.parametrize("name", PICTURE_ERRORS)
def test_an_error_in_a_picture_dataset_is_found_in_its_case_alone(name, root):
    kind, inject = PICTURE_ERRORS[name]
    inject(root)
    found = surveyed(root)
    assert any((one.kind, one.severity) == (kind, "error") for one in found.findings), found.findings
    assert len(faulty_cases(found.findings)) == 1


@pytest.mark.parametrize("name", PICTURE_WARNINGS)
def test_an_oddity_of_a_picture_dataset_is_found_and_training_may_read_it(name, root):
    kind, inject = PICTURE_WARNINGS[name]
    inject(root)
    found = surveyed(root)
    assert {one.kind: one.severity for one in found.findings}.get(kind) in ("warning", "note"), found.findings
    assert found.faulty == []
    for case in read_manifest(root):
        read_case(case, channels=1, labels=PICTURES.labels)


@pytest.mark.parametrize("name", VOLUME_ERRORS)
def test_an_error_in_a_volume_dataset_is_found_in_its_case_alone(name, volumes):
    kind, inject = VOLUME_ERRORS[name]
    inject(volumes)
    found = surveyed(volumes, VOLUMES)
    assert any((one.kind, one.severity) == (kind, "error") for one in found.findings), found.findings
    assert len(faulty_cases(found.findings)) == 1


@pytest.mark.parametrize("name", VOLUME_WARNINGS)
def test_an_oddity_of_a_volume_dataset_is_found(name, volumes):
    kind, inject = VOLUME_WARNINGS[name]
    inject(volumes)
    found = surveyed(volumes, VOLUMES)
    assert kinds(found).get(kind) in ("warning", "note"), found.findings
    assert found.faulty == []


@pytest.mark.parametrize("name", {**PICTURE_ERRORS, **PICTURE_WARNINGS})
def test_whatever_the_reader_of_training_refuses_is_an_error(name, root):
    _, inject = {**PICTURE_ERRORS, **PICTURE_WARNINGS}[name]
    inject(root)
    refused = set()
    for case in read_manifest(root):
        try:
            read_case(case, channels=1, labels=PICTURES.labels)
        except DataError:
            refused.add(case.id)
    assert refused <= set(surveyed(root).faulty)


@pytest.mark.parametrize(
    ("sort", "name"), [*(("pictures", name) for name in PICTURE_ERRORS), *(("volumes", name) for name in VOLUME_ERRORS)]
)
def test_a_finding_names_case_file_figures_and_way_out_on_one_line(sort, name, request):
    folder = request.getfixturevalue("root" if sort == "pictures" else "volumes")
    expected = PICTURES if sort == "pictures" else VOLUMES
    (PICTURE_ERRORS if sort == "pictures" else VOLUME_ERRORS)[name][1](folder)
    for one in surveyed(folder, expected).findings:
        assert one.severity in SEVERITIES and one.what and one.remedy and "\n" not in one.what + one.remedy
        if one.severity == "error" and one.kind not in ("duplicate-id", "no-group", "folds-cut-group", "no-mask"):
            assert Path(one.file).name.split(".")[0] in (*(f"p0{n}_{m}" for n in range(3) for m in range(2)), "x", "")


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 7))
def test_any_flipped_bit_of_a_png_is_damage(place, bit):
    image, _ = draw_pair(0, size=(24, 28))
    stream = io.BytesIO()
    Image.fromarray(image.squeeze()).save(stream, format="PNG")
    content = bytearray(stream.getvalue())
    place = 8 + place % (len(content) - 8)  # the signature apart: without it the file is no PNG at all
    content[place] ^= 1 << bit
    assert "damaged" in scanned(bytes(content))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_a_png_or_jpeg_cut_anywhere_is_damage(length, progressive):
    image, _ = draw_pair(1, size=(40, 44))
    for options in ({"format": "PNG"}, {"format": "JPEG", "progressive": progressive}):
        stream = io.BytesIO()
        Image.fromarray(image.squeeze()).save(stream, **options)
        whole = stream.getvalue()
        assert scanned(whole) == set()
        assert "damaged" in scanned(whole[: 8 + length % (len(whole) - 8)])


@settings(max_examples=60, deadline=None)
@given(st.binary(min_size=1, max_size=3000), st.integers(0, 10**6), st.integers(0, 7))
def test_a_gzip_with_flipped_content_never_passes(content, place, bit):
    packed = bytearray(gzip.compress(content, mtime=0))
    assert scanned(bytes(packed)) == set()
    place = 10 + place % (len(packed) - 10)  # the header names no content
    packed[place] ^= 1 << bit
    try:
        same = gzip.decompress(bytes(packed)) == content
    except (zlib.error, EOFError, OSError):
        same = False
    assert same or scanned(bytes(packed))


def test_several_gzip_members_in_a_row_are_whole():
    assert scanned(gzip.compress(b"a" * 5000) + gzip.compress(b"b" * 5000)) == set()


def scanned(content: bytes) -> set[str]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(content)
        collector = Collector("case")
        scan(path, collector, recorded={})
    return {one.kind for one in collector.found}


def test_a_jpeg_mask_is_read_at_the_threshold_without_loss(tmp_path):
    _, mask = draw_pair(5, size=(96, 96))
    Image.fromarray(mask).save(tmp_path / "m.jpg", quality=75)
    read = read_mask(tmp_path / "m.jpg", labels={0: 0, 255: 1})
    truth = mask > 0
    assert 2 * (read.astype(bool) & truth).sum() / (read.sum() + truth.sum()) == 1.0


def test_files_in_which_a_flipped_bit_would_not_be_seen_are_counted_unless_their_hash_is_recorded(root):
    path = image_of(root, ".jpg")
    mask_of(root, ".bmp")
    notes = [one for one in surveyed(root).findings if one.kind == "unprotected"]
    assert len(notes) == 1 and notes[0].what.startswith("2 file(s)") and "SHA256SUMS" in notes[0].remedy
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    (root / "SHA256SUMS").write_text(f"{digest}  images/{path.name}\n")
    assert next(one for one in surveyed(root).findings if one.kind == "unprotected").what.startswith("1 file(s)")
    flip(path, 0.6)
    assert kinds(surveyed(root))["checksum"] == "error"


def test_a_case_with_one_refused_mask_of_two_has_no_class_figures(root):
    change_row(root, mask=f"masks/{CASE}.png;masks/p00_1.png")
    Image.fromarray(pixels(mask_of(root)) // 255).save(mask_of(root))
    found = surveyed(root)
    assert {one.kind for one in found.findings if one.case == CASE and one.severity == "error"} >= {"undeclared-values"}
    assert next(case for case in found.figures if case.case == CASE).counts == {}


def test_a_jpeg_mask_of_three_classes_is_an_error(root):
    mask_of(root, ".jpg", quality=60)
    found = surveyed(root, Expected(1, {0: 0, 128: 1, 255: 2}))
    assert kinds(found)["jpeg-mask-classes"] == "error"


def test_masks_in_other_values_come_with_the_labels_that_would_fit(root):
    for path in (root / "masks").iterdir():
        Image.fromarray(pixels(path) // 255).save(path)
    found = surveyed(root)
    suggestion = next(one for one in found.findings if one.kind == "label-values")
    assert "labels: {0: 0, 1: 1}" in suggestion.remedy and "1 (" in suggestion.what
    assert surveyed(root, Expected(1, {0: 0, 1: 1})).faulty == []


def test_a_resized_mask_is_called_interpolated(root):
    PICTURE_ERRORS["bilinearly resized mask"][1](root)
    assert any("interpolated" in one.remedy for one in surveyed(root).findings)


def test_a_missing_modality_is_a_note_and_the_others_are_compared(tmp_path):
    folder = write_volume_dataset(tmp_path, patients=2, channels=2, missing={"p01_0": [1]})
    found = surveyed(folder, Expected(2, {0: 0, 1: 1}, dims=3))
    assert kinds(found, "p01_0") == {"missing-modality": "note"}
    figures = {case.case: case for case in found.figures}
    assert figures["p01_0"].channels[1] is None and figures["p00_0"].channels[1] is not None


def test_channels_of_different_grids_are_an_error(tmp_path):
    folder = write_volume_dataset(tmp_path, patients=2, channels=2)
    path = folder / "images" / f"{CASE}_0001.nii.gz"
    (folder / "images" / f"{CASE}.nii.gz").write_bytes(path.read_bytes())
    nifti(folder, "images", lambda voxels, affine: (voxels[:, :-2], affine))
    path.write_bytes((folder / "images" / f"{CASE}.nii.gz").read_bytes())
    (folder / "images" / f"{CASE}.nii.gz").unlink()
    found = surveyed(folder, Expected(2, {0: 0, 1: 1}, dims=3))
    assert kinds(found)["size-mismatch"] == "error" and found.faulty == [CASE]


def test_two_channels_that_are_one_image_are_a_warning(tmp_path):
    folder = write_volume_dataset(tmp_path, patients=2, channels=2)
    first, second = (folder / "images" / f"{CASE}_000{number}.nii.gz" for number in (0, 1))
    second.write_bytes(first.read_bytes())
    assert kinds(surveyed(folder, Expected(2, {0: 0, 1: 1}, dims=3)))["same-channels"] == "warning"


def test_other_orientations_are_a_note_and_no_mismatch(volumes):
    for part in ("images", "masks"):
        nifti(volumes, part, lambda voxels, affine: (voxels[::-1], affine @ flipped(voxels.shape[0])))
    found = surveyed(volumes, VOLUMES)
    assert kinds(found) == {"orientation": "note"}


def test_a_mask_stored_in_another_orientation_than_its_image_fits(volumes):
    nifti(volumes, "masks", lambda voxels, affine: (voxels[::-1], affine @ flipped(voxels.shape[0])))
    assert surveyed(volumes, VOLUMES).faulty == []


def flipped(side: int) -> np.ndarray:
    turn = np.diag([-1.0, 1.0, 1.0, 1.0])
    turn[0, 3] = side - 1
    return turn


def test_cubes_of_1_mm_in_a_flat_stack_are_doubted(tmp_path):
    folder = write_volume_dataset(tmp_path, patients=2, shape=(5, 40, 40), spacing=(1, 1, 1), sizes_differ=False)
    in_mm = Expected(1, VOLUMES.labels, dims=3, unit="mm")
    assert "spacing-doubtful" in {one.kind for one in surveyed(folder, in_mm).findings}
    assert "spacing-doubtful" not in {one.kind for one in surveyed(folder, VOLUMES).findings}


def test_a_physical_unit_needs_the_spacing_of_every_picture(root):
    change_row(root, spacing="0.1x0.2")
    found = surveyed(root, Expected(1, PICTURES.labels, unit="mm"))
    assert "spacing-unknown" not in kinds(found) and kinds(found, "p00_1")["spacing-unknown"] == "error"
    assert next(case for case in found.figures if case.case == CASE).spacing == (0.1, 0.2)


def test_an_empty_list_is_an_error():
    assert [one.kind for one in list_findings([])] == ["no-cases"]


def test_threads_change_nothing(root):
    flip(image_of(root), 0.6)
    one, many = surveyed(root, workers=1), surveyed(root, workers=3)
    assert one.findings == many.findings
    assert [case.case for case in one.figures] == [case.case for case in many.figures]
    assert all((a.channels[0].sample == b.channels[0].sample).all()
               for a, b in zip(one.figures, many.figures, strict=True))  # fmt: skip


def test_the_values_kept_of_all_cases_are_bounded(root, monkeypatch):
    monkeypatch.setattr("medseg.data.inspection.survey.SAMPLED_VALUES", 6 * 100)
    assert {len(case.channels[0].sample) for case in surveyed(root).figures} == {100}


def test_pieces_are_counted_by_their_corners_and_ignored_pixels_apart():
    labels = np.zeros((8, 9), np.uint8)
    labels[0, 0] = labels[1, 1] = labels[5:7, 5] = 1
    labels[7, 8] = 2
    labels[3, 3] = IGNORE
    counts, pieces = label_figures(labels)
    assert counts == {0: 66, 1: 4, 2: 1, IGNORE: 1} and pieces == {1: 2, 2: 1}


def test_the_fingerprint_holds_the_figures_of_the_files(root, tmp_path):
    found = surveyed(root)
    card = DataCard("set", 1, 2, list(NAMES))
    figures = fingerprint(found, card=card, digest="d", stamp="s")
    path = tmp_path / "fingerprint.json"
    write_fingerprint(path, figures)
    assert read_fingerprint(path) == json.loads(json.dumps(figures))
    images = [pixels(case.images[0]).astype(float) for case in read_manifest(root)]
    masks = [pixels(case.masks[0]) > 0 for case in read_manifest(root)]
    mean = np.mean([image.mean() for image in images])
    power = np.mean([(image**2).mean() for image in images])
    channel = figures["channels"][0]
    assert channel["mean"] == pytest.approx(mean) and channel["std"] == pytest.approx(np.sqrt(power - mean**2))
    inside = np.concatenate([image[mask] for image, mask in zip(images, masks, strict=True)])
    assert channel["foreground"]["p50"] == pytest.approx(np.median(inside), abs=1)
    nodule = figures["classes"][1]
    sizes = [mask.sum() for mask in masks]
    assert nodule["cases"] == 6 and nodule["pixels"]["max"] == max(sizes) and nodule["pieces"]["max"] == 1
    assert nodule["prevalence"] == pytest.approx(sum(sizes) / sum(mask.size for mask in masks))
    assert figures["sizes"] == {"44x52": 3, "48x52": 3} and figures["patients"] == 3
    assert (figures["digest"], figures["stamp"], figures["spacing"]) == ("d", "s", None)


def test_the_fingerprint_leaves_out_cases_with_errors(root):
    cut(image_of(root), 0.5)
    figures = fingerprint(surveyed(root), card=DataCard("set", 1, 2, list(NAMES)), digest=None)
    assert (figures["cases"], figures["left_out"], figures["findings"]["error"] > 0) == (5, 1, True)


def test_the_fingerprint_of_volumes_knows_spacing_and_extent(volumes):
    figures = fingerprint(
        surveyed(volumes, VOLUMES), card=DataCard("v", 1, 2, list(NAMES), spatial_dims=3), digest=None
    )
    assert figures["spacing"]["p50"] == [2.0, 1.0, 1.0] and figures["anisotropy"] == 2.0
    assert figures["size"]["p50"] == [12, 20, 24] and figures["extent"]["p50"] == [24, 20, 24]
    assert figures["orientations"] == {"RAS": 3}


def test_a_fingerprint_of_another_version_is_refused(tmp_path):
    (tmp_path / "f.json").write_text('{"version": 0}')
    with pytest.raises(DataError, match="version 0"):
        read_fingerprint(tmp_path / "f.json")
    with pytest.raises(DataError, match="medseg data check"):
        read_fingerprint(tmp_path / "none.json")


def test_the_stamp_changes_with_a_file_and_with_the_labels(root):
    cases = read_manifest(root)
    before = stamp(cases, PICTURES)
    assert before == stamp(read_manifest(root), PICTURES) != stamp(cases, Expected(1, {0: 0, 1: 1}))
    image_of(root).open("ab").write(b"x")
    assert stamp(cases, PICTURES) != before


def test_cases_csv_has_a_row_for_every_case_also_the_unreadable(root, tmp_path):
    import pandas as pd

    image_of(root).write_bytes(b"")
    write_cases(tmp_path / "cases.csv", surveyed(root), classes=NAMES)
    table = pd.read_csv(tmp_path / "cases.csv").set_index("case")
    assert len(table) == 6 and table.loc[CASE, "findings"] == "empty-file" and pd.isna(table.loc[CASE, "size"])
    assert table.loc["p01_1", "nodule_pixels"] == (pixels(root / "masks" / "p01_1.png") > 0).sum()


def test_quarantine_lists_every_faulty_case_and_the_manifest_holds_the_rest(root, tmp_path):
    cut(image_of(root), 0.5)
    mask = root / "masks" / "p02_1.png"
    mask.unlink()
    found = surveyed(root)
    assert write_quarantine(tmp_path / "q.csv", found) == 2
    write_manifest(tmp_path / "manifest.csv", found.sound, root=root)
    listed = (tmp_path / "q.csv").read_text(encoding="utf-8")
    assert CASE in listed and "p02_1" in listed and "p02_0" not in listed
    left = read_manifest(root, manifest=str(tmp_path / "manifest.csv"))
    assert left == [case for case in read_manifest(root) if case.id not in (CASE, "p02_1")]


def test_findings_are_written_errors_first(root, tmp_path):
    import pandas as pd

    cut(image_of(root), 0.5)
    Image.fromarray(0 * pixels(root / "masks" / "p01_0.png")).save(root / "masks" / "p01_0.png")
    write_findings(tmp_path / "f.csv", surveyed(root).findings)
    table = pd.read_csv(tmp_path / "f.csv", keep_default_na=False)
    order = [SEVERITIES.index(severity) for severity in table["severity"]]
    assert order == sorted(order) and set(table["kind"]) <= set(KINDS) and (table["remedy"] != "").all()


def test_examining_never_raises_on_bad_files(root):
    check = partial(examine, expected=PICTURES)
    for content in (
        b"",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff",
        b"\xff\xd8\xff\xe0\x00",
        b"BM",
        b"II*\x00",
        b"\x00" * 90,
    ):
        image_of(root).write_bytes(content)
        figures, findings = check(read_manifest(root)[0])
        assert figures is None and any(one.severity == "error" for one in findings)
