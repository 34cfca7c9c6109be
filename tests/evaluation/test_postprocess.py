"""Post-processing steps on maps small enough to be judged by hand, and their laws on random ones."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from medseg.errors import ConfigError, ScoreError
from medseg.evaluation.postprocess.chain import STEPS, apply_chain, needs_image, read_step, written
from medseg.evaluation.postprocess.components import LargestComponent, RemoveSmall
from medseg.evaluation.postprocess.contract import labels_of, relabelled
from medseg.evaluation.postprocess.crf import DenseCrf, bilateral_grid, mean_field, smoothing
from medseg.evaluation.postprocess.holes import FillHoles
from medseg.evaluation.postprocess.median import Median
from medseg.evaluation.postprocess.threshold import Threshold

MORPHOLOGICAL = (
    LargestComponent(), LargestComponent(together=True), RemoveSmall(5), RemoveSmall(12.5, unit="px"), FillHoles(),
    FillHoles(4),
)  # fmt: skip
SHAPES = ((13, 11), (5, 8, 7))


def soft(labels: np.ndarray, classes: int = 3, *, sure: float = 0.8) -> np.ndarray:
    """Return probabilities float32 whose label map this is."""
    others = (1 - sure) / (classes - 1)
    return np.stack([np.where(labels == label, sure, others) for label in range(classes)]).astype(np.float32)


def drawn(*rows: str) -> np.ndarray:
    return np.array([[int(letter) if letter.isdigit() else 0 for letter in row] for row in rows], np.uint8)


def lines(labels: np.ndarray) -> list[str]:
    return ["".join(str(label) if label else "." for label in row) for row in labels]


def random_probabilities(seed: int, shape: tuple[int, ...], classes: int = 3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    smooth = np.stack([ndimage.gaussian_filter(rng.normal(size=shape), 1) for _ in range(classes)])
    values = np.exp(6 * smooth)
    return (values / values.sum(0)).astype(np.float32)


def test_the_largest_component_of_each_class_stays_and_corners_connect() -> None:
    labels = drawn(
        "11...2",
        "..1..2",
        "......",
        "1..22.",
    )
    after = labels_of(LargestComponent()(soft(labels), spacing=(1, 1)))
    assert lines(after) == ["11...2", "..1..2", "......", "......"]  # of two pairs of class 2 the first


def test_together_all_foreground_is_one_region_whatever_its_classes() -> None:
    labels = drawn("122...", "......", "...111")
    assert lines(labels_of(LargestComponent()(soft(labels), spacing=(1, 1)))) == [".22...", "......", "...111"]
    assert lines(labels_of(LargestComponent(together=True)(soft(labels), spacing=(1, 1)))) == [
        "122...",
        "......",
        "......",
    ]


@pytest.mark.parametrize(
    ("size", "unit", "spacing", "stays"),
    [
        (3, "px", (0.1, 0.1), True),
        (3.5, "px", (9, 9), False),
        (1.5, "mm", (0.5, 1.0), True),
        (1.6, "mm", (0.5, 1.0), False),
    ],
)
def test_a_component_is_small_in_pixels_or_by_its_area(
    size: float, unit: str, spacing: tuple[float, ...], stays: bool
) -> None:
    labels = drawn("111...", "......")
    after = labels_of(RemoveSmall(size, unit=unit)(soft(labels), spacing=spacing))
    assert after.any() == stays


def test_a_size_in_a_volume_is_a_volume() -> None:
    labels = np.zeros((4, 4, 4), np.uint8)
    labels[1:3, 1:3, 1:3] = 1  # 8 voxels of 5 x 1 x 1 mm: 40 mm3
    for size, stays in ((40.0, True), (40.5, False)):
        assert labels_of(RemoveSmall(size)(soft(labels), spacing=(5, 1, 1))).any() == stays


def test_holes_go_to_the_class_around_them_and_bays_stay() -> None:
    labels = drawn(
        "1111..22222",
        "1..1..2.2.2",
        "1111..22.22",
        "1.11..22222",
        "1..........",
    )
    after = labels_of(FillHoles()(soft(labels), spacing=(1, 1)))
    assert lines(after) == [
        "1111..22222",
        "1111..22222",
        "1111..22222",
        "1.11..22222",
        "1..........",
    ]


def test_a_hole_between_two_classes_goes_to_the_one_that_borders_more_of_it() -> None:
    labels = drawn("22222", "2.112", "22112", "22222")
    assert labels_of(FillHoles()(soft(labels), spacing=(1, 1)))[1, 1] == 2
    labels = drawn("11222", "1..12", "11122")
    assert (labels_of(FillHoles()(soft(labels), spacing=(1, 1)))[1, 1:3] == 1).all()


def test_only_holes_up_to_a_size_are_filled_and_a_volume_is_closed_on_all_sides() -> None:
    labels = drawn("111111", "1.1..1", "111111")
    assert lines(labels_of(FillHoles(1)(soft(labels), spacing=(1, 1)))) == ["111111", "111..1", "111111"]
    assert lines(labels_of(FillHoles(1)(soft(labels), spacing=(0.5, 1)))) == ["111111"] * 3
    tube = np.ones((3, 3, 3), np.uint8)
    tube[:, 1, 1] = 0
    assert (labels_of(FillHoles()(soft(tube), spacing=(1, 1, 1))) == tube).all()
    tube[[0, 2], 1, 1] = 1
    assert labels_of(FillHoles()(soft(tube), spacing=(1, 1, 1))).all()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), shape=st.sampled_from(SHAPES), step=st.sampled_from(MORPHOLOGICAL))
def test_steps_on_labels_are_idempotent_and_invent_no_class(seed: int, shape: tuple[int, ...], step: object) -> None:
    before, spacing = random_probabilities(seed, shape), (2.5, 0.7, 1.3)[: len(shape)]
    kept = before.copy()
    once = step(before, spacing=spacing)
    assert (before == kept).all(), "the argument was changed"
    assert once.dtype == np.float32
    assert np.allclose(once.sum(0), 1, atol=1e-5)
    assert set(np.unique(labels_of(once))) <= {0, *np.unique(labels_of(before))}
    assert (step(once, spacing=spacing) == once).all()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), shape=st.sampled_from(SHAPES))
def test_a_relabelled_map_has_just_the_labels_that_were_asked_for(seed: int, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(seed)
    probabilities = rng.integers(0, 3, (3, *shape)).astype(np.float32) / 4  # many ties
    wanted = rng.integers(0, 3, shape).astype(np.uint8)
    assert (labels_of(relabelled(probabilities, labels_of(probabilities), wanted)) == wanted).all()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), threshold=st.floats(0.05, 0.95))
def test_a_threshold_of_two_classes_is_a_threshold_on_the_foreground(seed: int, threshold: float) -> None:
    before = random_probabilities(seed, (9, 8), classes=2)
    clear = np.abs(before[1] - threshold) > 1e-5
    after = Threshold(threshold)(before, spacing=(1, 1))
    assert (labels_of(after)[clear] == (before[1] > threshold)[clear]).all()
    assert np.allclose(after.sum(0), 1, atol=1e-6)
    assert (np.diff(after[1].ravel()[np.argsort(before[1].ravel())]) >= -1e-6).all()


def test_a_threshold_of_one_class_leaves_the_others_in_proportion_and_raises_no_impossible_class() -> None:
    before = np.array([0.5, 0.3, 0.2], np.float32).reshape(3, 1)
    after = Threshold(0.2, class_index=2)(before, spacing=(1,))
    assert after[:, 0] == pytest.approx(np.array([0.5, 0.3, 0.8]) / 1.6)
    impossible = np.array([1.0, 0.0, 0.0], np.float32).reshape(3, 1)
    assert (Threshold(0.05)(impossible, spacing=(1,)) == impossible).all()
    with pytest.raises(ConfigError, match=r"class_index=3: there are classes 1 to 2"):
        Threshold(0.2, class_index=3)(before, spacing=(1,))


def test_the_bilateral_filter_is_near_the_sum_over_all_pairs() -> None:
    rng = np.random.default_rng(0)
    guide = np.where(np.arange(24) < 12, 0.2, 0.8)[None].repeat(20, 0).astype(np.float32)
    guide += rng.normal(scale=0.02, size=guide.shape).astype(np.float32)
    values = ((np.indices(guide.shape).sum(0) % 16 < 8) * 0.8 + 0.2 * rng.random(guide.shape)).astype(np.float32)
    found = bilateral_grid(guide, widths=(6.0, 6.0), tone=0.1)(values)
    rows, columns = np.indices(guide.shape)
    places = np.stack([rows.ravel() / 6, columns.ravel() / 6, guide.ravel() / 0.1], 1)
    kernel = np.exp(-0.5 * ((places[:, None] - places[None]) ** 2).sum(2))
    exact = ((kernel @ values.ravel()) / kernel.sum(1)).reshape(guide.shape)
    assert np.ptp(exact) > 0.15
    assert np.abs(found - exact).max() < 0.05
    assert np.corrcoef(found.ravel(), exact.ravel())[0, 1] > 0.95


def test_mean_field_takes_specks_away_and_moves_a_border_to_the_edge_of_the_image() -> None:
    guide = np.zeros((32, 32), np.float32)
    guide[:, 16:] = 1.0
    truth = (guide > 0.5).astype(np.uint8)
    labels = np.roll(truth, 2, axis=1)
    labels[:, :2] = 0
    labels[5, 5] = labels[20, 28] = 1
    labels[20, 28] = 0
    before = soft(labels, 2, sure=0.65)
    after = DenseCrf(near=1.0, far=10.0, far_weight=3.0)(before, spacing=(1, 1), image=guide)
    assert (labels_of(after) == truth).mean() > 0.99 > (labels == truth).mean()
    assert np.allclose(after.sum(0), 1, atol=1e-5)
    assert after.dtype == np.float32


def test_without_weights_mean_field_changes_nothing_and_impossible_classes_stay_impossible() -> None:
    before = random_probabilities(3, (12, 10))
    assert np.allclose(mean_field(before, [], iterations=3), before, atol=1e-6)
    before[2] = 0
    before /= before.sum(0)
    after = mean_field(before, [(5.0, smoothing((2, 2)))], iterations=5)
    assert (after[2] == 0).all()
    volume = random_probabilities(4, (4, 9, 8))
    guide = np.random.default_rng(0).random((4, 9, 8)).astype(np.float32)
    after = DenseCrf(far=4, near=2)(volume, spacing=(3, 1, 1), image=guide)
    assert after.shape == volume.shape
    assert np.isfinite(after).all()


def test_a_field_without_its_image_is_refused() -> None:
    before = random_probabilities(0, (6, 6))
    with pytest.raises(ScoreError, match=r"dense_crf: an image of \(6, 6\) is needed, got None"):
        DenseCrf()(before, spacing=(1, 1))
    with pytest.raises(ScoreError, match=r"got \(5, 6\)"):
        DenseCrf()(before, spacing=(1, 1), image=np.zeros((5, 6), np.float32))


@pytest.mark.parametrize("name", sorted(STEPS))
def test_every_step_has_candidates_that_survive_being_written_down(name: str) -> None:
    step = STEPS[name]()
    candidates = step.candidates()
    assert len(candidates) > 1
    assert len({str(written(one)) for one in candidates}) == len(candidates)
    for one in candidates:
        back = read_step(written(one))
        assert written(back) == written(one)
        probabilities = random_probabilities(1, (14, 12))
        given = {"spacing": (1.0, 1.0), "image": np.zeros((14, 12), np.float32)}
        assert (back(probabilities, **given) == one(probabilities, **given)).all()


def test_a_chain_runs_in_order_and_knows_whether_it_looks_at_the_image() -> None:
    labels = drawn("111111.", "1....1.", "111111.", "......1", "1......")
    steps = [FillHoles(), RemoveSmall(2, unit="px")]
    after = labels_of(apply_chain(steps, soft(labels), spacing=(1, 1)))
    assert lines(after) == ["111111.", "111111.", "111111.", "......1", "......."]
    assert not needs_image(steps)
    assert needs_image([*steps, DenseCrf()])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RemoveSmall(unit="cm"), "unit=cm"),
        (lambda: RemoveSmall(-1), "none below 0"),
        (lambda: FillHoles(-1), "none below 0"),
        (lambda: Threshold(1.0), "between 0 and 1"),
        (lambda: Threshold(class_index=0), "0 is the background"),
        (lambda: DenseCrf(tone=0), "above 0"),
        (lambda: replace(DenseCrf(), iterations=0), "at least 1"),
        (lambda: read_step({"name": "magic"}), "step 'magic' is unknown"),
        (lambda: read_step({"name": "threshold", "parameters": {"levl": 1}}), "levl"),
    ],
)
def test_impossible_steps_are_refused(make: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("radius", [1.0, 1.5, 2.0])
def test_a_median_of_two_classes_is_the_vote_of_the_disc(shape: tuple[int, ...], radius: float) -> None:
    before = random_probabilities(3, shape, classes=2)
    reach = int(radius)
    offsets = [
        offset for offset in np.ndindex(*[2 * reach + 1] * len(shape))
        if np.linalg.norm(np.array(offset) - reach) <= radius
    ]  # fmt: skip
    padded = np.pad(before[1] > 0.5, reach, mode="symmetric").astype(int)
    votes = sum(padded[tuple(slice(o, o + side) for o, side in zip(offset, shape, strict=True))] for offset in offsets)
    after = Median(radius)(before, spacing=(1,) * len(shape))
    assert (labels_of(after) == (votes > len(offsets) / 2)).all()
    np.testing.assert_allclose(after.sum(0), 1, atol=1e-6)
    assert after.dtype == np.float32


def test_a_median_takes_speckle_and_keeps_a_pixel_around_which_every_class_is_rare() -> None:
    labels = drawn("111111", "111211", "111111", "111111")
    assert (labels_of(Median(1)(soft(labels), spacing=(1, 1))) == 1).all()
    checks = np.indices((6, 6)).sum(0) % 3
    sharp = np.stack([checks == label for label in range(3)]).astype(np.float32)
    after = Median(1)(sharp, spacing=(1, 1))
    np.testing.assert_array_equal(after[:, 2, 2], sharp[:, 2, 2])
    np.testing.assert_allclose(after.sum(0), 1)
    np.testing.assert_array_equal(Median(0)(sharp, spacing=(1, 1)), sharp)
    with pytest.raises(ConfigError, match=r"postprocess.median: radii .* from 0 on"):
        Median(-1)
