"""Label maps to instances and back."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage
from torch import Tensor

from medseg.nets.instances import class_probabilities, instances_of, logits_of, merged_mask
from medseg.types import IGNORE


def found(instances: dict[str, Tensor], score: float = 1.0) -> dict[str, Tensor]:
    """Return instances as a perfect detector reports them."""
    count = len(instances["labels"])
    masks = instances["masks"][:, None].float()
    return {"labels": instances["labels"], "scores": torch.full((count,), score), "masks": masks}


def test_an_empty_image_has_boxes_of_shape_0_by_4() -> None:
    for mask in (torch.zeros(9, 7, dtype=torch.int64), torch.full((9, 7), IGNORE)):
        none = instances_of(mask)
        assert none["boxes"].shape == (0, 4)
        assert none["labels"].shape == (0,)
        assert none["masks"].shape == (0, 9, 7)
        assert none["boxes"].dtype == torch.float32
        assert none["labels"].dtype == torch.int64
        assert none["masks"].dtype == torch.uint8


def test_each_region_of_each_class_is_one_instance_with_its_box() -> None:
    mask = torch.zeros(20, 30, dtype=torch.int64)
    mask[2:6, 3:9] = 1
    mask[2:6, 9:13] = 2  # touches the first
    mask[10:20, 29] = 1  # one column wide, at the border
    mask[12:14, 2:6] = 1  # 8 pixels
    mask[6:9, 3:9] = IGNORE
    some = instances_of(mask)
    assert some["labels"].tolist() == [1, 1, 2]
    assert some["boxes"].tolist() == [[3, 2, 9, 6], [29, 10, 30, 20], [9, 2, 13, 6]]
    assert some["masks"].sum((1, 2)).tolist() == [24, 10, 16]
    assert instances_of(mask, smallest=8)["labels"].tolist() == [1, 1, 1, 2]


def test_corners_that_touch_are_one_instance() -> None:
    mask = torch.zeros(12, 12, dtype=torch.int64)
    mask[:4, :4] = mask[4:8, 4:8] = 1
    assert instances_of(mask)["boxes"].tolist() == [[0, 0, 8, 8]]


@given(arrays.arrays(np.int64, st.tuples(st.integers(4, 24), st.integers(4, 24)), elements=st.sampled_from([0, 1, 2])))
@settings(max_examples=40, deadline=None)
def test_the_union_of_perfect_instances_is_the_mask(array: np.ndarray) -> None:
    mask = torch.from_numpy(array)
    instances = instances_of(mask, smallest=1)
    probabilities = class_probabilities(found(instances), num_classes=3, size=mask.shape)
    assert torch.equal(merged_mask(probabilities), mask)
    assert torch.equal(logits_of(probabilities, num_classes=3).argmax(0), mask)
    boxes = instances["boxes"]
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    count = sum(ndimage.label(array == label, structure=np.ones((3, 3)))[1] for label in (1, 2))
    assert len(boxes) == count


def test_scores_below_the_limit_do_not_count() -> None:
    mask = torch.zeros(10, 10, dtype=torch.int64)
    mask[2:8, 2:8] = 1
    for score, there in ((0.5, True), (0.4999, False)):
        map_ = class_probabilities(found(instances_of(mask), score), num_classes=2, size=(10, 10))
        assert bool(merged_mask(map_).any()) is there


def test_of_overlapping_instances_the_likeliest_wins() -> None:
    masks = torch.tensor([0.6, 0.9, 0.7])[:, None, None, None].expand(3, 1, 4, 4)
    three = {"labels": torch.tensor([1, 2, 1]), "scores": torch.ones(3), "masks": masks}
    probabilities = class_probabilities(three, num_classes=3, size=(4, 4))
    torch.testing.assert_close(probabilities[:, 0, 0], torch.tensor([0.7, 0.9]))
    assert (merged_mask(probabilities) == 2).all()


def test_logits_decide_as_the_merged_mask_around_one_half() -> None:
    half = np.float32(0.5)
    values = [0.0, 0.3, np.nextafter(half, np.float32(0)), half, np.nextafter(half, np.float32(1)), 0.8, 1.0]
    probabilities = torch.tensor(np.array(values, dtype=np.float32))[None, None]
    logits = logits_of(probabilities, num_classes=2)
    assert torch.isfinite(logits).all()
    assert torch.equal(logits.argmax(0), merged_mask(probabilities))
    assert merged_mask(probabilities).flatten().tolist() == [0, 0, 0, 1, 1, 1, 1]
    torch.testing.assert_close(logits.softmax(0)[1, 0, 1:-1], probabilities[0, 0, 1:-1])


def test_one_class_is_the_foreground() -> None:
    mask = torch.zeros(8, 8, dtype=torch.int64)
    mask[2:6, 2:6] = 1
    probabilities = class_probabilities(found(instances_of(mask)), num_classes=1, size=(8, 8))
    logits = logits_of(probabilities, num_classes=1)
    assert logits.shape == (1, 8, 8)
    assert torch.equal(logits[0] > 0, mask == 1)
