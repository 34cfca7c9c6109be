"""MGU-Net: a U-Net that sees four white spots which its user put at the ends of the nodule's axes."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from medseg.errors import ConfigError
from medseg.nets.adapters import check_channels, checked_choice
from medseg.nets.thyroid.marks import AxisMarks, bells, discs, distances
from medseg.nets.unet import WIDTHS, UNet


class MGUNet(nn.Module):
    """Mark-guided U-Net of Chu, Zheng and Zhou (Comput. Methods Programs Biomed. 199:105906, 2021). Interactive.

    Published (also in the earlier "Mark-Guided Segmentation of Ultrasonic Thyroid Nodules Using Deep Learning", ISICDM
    2018): a user gives the four end points of the nodule's major and minor axes; they are painted as white spots into
    the image; a U-Net is trained and applied on the painted images. The network itself has nothing new, so its
    parameters are those of the U-Net.

    Our reading: the spots' radius (3 px at 256), their grey value, the simulated user (see
    :class:`~medseg.nets.thyroid.marks.AxisMarks`) and the modes with an extra channel. White is by default the
    largest value of the image at hand, as a fully white pixel would be in a scan that uses its whole range; ``white``
    gives a constant in normalised intensity instead.

    Its scores are those of man and machine together: compare them with interactive baselines only.

    Args:
        in_channels: image channels C, without marks.
        num_classes: classes K.
        widths: channels per level, finest first.
        norm: ``batch``, ``instance`` or ``group``.
        dropout: probability of dropping a feature map of the deepest level.
        prompt: the simulated user, by default ``AxisMarks()``.
        mark_mode: ``paint`` white discs into the image; ``channel``, ``bell`` or ``distance`` append a channel with
            discs, with Gaussian bells of deviation 5 px at 256, or with the distance to the nearest mark in longer
            image sides, 1 at most.
        radius: radius of the discs in pixels at 256.
        white: normalised intensity of painted discs, or None for each image's own maximum.

    Raises:
        ConfigError: unknown mark_mode, radius not above zero.
    """

    READING = "interactive; mark size, mark intensity and the simulated user are our reading"
    ENCODER, HEAD = ("unet.encoder",), ("unet.head",)
    BELL_SIGMA = 5.0

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        widths: Sequence[int] = WIDTHS,
        norm: str = "batch",
        dropout: float = 0.0,
        prompt: AxisMarks | None = None,
        mark_mode: str = "paint",
        radius: float = 3.0,
        white: float | None = None,
    ) -> None:
        super().__init__()
        if radius <= 0:
            raise ConfigError(f"net.radius={radius} must be above 0 pixels.")
        self.in_channels = in_channels
        self.mark_mode = checked_choice(mark_mode, ["paint", "channel", "bell", "distance"], key="mark_mode")
        self.radius, self.white = radius, white
        self.prompt = prompt or AxisMarks()
        extra = 0 if mark_mode == "paint" else 1
        self.unet = UNet(
            in_channels=in_channels + extra, num_classes=num_classes, widths=widths, norm=norm, dropout=dropout
        )

    def mark(self, image: Tensor, points: list[np.ndarray]) -> Tensor:
        """Return the images with their marks; the input stays as it is.

        Args:
            image: (B, C, H, W) in normalised intensity.
            points: for each image (N, 2) (row, column); N = 0 leaves it unmarked.

        Returns:
            (B, C, H, W) when painting, else (B, C + 1, H, W) with the marks, 0..1, in the last channel.
        """
        check_channels(image, self.in_channels, net="MGUNet")
        if self.mark_mode == "paint":
            return torch.stack([self._painted(*pair) for pair in zip(image, points, strict=True)])
        if self.mark_mode == "distance":
            drawn = [distances(p, one) for one, p in zip(image, points, strict=True)]
        elif self.mark_mode == "bell":
            drawn = [bells(p, one, sigma=self.BELL_SIGMA) for one, p in zip(image, points, strict=True)]
        else:
            drawn = [discs(p, one, radius=self.radius) for one, p in zip(image, points, strict=True)]
        return torch.cat([image, torch.stack(drawn)[:, None].to(image.dtype)], dim=1)

    def _painted(self, image: Tensor, points: np.ndarray) -> Tensor:
        white = image.amax() if self.white is None else image.new_tensor(self.white)
        return torch.where(discs(points, image, radius=self.radius), white, image)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, K, H, W) of marked images; of unmarked ones (B, C, H, W), what the plain U-Net says."""
        if self.mark_mode != "paint" and image.ndim == 4 and image.shape[1] == self.in_channels:
            image = self.mark(image, [np.zeros((0, 2))] * len(image))
        return self.unet(image)
