"""Sparse annotation of densely labelled volumes: what a network learns from a few slices of each."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from medseg.data.cases import Case
from medseg.data.splits import Split
from medseg.errors import ConfigError, DataError

PLACINGS = ("even", "drawn")


def sparse_slices(
    cases: Sequence[Case],
    *,
    base: Callable[[Sequence[Case]], tuple[list[Case], Split]],
    slices: int = 3,
    axes: Sequence[int] = (0, 1, 2),
    placing: str = "even",
    seed: int = 0,
) -> tuple[list[Case], Split]:
    """Return another split's sides, with the labels of a few slices only left in every training volume.

    The experiment of Cicek et al. (MICCAI 2016, arXiv:1606.06650), who annotated a few orthogonal slices of a volume.
    They chose them by hand; that they lie at equal steps among the slices that hold foreground is our reading. The
    masks of val and test stay dense. The sides are those of ``base``, and so is the split's hash: networks trained on
    sparse and on dense labels are judged on the same cases.

    Args:
        cases: volumes with dense masks.
        base: the split that decides the sides.
        slices: of each axis, on the grid of the file.
        axes: 0, 1 and 2 are z, y and x.
        placing: ``even`` steps among the slices that hold foreground, or ``drawn`` among them.
        seed: of ``drawn``, with which every case draws slices of its own.

    Raises:
        ConfigError: a number is impossible.
        DataError: there is no training case, or one has annotated slices already.
    """
    axes = [int(axis) for axis in axes]
    if slices < 1 or not axes or len({*axes} & {0, 1, 2}) != len(axes):
        raise ConfigError(f"split.slices={slices}, split.axes={axes}: give at least 1 slice of different axes 0, 1, 2.")
    if placing not in PLACINGS:
        raise ConfigError(f"split.placing='{placing}' is unknown; use {' or '.join(PLACINGS)}.")
    listed, split = base(cases)
    training = frozenset(split.sides["train"])
    if not training:
        raise DataError(f"split {split.name}: no training case to annotate sparsely; choose another split.base.")
    number = f"even{slices}" if placing == "even" else f"drawn{slices}/{seed}"
    column = ";".join(f"{axis}:{number}" for axis in sorted(axes))
    changed = [_annotated(case, column) if case.id in training else case for case in listed]
    return changed, replace(split, name=f"{split.name}-sparse{slices}")


def _annotated(case: Case, column: str) -> Case:
    """Return the case with the column ``labelled_slices``."""
    if there := case.attributes.get("labelled_slices"):
        raise DataError(
            f"case '{case.id}': its manifest has labelled_slices '{there}' already; use the split inside by itself, or "
            "empty the column where the mask is dense."
        )
    return replace(case, attributes={**case.attributes, "labelled_slices": column})
