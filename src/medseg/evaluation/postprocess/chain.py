"""Steps one after the other, and as text: what ``refinement.json`` keeps of them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.errors import ConfigError
from medseg.evaluation.postprocess.components import LargestComponent, RemoveSmall
from medseg.evaluation.postprocess.contract import Probabilities, Step
from medseg.evaluation.postprocess.crf import DenseCrf
from medseg.evaluation.postprocess.holes import FillHoles
from medseg.evaluation.postprocess.median import Median
from medseg.evaluation.postprocess.threshold import Threshold

STEPS: Mapping[str, type] = {
    kind.name: kind for kind in (DenseCrf, Median, Threshold, FillHoles, RemoveSmall, LargestComponent)
}
"""Every step by name, in the order in which they make sense."""

GRIDS = ("radii", "sizes", "thresholds", "fars", "weights")
"""Fields that say what is tried, not what is done."""


def apply_chain(
    steps: Sequence[Step],
    probabilities: Probabilities,
    *,
    spacing: Sequence[float],
    image: NDArray[np.float32] | None = None,
) -> Probabilities:
    """Return probabilities (K, *S) after all steps, in order."""
    for step in steps:
        probabilities = step(probabilities, spacing=spacing, image=image)
    return probabilities


def needs_image(steps: Sequence[Step]) -> bool:
    """Return whether any of the steps looks at the image."""
    return any(step.needs_image for step in steps)


def written(step: Step) -> dict[str, Any]:
    """Return a step as plain values: its name and what decides its result."""
    fields = {name: value for name, value in asdict(step).items() if name not in GRIDS}  # type: ignore[call-overload]
    return {"name": step.name, "parameters": fields}


def read_step(record: Mapping[str, Any]) -> Step:
    """Return the step that :func:`written` wrote.

    Raises:
        ConfigError: there is no such step, or it has no such parameter.
    """
    name, parameters = str(record.get("name")), dict(record.get("parameters", {}))
    if name not in STEPS:
        raise ConfigError(f"step '{name}' is unknown; choose one of {', '.join(STEPS)}.")
    try:
        return STEPS[name](**parameters)
    except TypeError as error:
        raise ConfigError(
            f"step '{name}' with {parameters}: {error}; write the file anew with `medseg refine`."
        ) from error
