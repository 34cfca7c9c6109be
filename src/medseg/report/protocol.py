"""Protocol tags: what has to be equal before two published numbers may stand side by side, and where they differ.

A mean Dice of 0.83 can be a mean over pictures, one number pooled over all pixels, or a function of the mean IoU; it
can come from the split that chose the weights, from pictures of the same patients, from marks that a person sets. Tags
say which. An unknown tag never agrees with anything.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from medseg.selection import NOTHING, selection_of

UNKNOWN, MIXED = "unknown", "mixed"
YES, NO, NONE = "yes", "no", "none"
PER_IMAGE, PER_VOLUME, POOLED = "per-image mean", "per-volume mean", "pooled"
OFFICIAL, LISTS, RANDOM = "official", "published lists", "random"
VALIDATION, LAST, BEST_ON_TEST = "validation", "last", "best on test"
FOREGROUND, CLASS_MEAN = "foreground", "mean over foreground classes"
FIXED_SIDES = (OFFICIAL, LISTS)
"""Kinds of splits whose test cases are the same for everybody."""
FOLD = re.compile(r"kfold(\d+)of(\d+)")


@dataclass(frozen=True)
class Protocol:
    """How a number came about; each tag is a word of the vocabulary in ``experiments/published/README.md``.

    Attributes:
        dataset: option of ``conf/data``, or a name of its own where there is none.
        cases: number of images or volumes in the whole set, as text: sets circulate in several sizes.
        split: kind of the division.
        patient_grouped: whether no patient is on two sides.
        resolution: rows x columns that the network saw.
        metric_definition: over what the metric is a mean.
        averaging: which classes are in it.
        selection_rule: what chose the weights.
        tta: whether predictions of altered copies were averaged.
        prompts: what a person or the truth gave the method beside the image.
        extra_data: images or weights beyond the training side.
    """

    dataset: str = UNKNOWN
    cases: str = UNKNOWN
    split: str = UNKNOWN
    patient_grouped: str = UNKNOWN
    resolution: str = UNKNOWN
    metric_definition: str = UNKNOWN
    averaging: str = UNKNOWN
    selection_rule: str = UNKNOWN
    tta: str = UNKNOWN
    prompts: str = UNKNOWN
    extra_data: str = UNKNOWN


TAGS = tuple(field.name for field in fields(Protocol))
WORDS = {
    "dataset": "dataset",
    "cases": "number of cases",
    "split": "split",
    "patient_grouped": "split by patient",
    "resolution": "resolution",
    "metric_definition": "metric",
    "averaging": "classes averaged",
    "selection_rule": "weights chosen by",
    "tta": "test-time augmentation",
    "prompts": "prompts",
    "extra_data": "extra data or pretraining",
}
"""How a tag is called in a reason."""


def agreement(ours: Protocol, published: Protocol) -> tuple[bool, tuple[str, ...]]:
    """Return whether two numbers may be compared and, if not, the reasons in words: differences, then what is unknown.

    Where both used the same fixed sides, whether these are by patient is no difference between them, so that tag is
    not asked for. Two random draws have different test cases and never agree.
    """
    same_sides = ours.split == published.split and ours.split in FIXED_SIDES
    asked = [tag for tag in TAGS if not (tag == "patient_grouped" and same_sides)]
    known = [tag for tag in asked if getattr(published, tag) != UNKNOWN]
    reasons = [reason for tag in known if (reason := _difference(tag, getattr(ours, tag), getattr(published, tag)))]
    unstated = [WORDS[tag] for tag in asked if tag not in known]
    if unstated:
        reasons.append(f"not stated there: {', '.join(unstated)}")
    return not reasons, tuple(reasons)


def _difference(tag: str, ours: str, theirs: str) -> str:
    """Return why a tag and a known one do not agree; empty where they do."""
    word = WORDS[tag]
    if ours in (UNKNOWN, MIXED):
        return f"{word} {'not recorded here' if ours == UNKNOWN else 'differs among our runs'}"
    if ours == theirs and tag == "split" and ours == RANDOM:
        return f"{word}: both drawn at random, so other test cases"
    return "" if ours == theirs else f"{word}: {theirs}, ours {ours}"


def protocol_of(records: Sequence[Mapping[str, Any]]) -> Protocol:
    """Return the tags of one method from the records of its runs (seeds, folds).

    Args:
        records: ``run.json`` of each run, with its resolved config under ``config`` where that is known; what only the
            config says is unknown without it. A tag on which the runs differ is ``mixed``.
    """
    if not records:
        return Protocol()
    tags = [_tags(record) for record in records]
    merged = {name: _merged([one[name] for one in tags]) for name in TAGS}
    merged["split"] = _folds(records) or merged["split"]
    return Protocol(**merged)


def _merged(values: Sequence[str]) -> str:
    return values[0] if len(set(values)) == 1 else MIXED


def _tags(record: Mapping[str, Any]) -> dict[str, str]:
    config = record.get("config") or {}
    data, dims = record.get("data") or {}, _dims(record, config)
    definition = {2: PER_IMAGE, 3: PER_VOLUME}.get(dims, UNKNOWN)
    classes = data.get("classes") or ()
    averaging = UNKNOWN if len(classes) < 2 else FOREGROUND if len(classes) == 2 else CLASS_MEAN
    counts = data.get("cases") or {}
    return {
        "dataset": str((record.get("choices") or {}).get("data") or data.get("name") or UNKNOWN),
        "cases": str(sum(counts.values())) if counts else UNKNOWN,
        "split": _split(record),
        "patient_grouped": _grouped(record, config),
        "resolution": _resolution(config),
        "metric_definition": definition,
        "averaging": averaging,
        "selection_rule": _selection(record, config),
        "tta": _tta(record),
        "prompts": _prompts(record.get("model") or {}),
        "extra_data": _extra(config),
    }


def _dims(record: Mapping[str, Any], config: Mapping[str, Any]) -> int:
    """Return the axes of a case, 0 where nobody says."""
    card = (config.get("data") or {}).get("card") or {}
    return int(card.get("spatial_dims") or 0)


def _split(record: Mapping[str, Any]) -> str:
    name = str((record.get("split") or {}).get("name") or "")
    fold = FOLD.fullmatch(name)
    if fold:
        return f"1 of {fold[2]} folds"
    if name.startswith("manifest_fold"):
        return f"{LISTS}, fold {name.removeprefix('manifest_fold')}"
    known = {"official": OFFICIAL, "ratio": RANDOM, "twins_grouped": RANDOM, "twins_leaky": RANDOM}
    return known.get(name, name or UNKNOWN)


def _folds(records: Sequence[Mapping[str, Any]]) -> str:
    """Return ``5-fold`` where all folds are there, or how many are; empty where the split is no k-fold."""
    found = [FOLD.fullmatch(str((record.get("split") or {}).get("name") or "")) for record in records]
    if not found or any(match is None for match in found):
        return ""
    numbers = {(int(match[1]), int(match[2])) for match in found if match}
    totals = {total for _, total in numbers}
    if len(totals) != 1:
        return MIXED
    total = totals.pop()
    return f"{total}-fold" if len(numbers) == total else f"{len(numbers)} of {total} folds"


def _grouped(record: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """Return whether the split is by patient; unknown where every image is its own patient for want of ids."""
    split, data = record.get("split") or {}, record.get("data") or {}
    if "leaky" not in split:
        return UNKNOWN
    if split["leaky"]:
        return NO
    cases, patients = data.get("cases") or {}, data.get("patients") or {}
    about = (config.get("data") or {}).get("about") or {}
    published = (about.get("expected") or {}).get("patients")
    without_ids = bool(cases) and cases == patients and published is None and not data.get("synthetic")
    return UNKNOWN if without_ids else YES


def _resolution(config: Mapping[str, Any]) -> str:
    size = ((config.get("data") or {}).get("preprocess") or {}).get("size")
    if size is None:
        return UNKNOWN
    sides = [size, size] if isinstance(size, int) else list(size)
    return "x".join(str(side) for side in sides)


def selection_facts(record: Mapping[str, Any], config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return what chose the weights, as recorded or, of an older run, as its config says; None if neither is known."""
    if record.get("selection"):
        return record["selection"]
    validated = bool((record.get("data") or {}).get("cases", {}).get("val"))
    return selection_of(config) if config.get("callbacks") and validated else None


def _selection(record: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    found = selection_facts(record, config)
    side = str(found["side"]) if found else UNKNOWN
    return {"val": VALIDATION, NOTHING: LAST, "test": BEST_ON_TEST}.get(side, side)


def _tta(record: Mapping[str, Any]) -> str:
    """Return whether copies were averaged: training scores plain predictions, refined runs say what they did."""
    steps = str(record.get("refine") or record.get("postprocess") or "")
    return YES if record.get("tta") or "tta" in steps.lower() or "augment" in steps.lower() else NO


def _prompts(model: Mapping[str, Any]) -> str:
    if "interactive" not in model:
        return UNKNOWN
    said = str(model.get("interaction") or "")
    return (said if said not in ("", NONE) else "marks") if model["interactive"] else NONE


def _extra(config: Mapping[str, Any]) -> str:
    """Return which weights the training started from; unknown without the config."""
    if not config:
        return UNKNOWN
    weights = (config.get("transfer") or {}).get("weights")
    encoder = (config.get("net") or {}).get("encoder_weights")
    if not weights and not encoder:
        return NONE
    if str(encoder).lower() == "imagenet" and not weights:
        return "ImageNet weights"
    return "weights from a file"
