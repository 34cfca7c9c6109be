"""The label map of one image that has no truth."""

import numpy as np
import torch
from torch import nn

from medseg.data.datamodule import SegmentationData
from medseg.data.dataset import normalisation
from medseg.data.preprocess import native_logits


def predict_image(net: nn.Module, image: np.ndarray, data: SegmentationData) -> np.ndarray:
    """Return the predicted label map (H, W) uint8 on the image's own grid.

    Args:
        net: in eval mode, on the device to be used.
        image: uint8 (H, W, C) as read from a file.
        data: whose preprocessing and normalisation the network was trained with; it needs no cases.
    """
    small, _, geometry = data.preprocess.do(image)
    normalised = normalisation(data.mean, data.std, channels=data.card.in_channels)
    device = next((p.device for p in net.parameters()), torch.device("cpu"))
    batch = torch.from_numpy(normalised(small)).unsqueeze(0).to(device)
    with torch.inference_mode():
        logits = net(batch)[0].float()
    return native_logits(logits, geometry).argmax(0).to(torch.uint8).cpu().numpy()
