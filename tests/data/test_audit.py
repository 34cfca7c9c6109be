"""The leak audit against copies made here, and its certificate against edits."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from medseg.data.audit.audit import Audit, audit
from medseg.data.audit.certificate import audit_key, certify, verify_certificate
from medseg.data.audit.findings import Finding, shared_groups
from medseg.data.audit.hashes import close_pairs, dihedral, dihedral_matrix, distances, perceptual_hashes
from medseg.data.audit.neighbours import ANGLES, correlate, polar, spectra
from medseg.data.audit.pairs import Thresholds, picture_pairs
from medseg.data.audit.prints import PICTURE, picture_print, print_of, prints_of
from medseg.data.audit.verify import Verifier
from medseg.data.cases import Case
from medseg.data.splits import SIDES, Split
from medseg.data.twins import add_twins
from medseg.errors import ConfigError, DataError
from medseg.rng import generator

NUMBERS = Thresholds()


def draw_picture(seed: int, size: tuple[int, int] = (180, 220)) -> np.ndarray:
    """Return a grey picture of random blobs with grain, different for every seed."""
    rng = generator(seed, "audit picture")
    height, width = size
    coarse = sum(
        cv2.resize(rng.normal(size=(side, side)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
        for side in (5, 9, 17, 33)
    )
    return np.clip(110 + 35 * coarse + rng.normal(0, 5, size), 20, 255).astype(np.uint8)


def write(folder: Path, pictures: dict[str, np.ndarray]) -> dict[str, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = {name: folder / f"{name}.png" for name in pictures}
    for name, grey in pictures.items():
        Image.fromarray(np.ascontiguousarray(grey)).save(paths[name])
    return paths


def case_of(path: Path, patient: str, name: str | None = None) -> Case:
    return Case(id=name or path.stem, patient=patient, images=(path,))


def audited(train: Sequence[Case], test: Sequence[Case], **changes: object) -> Audit:
    return audit({"train": train, "val": [], "test": test}, thresholds=replace(NUMBERS, **changes))  # type: ignore[arg-type]


def only(result: Audit, kind: str) -> Finding:
    found = [finding for finding in result.findings if finding.kind == kind]
    assert len(found) == 1, result.findings
    return found[0]


@pytest.mark.parametrize("number", range(8))
def test_hash_distance_knows_no_flip_or_quarter_turn(number: int) -> None:
    square = draw_picture(1, (200, 200))
    first = perceptual_hashes(square)
    distance, flip = distances(first[:1], perceptual_hashes(np.ascontiguousarray(dihedral(square, number)))[None])
    assert distance[0, 0] <= 2
    undone = dihedral(dihedral(square, number), int(flip[0, 0]))
    np.testing.assert_array_equal(undone, square)


@pytest.mark.parametrize("number", range(8))
def test_flip_matrix_says_where_a_flip_takes_its_pixels_from(number: int) -> None:
    square = np.arange(25.0).reshape(5, 5)
    flipped = dihedral(square, number)
    for x, y in ((-2, 1), (0, 2), (1, -1)):
        u, v = (dihedral_matrix(number) @ [x, y]).astype(int)
        assert flipped[y + 2, x + 2] == square[v + 2, u + 2]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), limit=st.integers(0, 30))
def test_close_pairs_are_those_that_counting_bits_one_by_one_finds(seed: int, limit: int) -> None:
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 2**63, (7, 8), dtype=np.uint64)
    hashes[3, 5] = hashes[1, 0] ^ np.uint64(7)
    wanted = {}
    for i in range(7):
        for j in range(i + 1, 7):
            bits = min(bin(int(hashes[i, 0]) ^ int(hashes[j, number])).count("1") for number in range(8))
            if bits <= limit:
                wanted[i, j] = bits
    assert {(i, j): bits for i, j, bits, _ in close_pairs(hashes, limit=limit)} == wanted


def test_polar_correlation_finds_the_turn_and_the_mirror() -> None:
    detail = cv2.GaussianBlur(generator(4, "detail").normal(size=(128, 128)).astype(np.float32), (0, 0), 3)
    centre = (63.5, 63.5, 64.0)
    for step in (0, 5, 31):
        matrix = cv2.getRotationMatrix2D((63.5, 63.5), 360 * step / ANGLES, 1.0)  # counter-clockwise on the screen
        moved = cv2.warpAffine(detail, matrix, (128, 128))
        both = spectra(np.stack([polar(detail, centre), polar(moved, centre), polar(moved[::-1].copy(), centre)]))
        score, found, mirrored = correlate(both[:, :1], both[:, 1:])
        assert score.min() > 0.9 and found[0, 0] == step
        assert not mirrored[0, 0] and mirrored[0, 1]


CHANGES = {
    "mirrored": lambda grey: grey[:, ::-1],
    "turned 90": np.rot90,
    "half": lambda grey: cv2.resize(grey, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    "jpeg": lambda grey: cv2.imdecode(cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, 50])[1], 0),
    "gamma": lambda grey: np.rint(255 * (grey / 255.0) ** 0.7).astype(np.uint8),
    "turned 12": lambda grey: cv2.warpAffine(grey, cv2.getRotationMatrix2D((109.5, 89.5), 12, 1.0), grey.shape[::-1]),
    "cut": lambda grey: grey[15:177, 2:200],
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_copy_is_found_among_strangers_and_strangers_are_not(change: str) -> None:
    pictures = [draw_picture(seed) for seed in range(12)]
    pictures.append(np.ascontiguousarray(CHANGES[change](pictures[4])))
    prints = np.stack([print_of(grey) for grey in pictures])
    pairs, unchecked = picture_pairs(prints, NUMBERS, read=pictures.__getitem__)
    assert [(pair.first, pair.second) for pair in pairs] == [(4, 12)] and unchecked == 0
    match = pairs[0].match
    assert match.mirrored == (change == "mirrored")
    wanted = {"turned 90": 90, "turned 12": 12}.get(change, 0)
    if not match.mirrored:
        assert abs(match.angle) == pytest.approx(wanted, abs=1.5)
    # The copy shows 0.9 of the sides of a frame that fills as much of a thumbnail.
    assert match.scale == pytest.approx(0.9 if change == "cut" else 1.0, abs=0.02)


def test_limit_on_pairs_is_counted_and_not_silent() -> None:
    pictures = [draw_picture(seed) for seed in range(8)]
    prints = np.stack([print_of(grey) for grey in pictures])
    _, unchecked = picture_pairs(prints, replace(NUMBERS, max_pairs=2, similarity=0.01), read=pictures.__getitem__)
    assert unchecked > 0


def test_equal_bytes_equal_pixels_and_changed_copies_are_told_apart(tmp_path: Path) -> None:
    pictures = {f"p{seed}": draw_picture(seed) for seed in range(6)}
    paths = write(tmp_path / "a", pictures)
    copies = write(tmp_path / "b", {"x": pictures["p2"][:, ::-1]})
    (tmp_path / "b" / "bytes.png").write_bytes(paths["p0"].read_bytes())
    Image.fromarray(pictures["p1"]).save(tmp_path / "b" / "pixels.bmp")
    train = [case_of(path, name) for name, path in paths.items()]
    test = [
        case_of(tmp_path / "b" / "bytes.png", "q0"),
        case_of(tmp_path / "b" / "pixels.bmp", "q1"),
        case_of(copies["x"], "q2"),
    ]
    result = audited(train, test)
    assert only(result, "same_file").cases == ("bytes", "p0")
    assert only(result, "same_pixels").cases == ("p1", "pixels")
    turned = only(result, "transformed")
    assert turned.cases == ("p2", "x") and turned.sides == ("train", "test") and "mirrored" in turned.detail
    assert [finding.severity for finding in result.findings] == ["leak"] * 3
    within = audited([*train, *test], [])
    assert {finding.severity for finding in within.findings} == {"duplicate"}
    assert shared_groups(result.findings) == {"p0": "p0", "p1": "p1", "p2": "p2", "q0": "p0", "q1": "p1", "q2": "p2"}


def test_resembling_pictures_of_one_patient_on_one_side_are_a_note(tmp_path: Path) -> None:
    grey = draw_picture(1)
    grain = generator(0, "grain").normal(0, 9, grey.shape)
    paths = write(tmp_path, {"a": grey, "b": np.clip(grey + grain, 0, 255).astype(np.uint8)})
    cases = [case_of(paths["a"], "one"), case_of(paths["b"], "one")]
    assert only(audited(cases, []), "near").severity == "note"
    across = audited(cases[:1], cases[1:])
    assert only(across, "near").severity == "leak" and only(across, "patient").severity == "leak"


def test_patient_on_two_sides_twins_torn_apart_and_shared_names_are_found(tmp_path: Path) -> None:
    paths = write(tmp_path, {f"p{seed}": draw_picture(seed) for seed in range(3)})
    other = write(tmp_path / "other", {"p0": draw_picture(9)})["p0"]
    cases = [case_of(path, name) for name, path in paths.items()]
    doubled = add_twins(cases, seed=0)
    namesake = case_of(other, "stranger", "far")
    result = audited([*doubled[:3], doubled[3], namesake], doubled[4:])
    assert [finding.patients[0] for finding in result.findings if finding.kind == "patient"] == ["p1", "p2"]
    torn = [finding.cases for finding in result.findings if finding.kind == "twin"]
    assert torn == [("p1", "p1__twin"), ("p2", "p2__twin")]
    names = only(result, "same_name")
    assert names.cases == ("far", "p0") and names.severity == "note"
    assert result.counts["twin"] == {"leak": 2} and len(result.leaks) == 4


def test_halves_of_a_cut_frame_are_found_by_their_seam(tmp_path: Path) -> None:
    frames = [draw_picture(seed, (180, 400)) for seed in range(5)]
    halves = {f"{n}": frame[:, :200] for n, frame in enumerate(frames)}
    halves.update({f"{n + 10000}": frame[:, 200:] for n, frame in enumerate(frames)})
    paths = write(tmp_path, halves)
    cases = {name: case_of(path, f"patient {name}") for name, path in paths.items()}
    train = [case for name, case in cases.items() if name != "10002"]
    result = audited(train, [cases["10002"]])
    windows = [finding for finding in result.findings if finding.kind == "two_window"]
    assert {finding.cases for finding in windows} == {tuple(sorted((str(10000 + n), str(n)))) for n in range(5)}
    assert all(finding.detail.startswith("certain") for finding in windows)
    assert [finding.cases for finding in windows if finding.severity == "leak"] == [("10002", "2")]


def test_halves_that_do_not_continue_are_only_a_note(tmp_path: Path) -> None:
    left, right = draw_picture(1, (180, 200)), draw_picture(2, (180, 200))
    paths = write(tmp_path, {"7_L": left, "7_R": right, "whole": draw_picture(3, (180, 400))})
    cases = [case_of(path, name) for name, path in paths.items()]
    halves = only(audited(cases[:1], cases[1:]), "two_window")
    assert halves.severity == "note" and halves.detail.startswith("possible") and halves.cases == ("7_L", "7_R")


def test_consecutive_frames_of_a_clip_under_different_patients_are_found(tmp_path: Path) -> None:
    frame, change = draw_picture(1).astype(float), draw_picture(2).astype(float)
    near = np.clip(0.62 * frame + 0.38 * change, 0, 255).astype(np.uint8)
    paths = write(tmp_path, {"clip_007": frame.astype(np.uint8), "clip_008": near, "clip_050": draw_picture(5)})
    cases = [case_of(path, name) for name, path in paths.items()]
    found = only(audited([cases[0], cases[2]], [cases[1]], correlation=0.97), "clip")
    assert found.cases == ("clip_007", "clip_008") and found.severity == "leak"
    one = [replace(case, patient="same") for case in cases]
    assert not [f for f in audited(one, [], correlation=0.97).findings if f.kind == "clip"]


def test_other_dataset_counts_as_a_side(tmp_path: Path) -> None:
    grey = draw_picture(3)
    here, there = write(tmp_path / "a", {"p": grey}), write(tmp_path / "b", {"q": grey[::-1]})
    sides = {"train": [case_of(here["p"], "p")], "other": [case_of(there["q"], "other:q", "other:q")]}
    found = audit(sides, thresholds=NUMBERS).findings
    assert [(finding.kind, finding.severity, finding.sides) for finding in found] == [
        ("transformed", "leak", ("other", "train"))
    ]


def test_volumes_are_compared_by_voxels_and_by_slices(tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    rng = generator(0, "volumes")

    def save(name: str, values: np.ndarray) -> Case:
        path = tmp_path / f"{name}.nii.gz"
        nibabel.save(nibabel.Nifti1Image(values.astype(np.float32), np.eye(4)), path)
        return case_of(path, name, name)

    shapes = [cv2.GaussianBlur(rng.normal(size=(24, 30 * 28)).astype(np.float32), (0, 0), 2) for _ in range(4)]
    volumes = [100 * shape.reshape(24, 30, 28) for shape in shapes]
    train = [save(f"v{number}", values) for number, values in enumerate(volumes)]
    test = [save("equal", volumes[0]), save("brighter", 1.5 * volumes[1] + 20), save("flipped", volumes[2][::-1])]
    result = audited(train, test)
    kinds = {finding.cases: finding.kind for finding in result.findings if finding.kind != "same_name"}
    assert kinds.pop(("equal", "v0")) in ("same_file", "same_pixels")
    assert kinds == {("brighter", "v1"): "near", ("flipped", "v2"): "transformed"}
    assert result.volumes == 7 and result.pictures == 0


def test_prints_are_kept_by_content_and_damage_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, {"a": draw_picture(0)})["a"]
    made = []

    def make(file: Path) -> np.ndarray:
        made.append(file)
        return picture_print(file)

    for _ in range(2):
        prints = prints_of([path], {path: "abc"}, make=make, dtype=PICTURE, cache=tmp_path / "kept")
    assert made == [path] and prints[0] == picture_print(path)
    kept = next((tmp_path / "kept").rglob("*.npy"))
    kept.write_bytes(kept.read_bytes()[:500])
    with pytest.raises(DataError, match="print of the audit is damaged; delete this file"):
        prints_of([path], {path: "abc"}, make=make, dtype=PICTURE, cache=tmp_path / "kept")


def test_all_pairs_of_four_thousand_pictures_are_hashed_in_seconds() -> None:
    import time

    hashes = np.random.default_rng(0).integers(0, 2**63, (4000, 8), dtype=np.uint64)
    started = time.process_time()
    assert list(close_pairs(hashes, limit=8)) == []
    assert time.process_time() - started < 5


SPLIT = Split("ratio", 0, False, {"train": ("a", "b"), "val": (), "test": ("c",)})


def sealed(tmp_path: Path, split: Split = SPLIT, findings: tuple[Finding, ...] = ()) -> Path:
    found = Audit(findings, {tmp_path / "a.png": "1" * 64}, 3, 0, 0)
    return certify(found, name="fake", digest="d" * 64, split=split, thresholds=NUMBERS).write(tmp_path / "audit.json")


LEAK = Finding("same_file", "leak", ("a", "c"), ("p", "q"), ("train", "test"))


def test_certificate_reads_back_and_states_its_verdict(tmp_path: Path) -> None:
    clean = verify_certificate(sealed(tmp_path), digest="d" * 64, split_hash=SPLIT.hash)
    assert (clean.verdict, clean.leaks, clean.signed) == ("clean", 0, False)
    leaking = verify_certificate(sealed(tmp_path, findings=(LEAK,)))
    assert (leaking.verdict, leaking.leaks) == ("leaks", 1)
    assert leaking.worst == "'a' (train), 'c' (test): files with the same bytes"
    declared = replace(SPLIT, leaky=True)
    assert verify_certificate(sealed(tmp_path, declared, (LEAK,))).verdict == "declared leaky"
    # A run that was allowed to leak carries the hash of the split labelled afterwards.
    assert verify_certificate(sealed(tmp_path), split_hash=declared.hash).verdict == "clean"
    assert sealed(tmp_path).read_bytes() == sealed(tmp_path).read_bytes()


@pytest.mark.parametrize("edit", ["verdict", "findings", "digest", "counts"])
def test_edited_certificate_is_refused(tmp_path: Path, edit: str) -> None:
    path = sealed(tmp_path, findings=(LEAK,))
    content = json.loads(path.read_text())
    if edit == "verdict":
        content["verdict"] = "clean"
    elif edit == "digest":
        content["dataset"]["digest"] = "e" * 64
    else:
        content["findings"]["counts"] = {}
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="certificate was edited after it was sealed"):
        verify_certificate(path)


def test_certificate_for_other_data_or_split_is_refused(tmp_path: Path) -> None:
    path = sealed(tmp_path)
    with pytest.raises(DataError, match=r"for another dataset \(digest dddddddddddd, wanted eeee"):
        verify_certificate(path, digest="e" * 64)
    with pytest.raises(DataError, match="for another split"):
        verify_certificate(path, split_hash="0" * 64)
    with pytest.raises(DataError, match=r"absent.json: certificate is missing"):
        verify_certificate(tmp_path / "absent.json")
    path.write_text("[]")
    with pytest.raises(DataError, match="no certificate of this version"):
        verify_certificate(path)


def test_signature_needs_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unsigned = sealed(tmp_path).rename(tmp_path / "unsigned.json")
    monkeypatch.setenv("MEDSEG_AUDIT_KEY", "the right one")
    signed = sealed(tmp_path)
    assert verify_certificate(signed).signed
    with pytest.raises(DataError, match="carries no signature"):
        verify_certificate(unsigned)
    monkeypatch.setenv("MEDSEG_AUDIT_KEY", "another")
    with pytest.raises(DataError, match="is signed with another key"):
        verify_certificate(signed)
    monkeypatch.delenv("MEDSEG_AUDIT_KEY")
    assert verify_certificate(signed).signed  # content checked, signature cannot be


def test_key_of_a_certificate_changes_with_data_split_and_numbers() -> None:
    keys = {
        audit_key(digest="d", split=SPLIT, thresholds=NUMBERS),
        audit_key(digest="e", split=SPLIT, thresholds=NUMBERS),
        audit_key(digest="d", split=replace(SPLIT, leaky=True), thresholds=NUMBERS),
        audit_key(digest="d", split=SPLIT, thresholds=replace(NUMBERS, near_distance=9)),
    }
    assert len(keys) == 4


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"correlation": 0.0}, "audit.correlation=0.0: a correlation lies above 0 and up to 1"),
        ({"near_distance": 40}, "audit.near_distance=40: give 0 to 16"),
        ({"max_pairs": 0}, "audit.max_pairs=0"),
    ],
)
def test_impossible_numbers_are_refused(changes: dict[str, float], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        Thresholds(**changes)  # type: ignore[arg-type]


@pytest.mark.slow
def test_busi_holds_the_copies_that_its_publisher_left(real_data: Path) -> None:
    from medseg.data.sources.folder import read_manifest

    cases = [case for case in read_manifest(real_data / "busi") if "malignant" in case.id]
    found = {finding.cases for finding in audited(cases, []).findings if finding.severity != "note"}
    assert ("busi_malignant_128", "busi_malignant_129") in found
    assert all(set(SIDES) >= set(finding.sides) for finding in audited(cases[:5], []).findings)


def test_one_anatomy_with_other_speckle_is_no_copy() -> None:
    """Two fundi, or a neck and its mirror image: alike down to thumbnails, not in what only a copy shares."""
    draw = generator(3, "anatomy")
    coarse = cv2.GaussianBlur(draw.normal(0, 1, (360, 440)).astype(np.float32), (0, 0), 9)
    coarse = 110 + 60 * coarse / coarse.std()

    def acquired() -> np.ndarray:
        fine = cv2.GaussianBlur(draw.normal(0, 1, coarse.shape).astype(np.float32), (0, 0), 1.0)
        return np.clip(coarse + 30 * fine / fine.std(), 8, 255).astype(np.uint8)

    one, other = acquired(), acquired()
    copy = cv2.imdecode(cv2.imencode(".jpg", one, [cv2.IMWRITE_JPEG_QUALITY, 50])[1], 0)
    pictures = [one, other, copy]
    prints = np.stack([print_of(grey) for grey in pictures])
    match = Verifier(prints).match(0, 1, np.eye(2, 3))
    assert match is not None and match.correlation > NUMBERS.alignment, "the thumbnails alone would take it for a copy"
    pairs, _ = picture_pairs(prints, NUMBERS, read=pictures.__getitem__)
    assert [(pair.first, pair.second) for pair in pairs] == [(0, 2)]
