"""Test-time augmentation: an image through the network in several views, turned back and averaged.

Views change the network's own input, after preprocessing. Marks of an interactive network are painted into that input
(``net.mark``), so they are flipped and turned with it; scaling would blur them and is refused.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from torch import Tensor
from torch.nn import functional

from medseg.errors import ConfigError

AXES = {"d": -3, "h": -2, "w": -1}
"""Spatial axes by letter: slices, rows (a flip exchanges top and bottom), columns (left and right)."""

TINIEST = 1e-12
"""Least probability before the logarithm."""

Predict = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Change:
    """One view of an image and the way back.

    Attributes:
        axes: that are flipped, counted from the end.
        turns: quarter turns in the plane of the last two axes, after the flip.
        scale: of every side of a picture (of a volume: of its last two axes), after the turn.
        multiple: what scaled sides are rounded to.
    """

    axes: tuple[int, ...] = ()
    turns: int = 0
    scale: float = 1.0
    multiple: int = 32

    def __call__(self, image: Tensor) -> Tensor:
        """Return the view of images (B, C, *S)."""
        seen = image.flip(self.axes) if self.axes else image
        seen = seen.rot90(self.turns, (-2, -1)) if self.turns else seen
        if self.scale == 1:
            return seen
        return _resized(seen, (*seen.shape[2:-2], *(self._side(side) for side in seen.shape[-2:])))

    def back(self, probabilities: Tensor, size: Sequence[int]) -> Tensor:
        """Return the probabilities (B, K, *size) of the image from those of its view; exact for flips and turns."""
        turned = tuple(size)
        if self.turns % 2:
            turned = (*turned[:-2], turned[-1], turned[-2])
        own = probabilities if tuple(probabilities.shape[2:]) == turned else _resized(probabilities, turned)
        own = own.rot90(-self.turns, (-2, -1)) if self.turns else own
        return own.flip(self.axes) if self.axes else own

    def _side(self, side: int) -> int:
        return max(round(side * self.scale / self.multiple), 1) * self.multiple


@dataclass(frozen=True)
class Tta:
    """Every combination of the flips and turns, and the flips at every scale.

    Attributes:
        flips: letters of the axes that are flipped together, for instance ``["w"]`` or ``["w", "h", "hw"]``.
        turns: of 90 degrees, from 1 to 3.
        scales: factors other than 1.
        multiple: what scaled sides are rounded to, for networks that halve them several times.

    Raises:
        ConfigError: an unknown axis, a turn or a factor out of range.
    """

    flips: Sequence[str] = ()
    turns: Sequence[int] = ()
    scales: Sequence[float] = ()
    multiple: int = 32

    def __post_init__(self) -> None:
        unknown = [text for text in self.flips if not text or set(text) - set(AXES)]
        if unknown:
            raise ConfigError(f"tta.flips={list(self.flips)}: '{unknown[0]}' is no axes; write letters of d, h and w.")
        if set(self.turns) - {1, 2, 3} or any(scale <= 0 for scale in self.scales) or self.multiple < 1:
            raise ConfigError(
                f"tta.turns={list(self.turns)}, tta.scales={list(self.scales)}, tta.multiple={self.multiple}: turns "
                "are 1, 2 or 3, factors above 0, the multiple at least 1."
            )

    @property
    def changes(self) -> tuple[Change, ...]:
        """The views, the image as it is first."""
        flips = [(), *(tuple(sorted(AXES[letter] for letter in text)) for text in self.flips)]
        plain = [Change(axes, turns) for axes, turns in product(flips, (0, *self.turns))]
        scaled = [Change(axes, 0, float(scale), self.multiple) for scale, axes in product(self.scales, flips)]
        return (*plain, *scaled)

    @property
    def parameters(self) -> dict[str, Any]:
        """Return what decides the views, as plain values."""
        return {
            "flips": list(self.flips),
            "turns": list(self.turns),
            "scales": list(self.scales),
            "multiple": self.multiple,
        }

    def check(self, size: Sequence[int], *, whole: bool, interactive: bool, source: str) -> None:
        """Refuse views that the data or the network do not allow.

        Args:
            size: of what the network sees at once.
            whole: whether the network gets whole images, which cannot change their shape.
            interactive: whether marks are painted into the images.
            source: what the message names, for instance a run's folder.

        Raises:
            ConfigError: with the way out.
        """
        if self.scales and interactive:
            raise ConfigError(
                f"{source}: scaling blurs the marks of an interactive network; use tta=flips or tta=none."
            )
        if whole and len(size) > 1 and size[-1] != size[-2] and set(self.turns) & {1, 3}:
            raise ConfigError(
                f"{source}: a quarter turn of {tuple(size)} gives another shape; use tta=flips, or tta.turns=[2]."
            )
        if len(size) < 3 and any("d" in text for text in self.flips):
            raise ConfigError(f"tta.flips={list(self.flips)}: {source} holds pictures, which have axes h and w only.")

    def logits(self, predict: Predict, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return the network's logits of images as they are and the logarithm of the mean over views, (B, K, *S) each.

        The mean is taken of probabilities. With the image alone the two say the same.

        Args:
            predict: images (B, C, *S) to logits (B, K, *S).
            image: (B, C, *S).
        """
        plain = predict(image).float()
        changes = self.changes
        if len(changes) == 1:
            return plain, plain
        total = plain.softmax(1)
        for change in changes[1:]:
            total = total + change.back(predict(change(image)).float().softmax(1), image.shape[2:])
        return plain, (total / len(changes)).clamp_min(TINIEST).log()


def _resized(values: Tensor, size: Sequence[int]) -> Tensor:
    mode = "bilinear" if len(size) == 2 else "trilinear"
    return functional.interpolate(values, tuple(size), mode=mode, align_corners=False)
