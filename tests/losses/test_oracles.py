"""Each loss against a number worked by hand, a published figure or a second implementation."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor, nn

from medseg.errors import ConfigError
from medseg.losses.distance import boundary, hausdorff_dt
from medseg.losses.lovasz import lovasz
from medseg.losses.overlap import MCC, Dice, GeneralisedDice, dice, generalised_dice, mcc
from medseg.losses.pixelwise import CrossEntropy, Focal, WeightedCrossEntropy, cross_entropy, focal
from medseg.losses.skeleton import ClDice, cldice
from medseg.losses.structural import ms_ssim, scales, similarity
from medseg.losses.tversky import (
    FocalTversky,
    Tversky,
    UnifiedFocal,
    asymmetric_focal,
    asymmetric_focal_tversky,
    focal_tversky,
    tversky,
)  # fmt: skip
from medseg.types import IGNORE

TINY = 1e-9


def hard(mask: Tensor, classes: int = 2, confidence: float = 50.0) -> Tensor:
    return confidence * (2 * torch.nn.functional.one_hot(mask, classes).movedim(-1, 1).float() - 1)


@pytest.fixture
def squares() -> tuple[Tensor, Tensor]:
    """Return a 12 x 12 truth in 32 x 32 and the same square 2 columns on: 144 pixels each, 120 shared."""
    truth, moved = torch.zeros(2, 1, 32, 32, dtype=torch.int64).unbind(0)
    truth[:, 10:22, 10:22] = 1
    moved[:, 10:22, 12:24] = 1
    return truth, moved


@pytest.fixture
def random_pair() -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(3)
    return torch.randn(2, 3, 6, 7, generator=draw), torch.randint(0, 3, (2, 6, 7), generator=draw)


# ---- overlap


def test_the_shifted_square_in_every_overlap(squares: tuple[Tensor, Tensor]) -> None:
    truth, moved = squares
    answer = hard(moved)
    assert dice(answer, truth, smooth=TINY) == pytest.approx(0.166667, abs=1e-6)
    assert tversky(answer, truth, false_positives=1, false_negatives=1, smooth=TINY) == pytest.approx(
        0.285714, abs=1e-6
    )
    # 24 false positives and 24 false negatives: TI = 120 / (120 + 24) whatever their weights, if these add up to 1.
    assert tversky(answer, truth, smooth=TINY) == pytest.approx(1 - 120 / 144, abs=1e-6)
    assert lovasz(answer, truth) == pytest.approx(0.169406, abs=1e-6)
    # The formula; with the library's smoothing of 1e-5 it would be 0.146973.
    assert generalised_dice(answer, truth) == pytest.approx(0.147064, abs=1e-6)
    # MCC = (120 * 856 - 24 * 24) / (144 * 880).
    assert mcc(answer, truth, smooth=TINY) == pytest.approx(1 - (120 * 856 - 576) / (144 * 880), abs=1e-6)


def test_generalised_dice_by_the_formula(random_pair: tuple[Tensor, Tensor]) -> None:
    logits, mask = random_pair
    p, g = logits.softmax(1).double(), torch.nn.functional.one_hot(mask, 3).movedim(-1, 1).double()
    weight = 1 / g.sum((2, 3)) ** 2
    expected = 1 - 2 * (weight * (p * g).sum((2, 3))).sum(1) / (weight * (p + g).sum((2, 3))).sum(1)
    assert generalised_dice(logits, mask) == pytest.approx(float(expected.mean()), abs=1e-6)


@pytest.mark.parametrize("weighting", ["square", "simple", "uniform"])
def test_generalised_dice_equals_the_library_without_its_smoothing(
    random_pair: tuple[Tensor, Tensor], weighting: str
) -> None:
    from monai.losses import GeneralizedDiceLoss

    logits, mask = random_pair
    mask[1][mask[1] == 2] = 0  # the second case lacks a class
    library = GeneralizedDiceLoss(to_onehot_y=True, softmax=True, w_type=weighting, smooth_nr=0, smooth_dr=1e-30)
    expected = float(library(logits, mask.unsqueeze(1)))
    assert generalised_dice(logits, mask, weighting=weighting) == pytest.approx(expected, abs=1e-6)


def test_generalised_dice_of_a_case_without_labels_is_nothing(random_pair: tuple[Tensor, Tensor]) -> None:
    logits, mask = random_pair
    alone = generalised_dice(logits[:1], mask[:1])
    mask[1] = IGNORE
    assert generalised_dice(logits, mask) == pytest.approx(float(alone) / 2, abs=1e-6)
    assert generalised_dice(logits, torch.full_like(mask, IGNORE)) == 0


def test_tversky_is_dice_and_jaccard_at_its_ends(random_pair: tuple[Tensor, Tensor]) -> None:
    logits, mask = random_pair
    halves = tversky(logits, mask, false_positives=0.5, false_negatives=0.5, smooth=0.5)
    assert halves == pytest.approx(float(dice(logits, mask, smooth=1.0)), abs=1e-6)
    p, g = logits.softmax(1)[:, 1:], torch.nn.functional.one_hot(mask, 3).movedim(-1, 1)[:, 1:]
    shared = (p * g).sum((2, 3))
    expected = 1 - ((shared + 1) / (p.sum((2, 3)) + g.sum((2, 3)) - shared + 1)).mean()
    assert tversky(logits, mask, false_positives=1, false_negatives=1) == pytest.approx(float(expected), abs=1e-6)


def test_tversky_weighs_what_its_names_say() -> None:
    truth = torch.zeros(1, 8, 8, dtype=torch.int64)
    truth[:, 2:6, 2:6] = 1
    more, less = truth.clone(), truth.clone()
    more[:, 6, 2:6] = 1
    less[:, 5, 2:6] = 0
    # 4 false positives: 16 / (16 + 4 a); 4 false negatives: 12 / (12 + 4 b).
    assert tversky(hard(more), truth, smooth=TINY) == pytest.approx(1 - 16 / (16 + 4 * 0.3), abs=1e-6)
    assert tversky(hard(less), truth, smooth=TINY) == pytest.approx(1 - 12 / (12 + 4 * 0.7), abs=1e-6)
    expected = (1 - 12 / (12 + 4 * 0.7)) ** 0.75
    assert focal_tversky(hard(less), truth, smooth=TINY) == pytest.approx(expected, abs=1e-6)


def test_tversky_equals_the_library(random_pair: tuple[Tensor, Tensor]) -> None:
    from monai.losses import TverskyLoss

    logits, mask = random_pair
    library = TverskyLoss(include_background=False, to_onehot_y=True, softmax=True, alpha=0.3, beta=0.7,
                          smooth_nr=1, smooth_dr=1)  # fmt: skip
    assert tversky(logits, mask) == pytest.approx(float(library(logits, mask.unsqueeze(1))), abs=1e-6)


def test_focal_tversky_raises_each_class_and_sums_them(random_pair: tuple[Tensor, Tensor]) -> None:
    logits, mask = random_pair
    p, g = logits.softmax(1), torch.nn.functional.one_hot(mask, 3).movedim(-1, 1)
    expected = 0.0
    for case in range(2):
        for label in (1, 2):
            tp = (p * g)[case, label].sum()
            index = (tp + 1) / (
                tp + 0.3 * (p * (1 - g))[case, label].sum() + 0.7 * ((1 - p) * g)[case, label].sum() + 1
            )
            expected += float((1 - index) ** 0.75) / 2
    assert focal_tversky(logits, mask) == pytest.approx(expected, abs=1e-6)


def test_dice_over_the_batch_and_with_squares(random_pair: tuple[Tensor, Tensor]) -> None:
    truth = torch.zeros(2, 8, 8, dtype=torch.int64)
    truth[0, :4] = 1
    answer = truth.clone()
    answer[1, 0, 0] = 1
    assert dice(hard(answer), truth, smooth=TINY) == pytest.approx(0.5, abs=1e-6)
    assert dice(hard(answer), truth, smooth=TINY, batch=True) == pytest.approx(1 - 64 / 65, abs=1e-6)
    logits, mask = random_pair
    p, g = logits.softmax(1)[:, 1:], torch.nn.functional.one_hot(mask, 3).movedim(-1, 1)[:, 1:]
    expected = 1 - ((2 * (p * g).sum((2, 3)) + 1) / ((p**2).sum((2, 3)) + g.sum((2, 3)) + 1)).mean()
    assert dice(logits, mask, squared=True) == pytest.approx(float(expected), abs=1e-6)


def test_dice_without_a_word_sums_pictures_over_the_batch_and_volumes_by_case() -> None:
    truth = torch.zeros(2, 8, 8, dtype=torch.int64)
    truth[0, :4] = 1
    answer = truth.clone()
    answer[1, 0, 0] = 1
    pictures = Dice(smooth=TINY, batch=None)(hard(answer), truth)
    volumes = Dice(smooth=TINY, batch=None)(hard(answer).unsqueeze(2), truth.unsqueeze(1))
    assert pictures == pytest.approx(1 - 64 / 65, abs=1e-6)
    assert volumes == pytest.approx(0.5, abs=1e-6)


def test_the_gradient_of_squared_dice_is_the_v_nets() -> None:
    torch.manual_seed(0)
    logits = torch.randn(1, 2, 5, 5, dtype=torch.float64)
    mask = torch.randint(0, 2, (1, 5, 5))
    p = logits.softmax(1)[0, 1].requires_grad_()
    # The two logits of probability p, so that the chain starts at p.
    dice(torch.stack([torch.zeros_like(p), torch.logit(p)])[None], mask, smooth=1e-12, squared=True).backward()
    g, q = mask[0].double(), p.detach()
    total = (q**2).sum() + (g**2).sum()
    expected = -2 * (g * total - 2 * q * (q * g).sum()) / total**2
    assert p.grad is not None
    assert torch.allclose(p.grad, expected, atol=1e-9)


def test_mcc_of_an_empty_mask_falls_with_false_positives() -> None:
    empty = torch.zeros(1, 8, 8, dtype=torch.int64)
    one, many = empty.clone(), torch.ones_like(empty)
    one[0, 0, 0] = 1
    assert mcc(hard(empty), empty) == pytest.approx(0.0, abs=1e-6)
    # TP 0 + 1, FP 1, FN 0, TN 63 + 1 of 64 pixels.
    assert mcc(hard(one), empty) == pytest.approx(1 - 64 / math.sqrt(2 * 1 * 65 * 64), abs=1e-6)
    assert mcc(hard(one), empty) < mcc(hard(many), empty)


def test_mcc_equals_the_library_where_all_is_labelled(random_pair: tuple[Tensor, Tensor]) -> None:
    from monai.losses import MCCLoss

    logits, mask = random_pair
    library = MCCLoss(include_background=False, to_onehot_y=True, softmax=True)
    assert mcc(logits, mask, smooth=1e-6) == pytest.approx(float(library(logits, mask.unsqueeze(1))), abs=1e-5)


# ---- pixels


def test_focal_by_hand() -> None:
    logits = torch.tensor([[[[0.0]], [[math.log(9.0)]]]])  # p = 0.9
    mask = torch.ones(1, 1, 1, dtype=torch.int64)
    assert focal(logits, mask, gamma=2) == pytest.approx(0.00105361, abs=1e-8)
    assert focal(logits, mask, gamma=2, alpha=0.25) == pytest.approx(0.00105361 / 4, abs=1e-8)
    assert focal(logits, 1 - mask, gamma=2, alpha=0.25) == pytest.approx(0.75 * 0.81 * math.log(10), abs=1e-6)


def test_focal_without_focus_is_cross_entropy(random_pair: tuple[Tensor, Tensor]) -> None:
    assert focal(*random_pair, gamma=0) == pytest.approx(float(cross_entropy(*random_pair)), abs=1e-6)


def test_class_weights_from_frequencies_and_from_the_batch() -> None:
    torch.manual_seed(0)
    logits, mask = torch.randn(1, 2, 4, 4), torch.zeros(1, 4, 4, dtype=torch.int64)
    mask[0, 0, :4] = 1
    each = torch.nn.functional.cross_entropy(logits, mask, reduction="none")
    # Each class the same say: the mean of the two means.
    expected = float((each[mask == 0].mean() + each[mask == 1].mean()) / 2)
    assert WeightedCrossEntropy()(logits, mask) == pytest.approx(expected, abs=1e-6)
    assert WeightedCrossEntropy(frequencies=[0.75, 0.25])(logits, mask) == pytest.approx(expected, abs=1e-6)
    assert WeightedCrossEntropy(class_weights=[1, 3])(logits, mask) == pytest.approx(expected, abs=1e-6)
    mask[0, 3] = IGNORE
    expected = float((each[mask == 0].mean() + each[mask == 1].mean()) / 2)
    assert WeightedCrossEntropy()(logits, mask) == pytest.approx(expected, abs=1e-6)


def test_pixel_weights_are_normalised(random_pair: tuple[Tensor, Tensor]) -> None:
    logits, mask = random_pair
    each = torch.nn.functional.cross_entropy(logits, mask, reduction="none")
    pixels = torch.rand(mask.shape)
    expected = float((each * pixels).sum() / pixels.sum())
    assert cross_entropy(logits, mask, pixels=pixels) == pytest.approx(expected, abs=1e-6)
    assert cross_entropy(logits, mask, pixels=7 * pixels) == pytest.approx(expected, abs=1e-6)


def test_unified_focal_equals_the_library_for_two_classes() -> None:
    from monai.losses.unified_focal_loss import AsymmetricFocalLoss, AsymmetricFocalTverskyLoss

    torch.manual_seed(0)
    logits, mask = torch.randn(2, 2, 6, 7), torch.randint(0, 2, (2, 6, 7))
    p, g = logits.softmax(1), torch.nn.functional.one_hot(mask, 2).movedim(-1, 1).float()
    focal_part = 2 * float(AsymmetricFocalLoss(delta=0.6, gamma=0.5)(p, g))  # the library also halves by classes
    regions = float(AsymmetricFocalTverskyLoss(delta=0.6, gamma=0.5)(p, g))
    assert asymmetric_focal(logits, mask) == pytest.approx(focal_part, rel=1e-5)
    assert asymmetric_focal_tversky(logits, mask, smooth=1e-6) == pytest.approx(regions, rel=1e-5)
    assert UnifiedFocal(weight=0.25, smooth=1e-6)(logits, mask) == pytest.approx(
        0.25 * focal_part + 0.75 * regions, rel=1e-5
    )


# ---- Lovasz


@pytest.mark.parametrize("per_image", [False, True])
def test_lovasz_equals_the_library(random_pair: tuple[Tensor, Tensor], per_image: bool) -> None:
    from segmentation_models_pytorch.losses import LovaszLoss

    logits, mask = random_pair
    mask[0, 0] = IGNORE
    mask[1][mask[1] == 2] = 1  # the second image lacks a class
    library = LovaszLoss("multiclass", per_image=per_image, ignore_index=IGNORE)
    assert lovasz(logits, mask, per_image=per_image) == pytest.approx(float(library(logits, mask)), abs=1e-6)


# ---- distances


def test_boundary_at_equality_is_negative_and_the_minimum(squares: tuple[Tensor, Tensor]) -> None:
    truth, moved = squares
    at_equality = float(boundary(hard(truth), truth))
    assert at_equality == pytest.approx(-0.214844, abs=1e-6)
    inside = truth[0].numpy().astype(bool)
    signed = np.where(inside, 1 - ndimage.distance_transform_edt(inside), ndimage.distance_transform_edt(~inside))
    assert at_equality == pytest.approx(float(signed[inside].sum()) / 1024, abs=1e-6)
    expected = float(signed[moved[0].numpy().astype(bool)].sum()) / 1024
    assert boundary(hard(moved), truth) == pytest.approx(expected, abs=1e-6)
    assert at_equality < expected


def test_hausdorff_by_hand(squares: tuple[Tensor, Tensor]) -> None:
    truth, moved = squares
    assert hausdorff_dt(hard(truth), truth) == pytest.approx(0.0, abs=1e-6)

    def field(mask: Tensor) -> np.ndarray:
        inside = mask[0].numpy().astype(bool)
        return ndimage.distance_transform_edt(inside) + ndimage.distance_transform_edt(~inside)

    wrong = (truth != moved)[0].numpy()
    expected = float((wrong * (field(truth) ** 2 + field(moved) ** 2)).mean())
    assert hausdorff_dt(hard(moved), truth) == pytest.approx(expected, rel=1e-5)
    assert hausdorff_dt(hard(moved), truth, log=True) == pytest.approx(math.log1p(expected), rel=1e-5)


# ---- skeletons


def test_a_broken_vessel_costs_cldice_more_than_a_thinner_one() -> None:
    truth = torch.zeros(1, 24, 40, dtype=torch.int64)
    truth[:, 10:13, 2:38] = 1
    broken, thin = truth.clone(), truth.clone()
    broken[:, :, 18:24] = 0
    thin[:, 10] = 0
    thin[:, 12] = 0
    assert cldice(hard(truth), truth) < 0.01
    assert dice(hard(broken), truth) < dice(hard(thin), truth)
    assert cldice(hard(broken), truth) > cldice(hard(thin), truth) + 0.02


def test_cldice_of_a_line_is_counted() -> None:
    truth = torch.zeros(1, 9, 30, dtype=torch.int64)
    truth[:, 4, 5:25] = 1
    half = truth.clone()
    half[:, :, 15:] = 0
    # Lines of one pixel are their own skeletons, but for what min-pooling takes off no end here: 10 of 20 pixels.
    precision, sensitivity = (10 + 1) / (10 + 1), (10 + 1) / (20 + 1)
    expected = 1 - 2 * precision * sensitivity / (precision + sensitivity + 1e-4)
    assert cldice(hard(half), truth) == pytest.approx(expected, abs=1e-5)


# ---- structural similarity


def test_ms_ssim_equals_torchmetrics() -> None:
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure as reference

    torch.manual_seed(0)
    blur = torch.nn.functional.avg_pool2d
    first = blur(torch.rand(2, 1, 190, 200), 5, 1, 2)
    second = (first + 0.1 * blur(torch.rand(2, 1, 190, 200), 3, 1, 1)).clamp(0, 1)
    expected = reference(first, second, data_range=1.0, normalize=None)
    assert float(similarity(first, second).mean()) == pytest.approx(float(expected), abs=1e-4)
    assert torch.allclose(similarity(first, first), torch.ones(2, 1), atol=1e-6)


def test_ms_ssim_equals_monai_in_3d() -> None:
    from monai.losses import SSIMLoss

    torch.manual_seed(0)
    first = torch.nn.functional.avg_pool3d(torch.rand(1, 1, 14, 15, 16), 3, 1, 1)
    second = (first + 0.2 * torch.rand_like(first)).clamp(0, 1)
    assert scales(first.shape[2:]) == 1  # plain SSIM
    expected = float(SSIMLoss(spatial_dims=3, win_size=11, kernel_sigma=1.5)(first, second))
    assert 1 - float(similarity(first, second).mean()) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("size", "count"), [((176, 300), 5), ((175, 175), 4), ((22, 22), 2), ((21, 21), 1), ((1, 4), 1)]
)
def test_scales_follow_the_smallest_side(size: tuple[int, int], count: int) -> None:
    assert scales(size) == count


def test_ms_ssim_of_equal_masks_is_nothing(squares: tuple[Tensor, Tensor]) -> None:
    truth, moved = squares
    assert ms_ssim(hard(truth), truth) == pytest.approx(0.0, abs=1e-5)
    assert 0.05 < ms_ssim(hard(moved), truth) < 1


# ---- refusals


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Dice(smooth=0), r"^loss\.smooth=0: give a positive"),
        (lambda: MCC(smooth=-1), r"^loss\.smooth=-1"),
        (lambda: GeneralisedDice("cube"), r"^loss\.weighting=cube: choose one of square, simple, uniform"),
        (lambda: Tversky(0, 0), r"^loss\.false_positives=0, loss\.false_negatives=0"),
        (lambda: FocalTversky(gamma=0), r"^loss\.gamma=0"),
        (lambda: UnifiedFocal(gamma=1), r"^loss: weight=0\.5, delta=0\.6, gamma=1"),
        (lambda: Focal(gamma=0.5), r"^loss\.gamma=0\.5: give 0, or at least 1"),
        (lambda: Focal(alpha=2), r"^loss\.alpha=2"),
        (lambda: ClDice(0), r"^loss\.iterations=0"),
        (lambda: WeightedCrossEntropy([1, 2], [0.5, 0.5]), r"exclude one another"),
        (lambda: WeightedCrossEntropy(frequencies=[1.0, 0.0]), r"^loss\.frequencies=\[1\.0, 0\.0\]"),
        (lambda: CrossEntropy([1, -1]), r"^loss\.class_weights=\[1, -1\]"),
    ],
)
def test_impossible_numbers_are_refused_in_one_line(make: "type[nn.Module]", message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_a_wrong_number_of_class_weights_is_refused(random_pair: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(ConfigError, match=r"loss\.class_weights has 2 entries, the network answers with 3 classes"):
        CrossEntropy([1, 2])(*random_pair)
