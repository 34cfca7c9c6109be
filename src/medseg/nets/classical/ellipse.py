"""The ellipse through a user's four marks: what the marks alone are worth."""

import numpy as np
import torch
from torch import Tensor, nn

from medseg.errors import ConfigError
from medseg.nets.adapters import check_channels, two_class_logits
from medseg.nets.thyroid.marks import MARKS_PER_NODULE, AxisMarks


def ellipse_through(marks: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the filled ellipse of four marks as (H, W) bool.

    The first two marks give one axis: its direction and its ends. The last two give the extent at a right angle to it
    and the centre's place in that direction. Each semi-axis is half a pixel longer than from mark to centre, because
    marks lie on the outermost pixels' centres, not on their outer edges.

    Args:
        marks: (4, 2) (row, column), in the order of :func:`~medseg.nets.thyroid.marks.axis_end_points`.
        size: (H, W).
    """
    first, second, third, fourth = np.asarray(marks, dtype=np.float64)
    length = float(np.linalg.norm(second - first))
    along = (second - first) / length if length > 0 else np.array([1.0, 0.0])
    across = np.array([-along[1], along[0]])
    reach = abs(float((fourth - third) @ across))
    centre = ((first + second) / 2 @ along) * along + ((third + fourth) / 2 @ across) * across
    offsets = np.moveaxis(np.indices(size), 0, -1) - centre
    return (offsets @ along / (length / 2 + 0.5)) ** 2 + (offsets @ across / (reach / 2 + 0.5)) ** 2 <= 1


class EllipseMarks(nn.Module):
    """Ellipse through the four axis end points of each nodule. Interactive; looks at no pixel and learns nothing.

    The baseline that an interactive network such as MGU-Net has to beat: it gets the same marks and shows how much of a
    score they alone explain. :meth:`mark` draws the ellipses into an extra channel, which the forward pass turns into
    logits of +-10, so that it runs through the same code as a network.

    Args:
        in_channels: image channels C, without marks.
        num_classes: classes K. Marks carry no class: the inside of every ellipse is class 1.
        prompt: the simulated user, by default ``AxisMarks()``.

    Raises:
        ConfigError: in :meth:`mark`, points that are not four per nodule; in ``forward``, another number of channels.
    """

    READING = "interactive; an ellipse from the marks alone, no network"
    interaction = "four axis ends of each region, simulated from the truth"

    def __init__(self, *, in_channels: int, num_classes: int, prompt: AxisMarks | None = None) -> None:
        super().__init__()
        self.in_channels, self.num_classes = in_channels, num_classes
        self.prompt = prompt or AxisMarks()

    def mark(self, image: Tensor, points: list[np.ndarray]) -> Tensor:
        """Return images (B, C + 1, H, W) with the filled ellipses, 0 or 1, in the last channel.

        Args:
            image: (B, C, H, W).
            points: for each image (4 N, 2) (row, column), four per nodule.
        """
        check_channels(image, self.in_channels, net="EllipseMarks")
        size = (image.shape[-2], image.shape[-1])
        drawn = np.zeros((len(image), 1, *size), dtype=np.float32)
        for canvas, marks in zip(drawn, points, strict=True):
            if len(marks) % MARKS_PER_NODULE:
                raise ConfigError(
                    f"EllipseMarks got {len(marks)} marks for an image; it needs {MARKS_PER_NODULE} per nodule: the "
                    "ends of the long axis, then those of the short axis."
                )
            for start in range(0, len(marks), MARKS_PER_NODULE):
                canvas[0][ellipse_through(marks[start : start + MARKS_PER_NODULE], size)] = 1.0
        return torch.cat([image, torch.from_numpy(drawn).to(image)], dim=1)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, K, H, W) of marked images; all background for unmarked ones (B, C, H, W)."""
        if image.ndim == 4 and image.shape[1] == self.in_channels:
            return two_class_logits(torch.zeros_like(image[:, 0], dtype=torch.bool), self.num_classes)
        check_channels(image, self.in_channels + 1, net="EllipseMarks with its marks")
        return two_class_logits(image[:, -1] > 0.5, self.num_classes)
