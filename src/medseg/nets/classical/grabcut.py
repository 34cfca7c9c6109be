"""GrabCut: two colour models and a graph cut inside a box."""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import ndimage

from medseg.errors import ConfigError
from medseg.nets.adapters import checked_choice
from medseg.nets.classical.basics import grey_of, smoothed
from medseg.nets.classical.clicks import POINTS_PER_BOX, BoxMarks
from medseg.nets.classical.pieces import largest
from medseg.nets.classical.seeded import Marked
from medseg.nets.classical.threshold import Threshold
from medseg.nets.thyroid.marks import MARKS_PER_NODULE, AxisMarks, scale_of

_LEAST = 16
"""Fewest pixels inside and outside a box; each of OpenCV's models has five components to start."""

_SURROUND = 0.5
"""What is around a box on each side is told from it, as a share of the box's sides; the rest is background unseen."""


def eight_bit(image: np.ndarray) -> np.ndarray:
    """Return an image (H, W, C) as the three 8-bit channels that OpenCV's GrabCut wants.

    Three channels stay as they are. Any other number becomes the mean grey and its Gaussians of 2 and 4 pixels, so
    that the colour models see some texture (our reading: GrabCut was published for colour). The image's 1st and 99th
    percentile become 0 and 255.
    """
    if image.shape[-1] != 3:
        grey = grey_of(image)
        image = np.stack([grey, smoothed(grey, 2.0), smoothed(grey, 4.0)], axis=-1)
    low, high = np.percentile(image, (1, 99))
    return ((image - low) / max(float(high - low), 1e-12) * 255).clip(0, 255).round().astype(np.uint8)


def core_of(box: np.ndarray, share: float) -> np.ndarray:
    """Return the ellipse in the middle of a box's bounding rectangle, its axes a share of the sides, (H, W) bool."""
    if share <= 0:
        return np.zeros(box.shape, dtype=bool)
    rows, columns = np.nonzero(box.any(axis=1))[0], np.nonzero(box.any(axis=0))[0]
    down = (np.arange(box.shape[0]) - (rows[0] + rows[-1]) / 2) / (share * len(rows) / 2)
    across = (np.arange(box.shape[1]) - (columns[0] + columns[-1]) / 2) / (share * len(columns) / 2)
    return (down[:, None] ** 2 + across[None] ** 2 <= 1) & box


def grabcut(
    colours: np.ndarray, box: np.ndarray, *, iterations: int, seed: int, core: float = 0.0, side: int = 0
) -> np.ndarray:
    """Return the foreground (H, W) bool within a box (Rother, Kolmogorov and Blake 2004).

    Outside the box is background for certain, ``core`` in its middle foreground. A box of too few pixels for a colour
    model is foreground altogether; one that leaves too little of the image outside loses its outermost pixels.

    Args:
        colours: (H, W, 3) uint8.
        box: (H, W) bool.
        iterations: rounds of models and cut.
        seed: of OpenCV's k-means, which starts the models.
        core: axes of the ellipse that is foreground for certain, as a share of the box's sides; 0 none.
        side: pixels that the longer side is enlarged to before, 0 not. OpenCV's price of an outline is fixed; enlarged,
            the pixels inside weigh more against it.
    """
    import cv2

    if (~box).sum() < _LEAST:
        box = ndimage.binary_erosion(box, iterations=2)
    if box.sum() < _LEAST or (~box).sum() < _LEAST:
        return box
    labels = np.where(box, cv2.GC_PR_FGD, cv2.GC_BGD).astype(np.uint8)
    labels[core_of(box, core)] = cv2.GC_FGD
    height, width = box.shape
    factor = max(1.0, side / max(height, width))
    size = (round(width * factor), round(height * factor))
    large = cv2.resize(colours, size, interpolation=cv2.INTER_CUBIC)
    drawn = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST)
    cv2.setRNGSeed(seed)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(large, drawn, None, *models, iterations, cv2.GC_INIT_WITH_MASK)  # type: ignore[call-overload]
    found = ((drawn == cv2.GC_PR_FGD) | (drawn == cv2.GC_FGD)).astype(np.float32)
    return (cv2.resize(found, (width, height), interpolation=cv2.INTER_AREA) > 0.5) & box


class GrabCut(Marked):
    """GrabCut from a box: drawn by a simulated user, or put around a fitted threshold's largest region.

    OpenCV weighs the outline as suits photographs: on small regions of weak contrast the cheapest outline is none at
    all, and the answer empty. Against that the middle of the box is foreground for certain and the surroundings are
    enlarged (both our reading). Where the image says little, box and core alone then make the answer: on the phantom
    an ellipse that fills the box, without any image, comes within a few hundredths of its Dice. ``tune`` may choose
    ``core``, ``iterations`` and ``slack``.

    Args:
        in_channels: image channels C.
        num_classes: classes K.
        label: the class that is told from all others.
        box: ``prompt`` (a user's) or ``auto``.
        prompt: the simulated user with ``box="prompt"``: :class:`~medseg.nets.classical.clicks.BoxMarks` (the
            default) or :class:`~medseg.nets.thyroid.marks.AxisMarks`, whose four marks' bounding box is the box.
        iterations: rounds of models and cut.
        slack: pixels at 256 that a box is enlarged by on every side.
        core: axes of the ellipse in a box's middle that is foreground for certain, as a share of its sides; 0 none.
        side: pixels that the longer side of a box's surroundings is enlarged to; 0 not.
        seed: of OpenCV's k-means.
        candidates: values of ``core``, ``iterations`` and ``slack`` that ``tune`` tries.

    Raises:
        ConfigError: an unknown box, a prompt with ``box="auto"``; in ``mark``, points that make no boxes; in
            ``forward``, other channels or not fitted.
    """

    READING = "the box's middle is certain foreground; grey images enter as grey and two blurred copies"

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        label: int = 1,
        box: str = "prompt",
        prompt: BoxMarks | AxisMarks | None = None,
        iterations: int = 5,
        slack: float = 0.0,
        core: float = 0.7,
        side: int = 192,
        seed: int = 0,
        candidates: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        super().__init__(
            in_channels=in_channels, num_classes=num_classes, label=label,
            settings={"iterations": iterations, "slack": slack, "core": core}, candidates=candidates,
        )  # fmt: skip
        if iterations < 1 or not 0 <= core < 1:
            raise ConfigError(f"net.iterations={iterations} must be 1 or more and net.core={core} within [0, 1).")
        self.seed, self.side = seed, side
        self.points_per_box = MARKS_PER_NODULE if isinstance(prompt, AxisMarks) else POINTS_PER_BOX
        if checked_choice(box, ("prompt", "auto"), key="box") == "prompt":
            self.prompt = prompt or BoxMarks(label=label)
            drawn = "four axis ends of" if isinstance(prompt, AxisMarks) else "a box around"
            self.interaction = f"{drawn} each region, simulated from the truth"
        elif prompt is not None:
            raise ConfigError("net.prompt is a user, but net.box=auto asks none; drop it or set net.box=prompt.")
        else:
            self.threshold = Threshold(
                in_channels=in_channels, num_classes=num_classes, label=label, largest_component=True
            )

    def learn(self, images: list[np.ndarray], masks: list[np.ndarray]) -> None:
        """Fit the threshold that finds boxes; with a user's boxes there is nothing to learn.

        Raises:
            DataError: the threshold is needed and no mask has the class.
        """
        if not self.interactive:
            self.threshold.fit(images, masks)

    def draw(self, canvas: np.ndarray, points: np.ndarray) -> None:
        """Draw the filled boxes of one image's points into (H, W) float32."""
        if len(points) % self.points_per_box:
            raise ConfigError(
                f"GrabCut got {len(points)} marks for an image; it needs {self.points_per_box} for each box."
            )
        for start in range(0, len(points), self.points_per_box):
            corners = np.asarray(points[start : start + self.points_per_box]).round().astype(int)
            (top, left), (bottom, right) = corners.min(axis=0), corners.max(axis=0)
            canvas[max(top, 0) : bottom + 1, max(left, 0) : right + 1] = 1.0

    def segment(self, image: np.ndarray) -> np.ndarray:
        """Return where the class is, (H, W) bool, in one image (H, W, C), from a box that is found in it."""
        grey = grey_of(image)
        cut = float(self.threshold.get_buffer("threshold"))
        chosen = grey >= cut if bool(self.threshold.get_buffer("bright")) else grey < cut
        if not chosen.any():
            return chosen
        rows, columns = ndimage.find_objects(largest(chosen).astype(int))[0]
        box = np.zeros(grey.shape, dtype=bool)
        box[rows, columns] = True
        return self.segment_marked(image, box)

    def segment_marked(self, image: np.ndarray, marks: np.ndarray) -> np.ndarray:
        """Return where the class is, (H, W) bool, in one image (H, W, C) with boxes (H, W) bool."""
        slack = round(self.setting("slack") * scale_of(marks.shape))
        boxes = ndimage.binary_dilation(marks, np.ones((3, 3)), iterations=slack) if slack > 0 else marks
        numbered, _ = ndimage.label(boxes)
        colours = eight_bit(image)
        found = np.zeros(boxes.shape, dtype=bool)
        for number, (rows, columns) in enumerate(ndimage.find_objects(numbered), start=1):
            window = tuple(
                slice(max(0, side.start - reach), side.stop + reach)
                for side in (rows, columns)
                for reach in [max(8, round(_SURROUND * (side.stop - side.start)))]
            )
            own = numbered[window] == number
            picture = np.ascontiguousarray(colours[window])
            found[window] |= grabcut(
                picture,
                own,
                iterations=int(self.setting("iterations")),
                seed=self.seed,
                core=self.setting("core"),
                side=self.side,
            )
        return found
