"""Otsu finds the cut of largest between-class variance, and follows brightness and contrast."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.errors import ConfigError, DataError
from medseg.nets.classical.mapping import classes_of_clusters, counted
from medseg.nets.classical.otsu import MultiOtsu, Otsu, multi_otsu_thresholds, otsu_threshold


def between(values: np.ndarray, cut: float) -> float:
    """Between-class variance as Otsu wrote it, from the shares and means of both sides."""
    low, high = values[values <= cut], values[values > cut]
    if not len(low) or not len(high):
        return 0.0
    return len(low) * len(high) / len(values) ** 2 * (low.mean() - high.mean()) ** 2


def answer(net: Otsu | MultiOtsu, grey: np.ndarray) -> np.ndarray:
    return net(torch.from_numpy(grey.astype(np.float32))[None, None]).argmax(1)[0].numpy()


def fitted(image: np.ndarray, mask: np.ndarray, **arguments: object) -> Otsu:
    net = Otsu(in_channels=1, num_classes=2, **arguments)
    net.fit([image.astype(np.float32)[..., None]], [mask.astype(np.uint8)])
    return net


@given(seed=st.integers(0, 5000), share=st.floats(0.1, 0.9), apart=st.floats(0.0, 90.0), base=st.integers(0, 80))
@settings(max_examples=30, deadline=None, derandomize=True)
def test_no_other_cut_between_grey_levels_parts_them_better(seed: int, share: float, apart: float, base: int) -> None:
    rng = np.random.default_rng(seed)
    values = (base + rng.normal(80, 15, 2000) + apart * (rng.random(2000) < share)).round().clip(0, 255)
    values[:2] = 0, 255  # so that each of the 256 bins is one grey level
    best = max(between(values, cut) for cut in range(255))
    assert between(values, otsu_threshold(values)) == pytest.approx(best, rel=1e-9)


def test_three_levels_are_parted_as_by_trying_every_pair() -> None:
    rng = np.random.default_rng(1)
    values = 4 * np.concatenate([rng.normal(mean, 6, 300) for mean in (10, 30, 52)]).round().clip(0, 63)
    values[:2] = 0, 255  # so that each of the 256 bins is one grey level

    def variance(low: float, high: float) -> float:
        parts = [values[values <= low], values[(values > low) & (values <= high)], values[values > high]]
        return sum(len(part) * (part.mean() - values.mean()) ** 2 for part in parts if len(part))

    best = max(variance(low, high) for low in range(0, 252, 4) for high in range(low + 4, 252, 4))
    assert variance(*multi_otsu_thresholds(values, 3)) == pytest.approx(best, rel=1e-9)


def test_two_values_are_separated_exactly() -> None:
    mask = np.zeros((20, 24))
    mask[5:12, 4:15] = 1
    for dark, polarity in ((True, "dark"), (False, "bright")):
        image = np.where(mask == 1, -1.0, 2.0) * (1 if dark else -1)
        assert np.array_equal(answer(fitted(image, mask, polarity=polarity), image), mask)
        assert np.array_equal(answer(fitted(image, mask), image), mask), "auto finds the polarity"


@pytest.mark.parametrize("method", ["global", "local", "mean"])
def test_brightness_and_contrast_change_nothing(method: str) -> None:
    rng = np.random.default_rng(2)
    mask = np.zeros((40, 40))
    mask[10:25, 8:30] = 1
    image = (80 - 40 * mask + rng.integers(-20, 21, mask.shape)).astype(np.float32)
    net = fitted(image, mask, method=method, window=15)
    assert 0 < answer(net, image).sum() < image.size
    for factor, shift in ((2.0, 0.0), (0.5, 16.0), (4.0, -64.0)):  # exact in binary
        assert np.array_equal(answer(net, factor * image + shift), answer(net, image))


def test_the_adaptive_mean_compares_with_the_window_around_each_pixel() -> None:
    rng = np.random.default_rng(3)
    image = rng.integers(0, 200, (24, 30)).astype(np.float64)
    mask = image < 90
    net = fitted(image, mask, method="mean", window=7, offset=0.25, polarity="dark")
    padded = np.pad(image, 3, mode="symmetric")
    means = np.lib.stride_tricks.sliding_window_view(padded, (7, 7)).mean(axis=(2, 3))
    assert np.array_equal(answer(net, image), image <= means - 0.25 * image.std())


def test_a_slope_in_the_light_defeats_one_threshold_and_not_the_adaptive_mean() -> None:
    mask = np.zeros((60, 64))
    for row in range(6, 60, 12):
        mask[row : row + 4, 4:60:12] = 1
    image = np.linspace(0, 200, 64)[None, :] - 30.0 * mask
    right = [
        (answer(fitted(image, mask, method=method, window=23, offset=offset), image) == mask).mean()
        for method, offset in (("global", 0.0), ("mean", 0.2))
    ]
    assert right[0] < 0.7 < 0.96 < right[1]  # at the sides the window mirrors the slope


def test_several_thresholds_with_two_levels_are_otsu() -> None:
    rng = np.random.default_rng(3)
    mask = (rng.random((30, 30)) < 0.3).astype(np.uint8)
    image = (rng.normal(0, 1, mask.shape) + 3 * mask).astype(np.float32)
    several = MultiOtsu(in_channels=1, num_classes=2, levels=2, sigma=0.0)
    several.fit([image[..., None]], [mask])
    assert np.array_equal(answer(several, image), answer(fitted(image, mask, polarity="bright"), image))


def test_each_class_gets_its_grey_level_whatever_the_order() -> None:
    mask = np.zeros((30, 30), dtype=np.uint8)
    mask[:10], mask[10:14] = 2, 1
    image = np.array([0.0, 5.0, -5.0])[mask]  # class 2 darkest, then background, then class 1
    net = MultiOtsu(in_channels=1, num_classes=3, sigma=0.0)
    net.fit([image.astype(np.float32)[..., None]], [mask])
    assert net.known("classes").tolist() == [2, 0, 1]
    assert np.array_equal(answer(net, image), mask)


def test_a_rare_class_gets_a_cluster_although_background_is_everywhere_the_majority() -> None:
    table = np.array([[900.0, 10.0], [500.0, 90.0], [600.0, 0.0]])
    assert classes_of_clusters(table).tolist() == [0, 1, 0]
    assert classes_of_clusters(np.array([[5.0, 0.0, 0.0], [9.0, 0.0, 0.0], [0.0, 3.0, 0.0]])).tolist() == [0, 0, 1]
    clusters, mask = np.array([[0, 1, 1]]), np.array([[1, 0, 255]], dtype=np.uint8)
    assert counted(clusters, mask, 2, 2).tolist() == [[0, 1], [1, 0]]


def test_hysteresis_keeps_weak_pixels_that_touch_strong_ones() -> None:
    image = np.zeros((20, 40))
    image[18, 2:32:3] = np.linspace(0.5, 5.5, 10)  # lone pixels, without which the criterion is flat over the gap
    image[8:12, 4:10], image[8:12, 10:14], image[8:12, 30:34] = 10, 6, 6
    mask = image >= 6
    plain = answer(fitted(image, mask, polarity="bright"), image)
    cut = otsu_threshold(image)
    assert 3.2 < cut < 6, "so that 0 is farther below it than 6.4 is above"
    reach = (6.4 - cut) / image.std()
    held = answer(fitted(image, mask, polarity="bright", hysteresis=reach), image)
    assert plain[9, 12] == plain[9, 31] == 1
    assert held[9, 5] == held[9, 12] == 1
    assert held[9, 31] == 0


def test_the_black_frame_of_a_screen_counts_neither_for_the_threshold_nor_as_dark() -> None:
    rng = np.random.default_rng(4)
    image = np.zeros((60, 60))
    image[10:50, 10:50] = 150 + rng.normal(0, 5, (40, 40))
    image[22:34, 20:36] = 100 + rng.normal(0, 5, (12, 16))
    mask = np.zeros(image.shape)
    mask[22:34, 20:36] = 1
    everywhere = answer(fitted(image, mask, polarity="dark"), image)
    scan = answer(fitted(image, mask, polarity="dark", scan_only=True), image)
    assert everywhere[0, 0] == 1
    assert np.array_equal(scan, mask)


def test_flat_images_have_no_foreground_and_faults_are_named() -> None:
    square = np.zeros((9, 9))
    square[2:5, 2:5] = 1
    assert not answer(fitted(square, square), np.full((9, 9), 3.0)).any()
    with pytest.raises(ConfigError, match=r"net\.window=4 has no middle pixel"):
        Otsu(in_channels=1, num_classes=2, window=4)
    with pytest.raises(ConfigError, match=r"net\.method='median' is unknown; choose one of global, local, mean"):
        Otsu(in_channels=1, num_classes=2, method="median")
    with pytest.raises(ConfigError, match=r"net\.offset=0\.5 belongs to net\.method=mean, not local; give 0"):
        Otsu(in_channels=1, num_classes=2, method="local", offset=0.5)
    with pytest.raises(ConfigError, match=r"net\.polarity='grey' is unknown; choose one of dark, bright, auto"):
        Otsu(in_channels=1, num_classes=2, polarity="grey")
    with pytest.raises(ConfigError, match=r"net\.label=3 is no foreground class of 2; choose 1\.\.1"):
        Otsu(in_channels=1, num_classes=2, label=3)
    with pytest.raises(ConfigError, match=r"net\.levels=3: 4 classes need 4 to 5"):
        MultiOtsu(in_channels=1, num_classes=4)
    with pytest.raises(DataError, match=r"fewer than 4 grey values; lower net\.levels"):
        multi_otsu_thresholds(np.array([0.0, 1.0, 1.0]), 4)
    with pytest.raises(DataError, match=r"none of 1 training masks has class 1; set net\.polarity"):
        fitted(square, np.zeros((9, 9)))
