"""Every step of preprocessing keeps shape and type, and does what an independent computation says."""

import numpy as np
import pytest
import skimage.exposure
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from fakes import draw_pair
from medseg.data.steps.denoise import Bilateral, Median, NonLocalMeans, Srad
from medseg.data.steps.intensity import Clahe, EqualizeHistogram, GammaCorrection, NormalisePercentiles
from medseg.data.steps.matching import HistogramMatch, reference_quantiles
from medseg.errors import ConfigError
from medseg.rng import generator

STEPS = [
    Median(), Median(5), Bilateral(), NonLocalMeans(), Srad(iterations=3), Clahe(), EqualizeHistogram(),
    GammaCorrection(), NormalisePercentiles(), HistogramMatch((0, 40, 90, 255)),
]  # fmt: skip


def speckled_halves(seed: int = 0, *, size: int = 128) -> np.ndarray:
    """Return fully developed speckle (Rayleigh amplitude) with mean 40 on the left and 120 on the right."""
    mean = np.where(np.arange(size) < size // 2, 40.0, 120.0)[None, :]
    amplitude = generator(seed, "speckle").rayleigh(1 / np.sqrt(np.pi / 2), (size, size)) * mean
    return np.clip(amplitude, 0, 255).astype(np.uint8)[..., None]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: type(step).__name__)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_step_keeps_shape_and_type_and_repeats_itself(step: object, channels: int) -> None:
    image, _ = draw_pair(1, size=(33, 41), channels=channels)
    before = image.copy()
    once = step(image)  # type: ignore[operator]
    assert once.shape == image.shape
    assert once.dtype == np.uint8
    assert np.array_equal(once, step(image))  # type: ignore[operator]
    assert np.array_equal(image, before), "a step must not write into what it was given"
    assert "(" in repr(step), "the repr keys the cache"


def test_the_median_is_the_median_of_the_neighbourhood() -> None:
    image, _ = draw_pair(2, size=(30, 30))
    expected = ndimage.median_filter(image[..., 0], 5, mode="nearest")
    assert np.array_equal(Median(5)(image)[..., 0], expected)
    with pytest.raises(ConfigError, match="kernel=4"):
        Median(4)


def test_bilateral_smooths_noise_and_keeps_a_step_that_is_higher_than_its_grey_deviation() -> None:
    noise = generator(0, "noise").normal(0, 4, (40, 40))
    image = np.clip(np.where(np.arange(40) < 20, 60, 180)[None, :] + noise, 0, 255).astype(np.uint8)[..., None]
    smooth = Bilateral(diameter=7, sigma_grey=25, sigma_space=3)(image).astype(float)[..., 0]
    assert smooth[:, :18].std() < 0.5 * image[:, :18].std()
    assert (smooth[:, 20] - smooth[:, 19]).mean() > 110


def test_non_local_means_takes_noise_off_and_leaves_a_constant() -> None:
    flat = np.full((40, 40, 1), 90, np.uint8)
    assert np.array_equal(NonLocalMeans()(flat), flat)
    noisy = np.clip(90 + generator(1, "noise").normal(0, 8, (40, 40, 1)), 0, 255).astype(np.uint8)
    assert NonLocalMeans(strength=12)(noisy).std() < 0.4 * noisy.std()
    with pytest.raises(ConfigError, match="both odd"):
        NonLocalMeans(patch=4)


# ---- speckle reducing anisotropic diffusion


def srad_by_loops(grey: np.ndarray, iterations: int, step: float, q0: float, decay: float) -> np.ndarray:
    """The formulas of the publication pixel by pixel, in double precision."""
    level = grey.astype(float) + 1
    rows, columns = level.shape
    for number in range(iterations):
        scale = (q0 * np.exp(-decay * number * step)) ** 2
        c = np.zeros_like(level)
        for i in range(rows):
            for j in range(columns):
                here = level[i, j]
                steps = [
                    level[max(i - 1, 0), j] - here, level[min(i + 1, rows - 1), j] - here,
                    level[i, max(j - 1, 0)] - here, level[i, min(j + 1, columns - 1)] - here,
                ]  # fmt: skip
                squared = sum(value**2 for value in steps) / here**2
                laplacian = sum(steps) / here
                q = max(0.5 * squared - laplacian**2 / 16, 0) / (1 + laplacian / 4) ** 2
                c[i, j] = min(1, max(0, 1 / (1 + (q - scale) / (scale * (1 + scale)))))
        new = level.copy()
        for i in range(rows):
            for j in range(columns):
                down, right = min(i + 1, rows - 1), min(j + 1, columns - 1)
                flow = c[down, j] * (level[down, j] - level[i, j]) + c[i, right] * (level[i, right] - level[i, j])
                flow += c[i, j] * (level[max(i - 1, 0), j] - level[i, j])
                flow += c[i, j] * (level[i, max(j - 1, 0)] - level[i, j])
                new[i, j] += step / 4 * flow
        level = new
    return level - 1


def test_srad_is_the_published_formula_and_nothing_at_no_iteration() -> None:
    image = speckled_halves(1, size=14)
    expected = srad_by_loops(image[..., 0], 4, 0.3, 0.5, 1 / 6)
    assert np.abs(Srad(iterations=4, step=0.3, q0=0.5)(image)[..., 0] - expected).max() <= 0.51
    assert np.array_equal(Srad(iterations=0)(image), image)


def test_srad_smooths_fully_developed_speckle_keeps_the_mean_and_the_place_of_an_edge() -> None:
    image = speckled_halves(2)
    smooth = Srad()(image).astype(float)[..., 0]
    for half in (slice(4, 58), slice(70, 124)):
        assert smooth[:, half].var() < image[:, half].var() / 30
    assert smooth.mean() == pytest.approx(image.mean(), abs=0.5)
    profile = smooth.mean(axis=0)
    assert np.argmax(np.diff(profile)) == 63, "the steepest place is between columns 63 and 64"
    assert np.ptp(profile[60:68]) > 50, "and it is still steep"


# ---- grey scales


def test_gamma_and_percentiles_of_hand_worked_numbers() -> None:
    ramp = np.array([[0, 51, 102, 255]], np.uint8)[..., None]
    # 255 * (51/255)^0.5 = 114.04, 255 * (102/255)^0.5 = 161.28
    assert GammaCorrection(0.5)(ramp).ravel().tolist() == [0, 114, 161, 255]
    # Low 0 % = 50, high 100 % = 150: 75 lies a quarter up.
    values = np.array([[50, 75, 110, 150]], np.uint8)[..., None]
    assert NormalisePercentiles(0, 100)(values).ravel().tolist() == [0, 64, 153, 255]
    blanked = np.array([[0, 0, 50, 150]], np.uint8)[..., None]
    assert NormalisePercentiles(0, 100, skip_black=True)(blanked).ravel().tolist() == [0, 0, 0, 255]
    flat = np.full((4, 4, 1), 9, np.uint8)
    assert np.array_equal(NormalisePercentiles()(flat), flat)
    for wrong in (lambda: GammaCorrection(0), lambda: NormalisePercentiles(60, 40)):
        with pytest.raises(ConfigError, match="preprocess step"):
            wrong()


def test_matching_gives_the_histogram_that_an_independent_method_gives() -> None:
    image, _ = draw_pair(3, size=(120, 120))
    other = np.clip(generator(4, "other").normal(110, 25, (120, 120)), 0, 255).astype(np.uint8)[..., None]
    matched = HistogramMatch(reference_quantiles([other], count=129))(image)
    expected = skimage.exposure.match_histograms(image[..., 0], other[..., 0])
    assert np.abs(matched[..., 0].astype(float) - expected).mean() < 2.5  # it ranks a level by its upper end
    quantiles = np.linspace(0.02, 0.98, 25)
    assert np.abs(np.quantile(matched, quantiles) - np.quantile(other, quantiles)).max() <= 2


def test_a_picture_matched_to_itself_stays_and_a_bad_reference_is_refused() -> None:
    image, _ = draw_pair(5, size=(90, 90))
    itself = HistogramMatch(reference_quantiles([image], count=256))(image)
    assert np.quantile(np.abs(itself.astype(int) - image), 0.99) <= 2  # tails hold few pixels a level
    assert HistogramMatch([0, 100, 255]) == HistogramMatch((0.0, 100.0, 255.0))  # type: ignore[arg-type]
    for reference in ((5,), (0, 9, 3), (0, 300)):
        with pytest.raises(ConfigError, match="HistogramMatch: reference"):
            HistogramMatch(reference)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 99), levels=st.lists(st.floats(0, 255), min_size=2, max_size=20).map(sorted))
def test_matching_never_turns_two_grey_values_round(seed: int, levels: list[float]) -> None:
    image, _ = draw_pair(seed, size=(24, 24))
    matched = HistogramMatch(tuple(levels))(image)
    order = np.argsort(image.ravel(), kind="stable")
    assert (np.diff(matched.ravel()[order].astype(int)) >= 0).all()
    assert matched.min() >= np.floor(levels[0])
    assert matched.max() <= np.ceil(levels[-1])
