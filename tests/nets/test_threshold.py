"""The threshold finds the best cut, on either side, as a search over every pixel value does."""

import numpy as np
import pytest
import torch

from medseg.errors import ConfigError, DataError
from medseg.nets.classical.threshold import Threshold


def fitted(images: list[np.ndarray], masks: list[np.ndarray], **arguments: object) -> Threshold:
    net = Threshold(in_channels=images[0].shape[-1], num_classes=2, **arguments)
    net.fit(images, masks)
    return net


def test_dark_nodules_are_below_and_bright_ones_above() -> None:
    mask = np.zeros((8, 8), dtype=np.uint8)
    mask[2:5, 2:6] = 1
    for sign, bright in ((-1.0, False), (1.0, True)):
        image = (sign * mask[..., None]).astype(np.float32)
        net = fitted([image], [mask])
        assert bool(net.bright) is bright
        labels = net(torch.from_numpy(image).movedim(-1, 0)[None]).argmax(1)[0].numpy()
        assert np.array_equal(labels, mask)


def test_it_is_as_good_as_an_exhaustive_search() -> None:
    rng = np.random.default_rng(3)
    masks = [(rng.random((12, 12)) < share).astype(np.uint8) for share in (0.1, 0.3, 0.5)]
    images = [(rng.standard_normal((12, 12, 2)) - 0.8 * mask[..., None]).astype(np.float32) for mask in masks]

    def mean_dice(choose: object) -> float:
        values = []
        for image, mask in zip(images, masks, strict=True):
            chosen = choose(image.mean(-1))
            values.append(2 * (chosen & (mask == 1)).sum() / (chosen.sum() + mask.sum()))
        return float(np.mean(values))

    cuts = np.unique(np.concatenate([image.mean(-1).ravel() for image in images]))
    best = max(max(mean_dice(lambda g, c=c: g < c), mean_dice(lambda g, c=c: g >= c)) for c in cuts)
    net = fitted(images, masks)
    cut = float(net.threshold)
    ours = mean_dice((lambda g: g >= cut) if bool(net.bright) else (lambda g: g < cut))
    assert ours >= best - 0.01


def test_one_image_one_vote_whatever_its_size() -> None:
    """A large image that wants the other polarity does not outvote two small ones."""
    small = np.zeros((4, 4), dtype=np.uint8)
    small[:2] = 1
    large = np.zeros((40, 40), dtype=np.uint8)
    large[:20] = 1
    dark, bright = -small[..., None].astype(np.float32), large[..., None].astype(np.float32)
    assert not bool(fitted([dark, dark, bright - 1], [small, small, large]).bright)


def test_images_without_the_class_and_ignored_pixels_do_not_vote() -> None:
    mask = np.zeros((6, 6), dtype=np.uint8)
    mask[:2] = 1
    image = mask[..., None].astype(np.float32)
    alone = fitted([image], [mask])
    unlike = np.full_like(image, 0.9)
    unlike[0] = -50
    both = fitted([image, unlike], [mask, np.zeros_like(mask)])
    assert torch.equal(alone.threshold, both.threshold)
    spoilt, holes = image.copy(), mask.copy()
    spoilt[5], holes[5] = 99.0, 255
    assert torch.equal(fitted([spoilt], [holes]).threshold, alone.threshold)


def test_only_the_largest_region_is_kept_when_asked() -> None:
    image = np.zeros((10, 10, 1), dtype=np.float32)
    image[1:3, 1:3], image[5:9, 4:9] = 1, 1
    mask = (image[..., 0] > 0).astype(np.uint8)
    batch = torch.from_numpy(image).movedim(-1, 0)[None]
    assert fitted([image], [mask])(batch).argmax(1).sum() == 24
    kept = fitted([image], [mask], largest_component=True)(batch).argmax(1)[0]
    assert kept.sum() == 20
    assert not kept[1:3, 1:3].any()


def test_it_says_when_it_is_not_fitted_or_cannot_be() -> None:
    with pytest.raises(ConfigError, match=r"not fitted; train it with method=fitted"):
        Threshold(in_channels=1, num_classes=2)(torch.zeros(1, 1, 4, 4))
    with pytest.raises(DataError, match=r"none of 1 training masks has class 1"):
        fitted([np.zeros((4, 4, 1), np.float32)], [np.zeros((4, 4), np.uint8)])
    with pytest.raises(DataError, match=r"every pixel of 1 training images is 0\.0"):
        fitted([np.zeros((4, 4, 1), np.float32)], [np.eye(4, dtype=np.uint8)])
    with pytest.raises(ConfigError, match=r"net\.label=2 is no foreground class of 2; choose 1\.\.1"):
        Threshold(in_channels=1, num_classes=2, label=2)
