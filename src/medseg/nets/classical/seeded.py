"""Base of the systems that start from points: clicked by a simulated user, or found in the image."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from medseg import rng
from medseg.nets.adapters import check_channels, checked_choice, two_class_logits
from medseg.nets.classical.base import OneClass
from medseg.nets.classical.basics import grey_of, smoothed
from medseg.nets.classical.blobs import Look, blob_centre, typical
from medseg.nets.classical.clicks import BoxMarks, ClickMarks
from medseg.nets.thyroid.marks import AxisMarks

SEEDS = ("click", "centroid", "auto")
_SAID = {
    "click": "one click in each region, simulated from the truth",
    "centroid": "the centroid of each region, taken from the truth (oracle)",
    "auto": "none",
}


class Marked(OneClass):
    """Base of what may get a channel with a user's marks: says what it got, and answers nothing without marks.

    ``prompt`` is set by a system that is interactive, and only then.
    """

    prompt: ClickMarks | BoxMarks | AxisMarks

    @property
    def interactive(self) -> bool:
        """Whether the system waits for a user's marks."""
        return hasattr(self, "prompt")

    def draw(self, canvas: np.ndarray, points: np.ndarray) -> None:
        """Draw the points of one image into (H, W) float32."""
        raise NotImplementedError

    def mark(self, image: Tensor, points: list[np.ndarray]) -> Tensor:
        """Return images (B, C + 1, H, W) with the marks, 0 or 1, in the last channel.

        Args:
            image: (B, C, H, W).
            points: for each image (N, 2) (row, column).
        """
        check_channels(image, self.in_channels, net=type(self).__name__)
        drawn = np.zeros((len(image), 1, *image.shape[2:]), dtype=np.float32)
        for canvas, one in zip(drawn, points, strict=True):
            self.draw(canvas[0], one)
        return torch.cat([image, torch.from_numpy(drawn).to(image)], dim=1)

    def presented(self, image: np.ndarray, mask: np.ndarray) -> Tensor:
        """Return an image (1, C or C + 1, H, W) as evaluation shows it."""
        plain = super().presented(image, mask)
        if not self.interactive:
            return plain
        # An exact user draws nothing at random.
        return self.mark(plain, [self.prompt(mask, rng.generator(0, "marks"), jitter=False)])

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, K, H, W) of marked images; all background for unmarked ones (B, C, H, W)."""
        if not self.interactive or image.ndim != 4 or image.shape[1] != self.in_channels + 1:
            self.check(image)
            if self.interactive:
                nothing = torch.zeros_like(image[:, 0], dtype=torch.bool)
                return two_class_logits(nothing, self.num_classes, label=self.label)
            return super().forward(image)
        self.check(image[:, :-1])
        pixels = image.detach().float().movedim(1, -1).cpu().numpy()
        found = np.stack([self.segment_marked(one[..., :-1], one[..., -1] > 0.5) for one in pixels])
        return two_class_logits(torch.from_numpy(found).to(image.device), self.num_classes, label=self.label)

    def segment_marked(self, image: np.ndarray, marks: np.ndarray) -> np.ndarray:
        """Return where the class is, (H, W) bool, in one image (H, W, C) with its marks (H, W) bool."""
        raise NotImplementedError


class Seeded(Marked):
    """Base of region growing, watershed and active contour: an image, its seeds, and how regions usually look.

    ``fit`` measures on the training side the typical radius, grey, grey spread and polarity of the class.

    Args:
        in_channels: image channels C; the mean of them is used.
        num_classes: classes K.
        label: the class that is told from all others.
        seeds: ``click`` (a user in each region), ``centroid`` (an oracle) or ``auto`` (one: the strongest blob of
            the typical radius and grey).
        polarity: of the blob: ``dark``, ``bright`` or ``auto``, as most training regions are.
        settings: as in :class:`~medseg.nets.classical.base.Classical`; needs ``sigma``.
        candidates: values that ``tune`` tries.

    Raises:
        ConfigError: unknown seeds or polarity; in ``forward``, other channels or not fitted.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        label: int,
        seeds: str,
        polarity: str,
        settings: Mapping[str, float],
        candidates: Mapping[str, Sequence[float]] | None,
    ) -> None:
        super().__init__(
            in_channels=in_channels, num_classes=num_classes, label=label, settings=settings, candidates=candidates
        )
        self.seeds = checked_choice(seeds, SEEDS, key="seeds")
        self.polarity = checked_choice(polarity, ("dark", "bright", "auto"), key="polarity")
        self.interaction = _SAID[seeds]
        if seeds != "auto":
            self.prompt = ClickMarks(label=label, place="deepest" if seeds == "click" else "centroid")
        self.remember(radius=float("nan"), spread=float("nan"), usual=float("nan"), dark=np.array(polarity != "bright"))

    def learn(self, images: list[np.ndarray], masks: list[np.ndarray]) -> None:
        """Measure how the class looks.

        Raises:
            DataError: no mask has the class.
        """
        look = typical(images, masks, self.label)
        dark = look.dark if self.polarity == "auto" else self.polarity == "dark"
        self.remember(radius=look.radius, spread=look.spread, usual=look.grey, dark=np.array(dark))

    def draw(self, canvas: np.ndarray, points: np.ndarray) -> None:
        """Draw the points of one image into (H, W) float32, one pixel each."""
        rows, columns = np.asarray(points).round().astype(int).reshape(-1, 2).T
        canvas[rows, columns] = 1.0

    def typical_radius(self, size: tuple[int, ...]) -> float:
        """Return the radius in pixels of an image (H, W) of a size."""
        return float(self.known("radius")) * max(size)

    def segment(self, image: np.ndarray) -> np.ndarray:
        """Return where the class is, (H, W) bool, in one image (H, W, C), from a seed that is found in it."""
        grey = grey_of(image)
        radius, spread, usual = (float(self.known(name)) for name in ("radius", "spread", "usual"))
        look = Look(radius=radius, spread=spread, grey=usual, dark=bool(self.known("dark")))
        seed = blob_centre(grey, look)
        return self.from_seeds(smoothed(grey, self.setting("sigma")), [seed])

    def segment_marked(self, image: np.ndarray, marks: np.ndarray) -> np.ndarray:
        """Return where the class is, (H, W) bool, in one image (H, W, C) with clicks (H, W) bool."""
        grey = smoothed(grey_of(image), self.setting("sigma"))
        seeds = [(int(row), int(column)) for row, column in np.argwhere(marks)]
        return self.from_seeds(grey, seeds) if seeds else np.zeros(grey.shape, dtype=bool)

    def from_seeds(self, grey: np.ndarray, seeds: list[tuple[int, int]]) -> np.ndarray:
        """Return the regions (H, W) bool of all seeds in a smoothed image (H, W)."""
        raise NotImplementedError
