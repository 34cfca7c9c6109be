"""The label map of one image that has no truth."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from medseg.data.datamodule import SegmentationData
from medseg.data.preprocess import native_logits


def predict_image(
    net: nn.Module,
    image: np.ndarray,
    data: SegmentationData,
    *,
    spacing: Sequence[float] | None = None,
    available: np.ndarray | None = None,
    case_id: str = "",
) -> np.ndarray:
    """Return the predicted label map on the image's own grid, uint8 (H, W) or (D, H, W).

    Args:
        net: in eval mode, on the device to be used.
        image: as read from files: uint8 (H, W, C), or float32 (C, D, H, W) of a volume.
        data: whose preprocessing, normalisation and view the network was trained with; it needs no cases.
        spacing: (z, y, x) of a volume's voxels in mm.
        available: (C,) bool, which channels are there; all if not given.
        case_id: for preprocessing that treats every case in its own way.
    """
    small, geometry = data.network_input(image, spacing=spacing, available=available, case_id=case_id)
    device = next((p.device for p in net.parameters()), torch.device("cpu"))
    with torch.inference_mode():
        logits = data.view.predict(net, small.unsqueeze(0).to(device))[0].float()
        return native_logits(logits, geometry).max(0).indices.to(torch.uint8).cpu().numpy()
