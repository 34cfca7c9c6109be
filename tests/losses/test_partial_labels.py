"""Classes that a sample does not annotate are background there, for every loss and every kind of output."""

import math
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.nn import functional

from medseg.losses.border import BorderCrossEntropy
from medseg.losses.combine import DeepSupervision, WeightedSum, applied, training_loss
from medseg.losses.mutual import mutual_learning
from medseg.losses.outputs import presence_loss, structure_loss
from medseg.losses.overlap import Dice
from medseg.losses.partial_labels import merged
from medseg.losses.pixelwise import CrossEntropy
from medseg.losses.truth import Truth
from medseg.types import IGNORE, BranchOutput, DeepOutput, StructureOutput

OPTIONS = sorted((Path(__file__).parents[2] / "conf" / "loss").glob("*.yaml"))
KNOWN = torch.tensor([[True, True, False, False], [True, False, True, True]])
"""The first sample annotates class 1 alone, the second all but class 1; K = 4."""


@pytest.fixture(params=OPTIONS, ids=lambda path: path.stem)
def loss(request: pytest.FixtureRequest) -> nn.Module:
    return instantiate(OmegaConf.load(request.param)).eval()


def toy(seed: int = 0, *, size: tuple[int, ...] = (6, 7), kind: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Return logits (2, 4, *S) and a mask that holds none but the annotated labels, and one ignored pixel."""
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 4, *size, generator=draw, dtype=kind)
    mask = torch.randint(0, 4, (2, *size), generator=draw)
    mask = torch.where(KNOWN[torch.arange(2).view(-1, *[1] * len(size)), mask], mask, 0)
    mask.view(2, -1)[:, 0] = IGNORE
    return logits, mask


# ---- the merged map


def test_probabilities_of_what_is_not_annotated_go_to_the_background() -> None:
    # Probabilities 1/10, 2/10, 3/10, 4/10 of a single pixel.
    logits = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64).log().reshape(1, 4, 1, 1).repeat(2, 1, 1, 1)
    found = merged(logits, KNOWN).softmax(1).flatten(1)
    expected = torch.tensor([[0.8, 0.2, 0.0, 0.0], [0.3, 0.0, 0.3, 0.4]], dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-15)


def test_cross_entropy_is_that_of_a_model_with_fewer_classes() -> None:
    logits, mask = toy(kind=torch.float64)
    value = training_loss(logits, Truth(mask, annotated=KNOWN), CrossEntropy())
    small = torch.stack([logits[0, [0, 2, 3]].exp().sum(0).log(), logits[0, 1]])[None]
    large = torch.stack([logits[1, [0, 1]].exp().sum(0).log(), logits[1, 2], logits[1, 3]])[None]
    renamed = torch.where(mask[1:] == IGNORE, IGNORE, (mask[1:] - 1).clamp(min=0))
    total = functional.cross_entropy(small, mask[:1], ignore_index=IGNORE, reduction="sum")
    total = total + functional.cross_entropy(large, renamed, ignore_index=IGNORE, reduction="sum")
    assert float(value) == pytest.approx(float(total / (mask != IGNORE).sum()), rel=1e-12)


def test_at_an_annotated_pixel_the_gradient_is_that_of_the_plain_softmax() -> None:
    logits, _ = toy(kind=torch.float64)
    mask = torch.stack([torch.full((6, 7), 1), torch.full((6, 7), 3)])
    grads = []
    for known in (None, KNOWN):
        leaf = logits.clone().requires_grad_()
        training_loss(leaf, Truth(mask, annotated=known), CrossEntropy()).backward()
        grads.append(leaf.grad)
    torch.testing.assert_close(grads[1], grads[0], rtol=1e-12, atol=1e-15)


def test_a_background_pixel_does_not_teach_that_a_class_is_absent() -> None:
    logits, _ = toy()
    leaf, mask = logits.clone().requires_grad_(), torch.zeros(2, 6, 7, dtype=torch.int64)
    training_loss(leaf, Truth(mask, annotated=KNOWN), CrossEntropy()).backward()
    assert leaf.grad is not None
    assert (leaf.grad[0, 1] > 0).all() and (leaf.grad[0, [0, 2, 3]] < 0).all()  # annotated: down; the others: up


def test_samples_that_annotate_everything_keep_their_logits_to_the_bit() -> None:
    logits, _ = toy()
    whole, half = torch.ones_like(KNOWN), KNOWN.clone()
    half[1] = True
    leaf = logits.clone().requires_grad_()
    out = merged(leaf, whole)
    assert torch.equal(out, logits)
    weights = torch.rand_like(out)
    (out * weights).sum().backward()
    assert leaf.grad is not None and torch.equal(leaf.grad, weights)
    assert torch.equal(merged(logits, half)[1], logits[1])


def test_the_gradient_agrees_with_finite_differences() -> None:
    logits, mask = toy(kind=torch.float64, size=(3, 4))
    both = WeightedSum({"ce": CrossEntropy(), "dice": Dice()})
    assert torch.autograd.gradcheck(
        lambda x: training_loss(x, Truth(mask, annotated=KNOWN), both), (logits.requires_grad_(),)
    )


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"annotated is \(2, 3\) for logits \(2, 4, 6, 7\); give \(B, K\)"):
        merged(toy()[0], KNOWN[:, :3])


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.float16])
def test_extreme_logits_stay_finite(kind: torch.dtype) -> None:
    logits, mask = toy()
    for scale in (1.0, 2e4):
        leaf = (logits.clamp(-3, 3) * scale).to(kind).requires_grad_()
        value = training_loss(leaf, Truth(mask, annotated=KNOWN), WeightedSum({"ce": CrossEntropy(), "dice": Dice()}))
        value.backward()
        assert value.dtype == torch.float32 and torch.isfinite(value)
        assert leaf.grad is not None and torch.isfinite(leaf.grad).all()
    wide = merged(logits.to(kind), KNOWN)
    assert wide.dtype == torch.float32 and torch.equal(wide, merged(logits.to(kind).float(), KNOWN))


# ---- every loss, every output


def test_every_loss_judges_the_merged_map_and_teaches(loss: nn.Module) -> None:
    logits, mask = toy(size=(16, 16))
    leaf = logits.clone().requires_grad_()
    value = training_loss(leaf, Truth(mask, annotated=KNOWN), loss)
    value.backward()
    assert torch.isfinite(value)
    assert leaf.grad is not None and torch.isfinite(leaf.grad).all() and leaf.grad.abs().sum() > 0
    # What is not annotated may share its probability with the background as it likes.
    other = logits.clone()
    pair = other[0, [0, 2, 3]].logsumexp(0)
    other[0, [0, 2, 3]] = pair - math.log(3)
    assert float(training_loss(other, Truth(mask, annotated=KNOWN), loss)) == pytest.approx(
        float(value.detach()), rel=1e-4, abs=1e-5
    )


def test_every_loss_is_the_plain_one_where_all_is_annotated(loss: nn.Module) -> None:
    logits, mask = toy(size=(16, 16))
    plain = training_loss(logits, Truth(mask), loss)
    assert torch.equal(training_loss(logits, Truth(mask, annotated=torch.ones_like(KNOWN)), loss), plain)


def test_every_loss_takes_side_outputs_of_partial_samples(loss: nn.Module) -> None:
    logits, mask = toy(size=(16, 16))
    one = float(training_loss(logits, Truth(mask, annotated=KNOWN), loss))
    for output in ([logits, logits], DeepOutput([logits, logits], [0.25, 0.75])):
        assert float(training_loss(output, Truth(mask, annotated=KNOWN), loss)) == pytest.approx(one, rel=1e-5)


class First(nn.Module):
    """A loss that is the mean background logit."""

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        return logits[:, 0].mean()


def test_levels_of_a_list_are_weighed_as_without_partial_samples() -> None:
    _, mask = toy(size=(8, 8))
    maps = [torch.full((2, 4, side, side), height) for side, height in ((8, 1.0), (4, 10.0))]
    known = torch.tensor([[True, True, False, False]] * 2)
    value = training_loss(maps, Truth(mask, annotated=known), DeepSupervision(First(), "halved"))
    assert float(value) == pytest.approx(2 / 3 * 1 + 1 / 3 * 10 + math.log(3), rel=1e-6)


def test_pixel_weights_reach_the_loss_of_partial_samples() -> None:
    logits, mask = toy()
    weight = torch.rand(mask.shape) * (mask != IGNORE)
    loss = BorderCrossEntropy()
    value = training_loss(logits, Truth(mask, weight, KNOWN), loss)
    assert float(value) == pytest.approx(float(loss(merged(logits, KNOWN), mask, weight)))
    assert float(value) != pytest.approx(float(applied(CrossEntropy(), logits, Truth(mask, weight, KNOWN))), rel=1e-3)


def test_presence_of_what_is_not_annotated_is_not_judged() -> None:
    mask = torch.zeros(2, 4, 4, dtype=torch.int64)
    mask[0, 0, 0], mask[1, 0, 0] = 1, 3
    presence = torch.tensor([[0.0, 9.0, -9.0], [5.0, math.log(3.0), 0.0]], requires_grad=True)
    value = presence_loss(presence, mask, KNOWN)
    # Class 1 of the first; 2 (absent, p = 3/4) and 3 of the second.
    assert float(value.detach()) == pytest.approx(-(2 * math.log(0.5) + math.log(0.25)) / 3, abs=1e-6)
    value.backward()
    assert presence.grad is not None
    assert ((presence.grad != 0) == KNOWN[:, 1:]).all()
    deep = DeepOutput([toy()[0]], presence=presence.detach())
    _, labels = toy()
    alone = training_loss(deep.maps[0], Truth(labels, annotated=KNOWN), CrossEntropy())
    both = alone + presence_loss(deep.presence, labels, KNOWN)  # type: ignore[arg-type]
    assert float(training_loss(deep, Truth(labels, annotated=KNOWN), CrossEntropy())) == pytest.approx(float(both))


def test_a_structure_counts_where_all_of_its_labels_are_annotated() -> None:
    torch.manual_seed(0)
    _, mask = toy()
    members = ((1,), (2, 3), (1, 2))
    maps = torch.randn(2, 3, 6, 7)
    value = training_loss(StructureOutput(maps, members), Truth(mask, annotated=KNOWN), CrossEntropy())
    first = structure_loss(StructureOutput(maps[:1, :1], members[:1]), mask[:1])
    second = structure_loss(StructureOutput(maps[1:, 1:2], members[1:2]), mask[1:])
    assert float(value) == pytest.approx(float(first + second), abs=1e-6)  # the third nowhere
    plain = structure_loss(StructureOutput(maps, members), mask)
    assert torch.equal(structure_loss(StructureOutput(maps, members), mask, torch.ones_like(KNOWN)), plain)


def test_branches_learn_mutually_and_partial_samples_teach_no_margin() -> None:
    torch.manual_seed(0)
    logits, mask = toy()
    fused, one, two = logits, logits.flip(0), 2 * logits
    margin = torch.randn(2, 1, 6, 7, requires_grad=True)
    known = KNOWN.clone()
    known[1] = True
    value = training_loss(BranchOutput(fused, [one, two], margin), Truth(mask, annotated=known), CrossEntropy())

    def judge(each: Tensor) -> Tensor:
        return CrossEntropy()(merged(each, known), mask)

    expected = mutual_learning(BranchOutput(fused, [one, two]), mask, judge)
    expected = expected + mutual_learning(
        BranchOutput(fused[1:], [], margin[1:]), mask[1:], lambda each: torch.zeros(())
    )
    assert float(value.detach()) == pytest.approx(float(expected.detach()), rel=1e-6)
    value.backward()
    assert margin.grad is not None
    assert (margin.grad[0] == 0).all() and margin.grad[1].abs().sum() > 0
    whole = BranchOutput(fused, [one, two], margin.detach())
    plain = float(training_loss(whole, Truth(mask), CrossEntropy()))
    assert float(training_loss(whole, Truth(mask, annotated=torch.ones_like(known)), CrossEntropy())) == pytest.approx(
        plain
    )
