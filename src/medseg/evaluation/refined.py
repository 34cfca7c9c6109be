"""What a refinement kept, read back from its file, and applied to whatever is predicted next."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from medseg.data.datamodule import SegmentationData
from medseg.errors import DataError, RunError
from medseg.evaluation.postprocess.chain import apply_chain, needs_image, read_step, written
from medseg.evaluation.postprocess.contract import Step, labels_of
from medseg.evaluation.probabilities import as_grey
from medseg.evaluation.tta import Tta

FILE = "refinement.json"


@dataclass(frozen=True)
class Refinement:
    """What was kept: views of the image, then steps in order.

    Attributes:
        tta: the views; None: the image as it is.
        steps: with the chosen hyperparameters.
    """

    tta: Tta | None = None
    steps: tuple[Step, ...] = ()

    @property
    def needs_image(self) -> bool:
        """Whether a step looks at the image."""
        return needs_image(self.steps)

    def record(self) -> dict[str, Any]:
        """Return it as plain values for :func:`read_refinement`."""
        return {
            "tta": None if self.tta is None else self.tta.parameters,
            "steps": [written(step) for step in self.steps],
        }


def read_refinement(path: Path) -> Refinement:
    """Return what ``refinement.json`` says was kept.

    Raises:
        RunError: the file is missing or no such file.
        ConfigError: it names a step or a parameter that there is not.
    """
    try:
        kept = json.loads(Path(path).read_text(encoding="utf-8"))["kept"]
        views, listed = kept["tta"], kept["steps"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path}: no refinement there ({error!r}); write one with `medseg refine run=...`.") from error
    return Refinement(None if views is None else Tta(**views), tuple(read_step(record) for record in listed))


def refined_predictor(
    net: nn.Module, data: SegmentationData, refinement: Refinement
) -> Callable[..., NDArray[np.uint8]]:
    """Return what predicts images as ``medseg.evaluation.predict.predict_image`` does, with views and steps.

    Args:
        net: in eval mode, on the device to be used.
        data: whose preprocessing and view the network was trained with; it needs no cases.
        refinement: what was chosen on validation.

    Returns:
        A function of the native image and the keywords ``spacing``, ``available`` and ``case_id`` to the label map
        uint8 on the image's own grid.
    """
    import torch

    from medseg.data.preprocess import native_logits

    views = refinement.tta or Tta()
    device = next((parameter.device for parameter in net.parameters()), torch.device("cpu"))

    def predict(
        image: NDArray[Any],
        *,
        spacing: Sequence[float] | None = None,
        available: NDArray[np.bool_] | None = None,
        case_id: str = "",
    ) -> NDArray[np.uint8]:
        small, geometry = data.network_input(image, spacing=spacing, available=available, case_id=case_id)
        with torch.inference_mode():
            _, mean = views.logits(lambda seen: data.view.predict(net, seen), small.unsqueeze(0).to(device))
            probabilities = native_logits(mean[0], geometry).softmax(0).cpu().numpy()
        sides = _sides(spacing, data, case_id, needed=bool(refinement.steps))
        grey = as_grey(image, volume=data.is_volume) if refinement.needs_image else None
        return labels_of(apply_chain(refinement.steps, probabilities, spacing=sides, image=grey))

    return predict


def _sides(spacing: Sequence[float] | None, data: SegmentationData, case_id: str, *, needed: bool) -> tuple[float, ...]:
    """Return the size of a native pixel in the unit in which the steps were chosen."""
    if data.card.unit == "px" or (spacing is None and not needed):
        return (1.0,) * data.card.spatial_dims
    if spacing is None:
        raise DataError(
            f"case '{case_id}': the refinement's steps count in {data.card.unit}, but the image has no spacing; give "
            "its spacing, or predict without the refinement."
        )
    return tuple(float(side) for side in spacing)
