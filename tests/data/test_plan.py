"""The plan: sizes that the network can pool, within the memory, from the median case; and as overrides."""

import re
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.data.inspection.overrides import arguments, flow, write_plan, yaml_text
from medseg.data.inspection.plan import Limits, make_plan, target_spacing
from medseg.data.inspection.probe import measure, tensors_of
from medseg.data.inspection.topology import topology, training_bytes
from medseg.errors import ConfigError, DataError
from medseg.nets.unet import UNet
from medseg.types import BranchOutput, DeepOutput, StructureOutput
from tiny_nets import build, untrained

GIB = 2**30


def percentiles(values, p10=None):
    values = [float(value) for value in values]
    return {"min": values, "p10": list(map(float, p10 or values)), "p50": values, "p90": values, "max": values}


def figures(size, *, spacing=None, p10=None, cases=100, channels=1, classes=2, modality="", zeros=False):
    """The part of a fingerprint that the plan reads."""
    sample = {"min": 0.0 if zeros else 5.0, "p10": 0.0 if zeros else 9.0}
    inside = {"p0.5": -900.0, "p99.5": 240.0, "mean": -55.5, "std": 300.25}
    return {
        "dataset": "made", "dims": len(size), "cases": cases, "modality": modality, "unit": "mm" if spacing else "px",
        "size": percentiles(size),
        "spacing": None if spacing is None else percentiles(spacing, p10),
        "extent": percentiles([side * step for side, step in zip(size, spacing or [1] * len(size), strict=True)]),
        "channels": [{"name": "x", "mean": 51.0, "std": 25.5, "sample": sample, "foreground": inside}] * channels,
        "classes": [{}] * classes,
    }  # fmt: skip


def settings_of(plan):
    return {one.key: one.value for one in plan.settings}


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.integers(4, 700), min_size=2, max_size=3),
    st.lists(st.sampled_from([0.3, 0.5, 1.0, 1.5, 3.0, 8.0]), min_size=3, max_size=3),
)
def test_every_axis_is_pooled_until_4_to_8_pixels_are_left(size, spacing):
    if max(size) < 8:
        return
    shape = topology(size, spacing=spacing[: len(size)], base_width=16)
    for side, stride in zip(size, shape.stride, strict=True):
        assert 4 <= side / stride < 8 or (side < 8 and stride == 1)
    assert len(shape.widths) == len(shape.pools) + 1 and all(set(pool) <= {1, 2} for pool in shape.pools)
    assert all(max(pool) == 2 for pool in shape.pools)


def test_coarse_axes_wait_until_the_others_are_as_coarse():
    shape = topology((10, 160, 160), spacing=(8.0, 1.0, 1.0), base_width=32)
    assert shape.pools == ((1, 2, 2), (1, 2, 2), (1, 2, 2), (2, 2, 2), (1, 2, 2))
    assert shape.widths == (32, 64, 128, 256, 320, 320) and shape.stride == (2, 32, 32)
    assert not shape.halves_every_axis


@given(st.integers(8, 2000), st.integers(8, 2000))
def test_pictures_halve_both_axes_until_the_shorter_has_4_to_8_pixels(height, width):
    shape = topology((height, width), spacing=(1, 1), base_width=8, together=True)
    assert shape.halves_every_axis and 4 <= min(height, width) / shape.stride[0] < 8


def test_equal_axes_are_halved_together():
    shape = topology((256, 256), spacing=(1, 1), base_width=32)
    assert shape.halves_every_axis and shape.widths == (32, 64, 128, 256, 512, 512, 512)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(16, 600), min_size=3, max_size=3),
    st.lists(st.sampled_from([0.5, 1.0, 2.5, 5.0]), min_size=3, max_size=3),
    st.floats(1.0, 24.0),
    st.integers(2, 300),
)
def test_a_plan_for_volumes_fits_memory_network_and_dataset(size, spacing, memory, cases):
    found = figures(size, spacing=spacing, cases=cases)
    plan = make_plan(found, Limits(memory * GIB), view_dims=3)
    assert plan.estimate <= memory * GIB and 2 <= plan.batch <= 32
    assert all(side % stride == 0 for side, stride in zip(plan.size, plan.topology.stride, strict=True))
    target = settings_of(plan)["data.preprocess.spacing"]
    for side, whole, step, aim, stride in zip(plan.size, size, spacing, target, plan.topology.stride, strict=True):
        assert side <= max(whole * step / aim + stride / 2 + 1, 8)
    assert plan.batch == 2 or plan.batch <= cases


@settings(max_examples=40, deadline=None)
@given(st.integers(40, 900), st.integers(40, 900), st.floats(0.5, 16.0))
def test_more_memory_never_makes_a_picture_smaller(height, width, memory):
    small = make_plan(figures((height, width)), Limits(memory * GIB), view_dims=2)
    large = make_plan(figures((height, width)), Limits(2 * memory * GIB), view_dims=2)
    assert all(one <= other for one, other in zip(small.size, large.size, strict=True))


def test_a_picture_keeps_the_median_size_and_its_mean_where_memory_allows():
    plan = make_plan(figures((360, 560)), Limits(16 * GIB), view_dims=2)
    made = settings_of(plan)
    assert made["preprocess.size"] == [384, 576] and made["data.mean"] == [0.2] and made["data.std"] == [0.1]
    assert made["net.widths"] == list(plan.topology.widths)
    assert "net.pools" not in made and made["data.batch_size"] == plan.batch <= 5


def test_a_plan_in_too_little_memory_names_the_keys():
    with pytest.raises(ConfigError, match="memory_gb=0.001.*base_width"):
        make_plan(figures((300, 300)), Limits(0.001 * GIB), view_dims=2)
    with pytest.raises(ConfigError, match="memory_gb=-1"):
        Limits(-GIB)


def test_a_dataset_without_a_sound_case_has_no_plan():
    with pytest.raises(DataError, match="no case without an error"):
        make_plan(figures((64, 64), cases=0), Limits(GIB), view_dims=2)


def test_the_target_spacing_is_the_median_unless_an_axis_is_coarse():
    assert target_spacing(figures((100, 100, 100), spacing=(1.2, 0.8, 0.8), p10=(0.7, 0.5, 0.5))) == (1.2, 0.8, 0.8)
    assert target_spacing(figures((12, 300, 300), spacing=(8, 1, 1), p10=(5, 1, 1))) == (5, 1, 1)
    assert target_spacing(figures((12, 300, 300), spacing=(8, 1, 1), p10=(0.5, 1, 1))) == (1, 1, 1)
    # Coarse, but with as many slices as the other axes have pixels: the whole body, not a stack.
    assert target_spacing(figures((300, 300, 300), spacing=(4, 1, 1), p10=(2, 1, 1))) == (4, 1, 1)


def test_ct_is_clipped_alike_and_everything_else_is_scaled_by_itself():
    common = {"size": (40, 80, 80), "spacing": (2, 1, 1)}
    ct = settings_of(make_plan(figures(**common, modality="CT"), Limits(8 * GIB), view_dims=3))
    (step,) = ct["data.preprocess.steps"]
    assert step["_target_"].endswith("ClipScale") and (step["low"], step["high"]) == (-900.0, 240.0)
    assert (step["mean"], step["deviation"]) == (-55.5, 300.25)
    for zeros in (False, True):
        mr = settings_of(make_plan(figures(**common, modality="MR", zeros=zeros), Limits(8 * GIB), view_dims=3))
        assert mr["data.preprocess.steps"] == [{"_target_": "medseg.data.volumes.steps.ZScore", "nonzero": zeros}]
        assert mr["data.preprocess.normalise"] is None


def test_slices_of_volumes_keep_their_thickness():
    plan = make_plan(figures((12, 200, 180), spacing=(8, 1.5, 1.5)), Limits(8 * GIB), view_dims=2)
    made = settings_of(plan)
    assert made["data.preprocess.spacing"] == [None, 1.5, 1.5] and made["data.card.patch"] == [1, 192, 192]
    assert len(plan.size) == 2


def test_without_a_known_spacing_nothing_is_resampled_and_a_flat_stack_is_pooled_late():
    plan = make_plan(figures((10, 220, 256)), Limits(8 * GIB), view_dims=3)
    assert settings_of(plan)["data.preprocess.spacing"] is None
    assert plan.topology.pools[:2] == ((1, 2, 2), (1, 2, 2)) and plan.size[0] in (8, 10, 12)
    assert make_plan(figures((10, 220, 256)), Limits(8 * GIB), view_dims=2).size == (224, 256)


@pytest.mark.parametrize("size", [(48, 64), (16, 24, 24)])
def test_the_planned_network_exists_and_its_steps_are_measured(size):
    shape = topology(size, spacing=(4.0, 1.0, 1.0)[-len(size) :], base_width=4)
    net = UNet(in_channels=2, num_classes=3, widths=shape.widths, pools=shape.pools, spatial_dims=len(size))
    assert tuple(net.stride) == shape.stride
    probe = measure(net, size=size, channels=2, classes=3, batch=2, steps=2)
    assert probe.peak >= probe.base > 0 and probe.seconds > 0
    assert probe.parameters == sum(weight.numel() for weight in net.parameters())


@pytest.mark.parametrize("option", ["unetpp", "unet3plus", "mpcnn", "dmunet", "mask_rcnn"])
def test_networks_with_several_outputs_or_losses_of_their_own_are_measured(option):
    net = build(option, classes=3)
    before = {name: weight.detach().clone() for name, weight in net.named_parameters()}
    probe = measure(net, size=(64, 64), channels=1, classes=3, batch=2, steps=2)
    assert probe.seconds > 0 and probe.peak >= probe.base
    # AdamW moves whatever has a gradient; only batch statistics may stay without a step.
    still = [name for name, weight in net.named_parameters() if torch.equal(weight, before[name])]
    assert [name for name in still if not untrained(net, name)] == []


def test_all_tensors_of_an_output_are_found():
    one, two, three = (torch.full((1,), float(number)) for number in range(3))
    assert tensors_of(one) == [one]
    assert tensors_of([one, two]) == [one, two]
    assert tensors_of(DeepOutput([one, two], presence=three)) == [one, two, three]
    assert tensors_of(DeepOutput([one, two])) == [one, two]
    assert tensors_of(StructureOutput(one, ((1,),))) == [one]
    assert tensors_of(BranchOutput(one, [two], three)) == [one, two, three]


def test_memory_grows_with_batch_size_and_width():
    shape = topology((64, 64), spacing=(1, 1), base_width=16)
    wider = topology((64, 64), spacing=(1, 1), base_width=32)
    kinds = {"channels": 1, "classes": 2}
    one = training_bytes(shape, (64, 64), batch=1, **kinds)
    assert one < training_bytes(shape, (64, 64), batch=2, **kinds) < training_bytes(wider, (64, 64), batch=2, **kinds)


def test_the_yaml_holds_the_settings_and_a_reason_above_each():
    plan = make_plan(figures((24, 80, 80), spacing=(4, 1, 1), modality="CT"), Limits(4 * GIB), view_dims=3)
    text = yaml_text(plan, title=["head"])
    assert text.startswith("# @package _global_\n# head\n")
    tree = yaml.safe_load(text)
    for key, value in settings_of(plan).items():
        node = tree
        for part in key.split("."):
            node = node[part]
        assert node == value
    assert len(re.findall(r"^ +# ", text, re.MULTILINE)) == len(plan.settings)


def test_the_arguments_are_read_by_hydra_as_the_same_values():
    from hydra.core.override_parser.overrides_parser import OverridesParser

    plan = make_plan(figures((24, 80, 80), spacing=(4, 1, 1), modality="CT"), Limits(4 * GIB), view_dims=3)
    given_keys = [one.key for one in plan.settings if one.key != "net.pools"]
    parsed = OverridesParser.create().parse_overrides(arguments(plan, known=given_keys))
    for override, one in zip(parsed, plan.settings, strict=True):
        assert override.key_or_group == one.key and override.is_add() == (one.key == "net.pools")
        value = override.value()
        assert [strings(item) for item in value] == one.value if isinstance(value, list) else value == one.value


def strings(item):
    return {str(key): value for key, value in item.items()} if isinstance(item, dict) else item


def test_flow_style_of_plain_values():
    assert flow([1, None, 2.5, True, "a", {"b": [1]}]) == "[1, null, 2.5, true, a, {b: [1]}]"


def test_a_plan_edited_by_hand_is_kept(tmp_path):
    path = tmp_path / "experiment" / "plan.yaml"
    write_plan(path, "one\n")
    write_plan(path, "one\n")
    assert [file.name for file in path.parent.iterdir()] == ["plan.yaml"]
    path.write_text("edited\n")
    write_plan(path, "two\n")
    assert path.read_text() == "two\n" and Path(f"{path}.old").read_text() == "edited\n"
