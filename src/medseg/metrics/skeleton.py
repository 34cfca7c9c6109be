"""clDice: whether each mask contains the other's centre lines, for tubes where width says little."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.metrics.lesion import components
from medseg.metrics.surface import bounding_box, mask_pair


def cldice(prediction: NDArray[Any], truth: NDArray[Any]) -> float:
    """Return the harmonic mean of topology precision and topology sensitivity.

    Shit et al., clDice, CVPR 2021, equations 1 to 3: with the skeletons S of both masks V, precision is the share of
    S(prediction) inside the truth, sensitivity the share of S(truth) inside the prediction. The number follows the
    skeleton that thinning leaves: scikit-image's, Zhang-Suen in 2D and Lee in 3D. Both masks empty: 1; exactly one
    empty, or no skeleton pixel inside the other mask: 0. See ``skeleton`` for masks that thinning erases.

    Args:
        prediction: (H, W) or (D, H, W) mask, bool or uint8 with 0 and 1.
        truth: mask of the same shape.

    Raises:
        ScoreError: shapes differ, masks are not 2D or 3D, or not binary.
    """
    first, second = mask_pair(prediction, truth)
    box = bounding_box(first | second)
    if box is None:
        return 1.0
    predicted, true = first[box].astype(bool), second[box].astype(bool)
    if not predicted.any() or not true.any():
        return 0.0
    precision, sensitivity = _share(skeleton(predicted), true), _share(skeleton(true), predicted)
    return 2 * precision * sensitivity / (precision + sensitivity) if precision + sensitivity else 0.0


def skeleton(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the centre lines of a (H, W) or (D, H, W) mask.

    Thinning may erase a connected piece altogether (in 3D, Lee's erases what is two voxels thick). Such a piece
    is its own skeleton: both shares stay defined, and no piece loses its weight by being thin.
    """
    from skimage.morphology import skeletonize  # takes long to import; not every command needs it

    thin = np.asarray(skeletonize(mask), dtype=bool)
    labels, pieces = components(mask.astype(np.uint8))
    left = np.bincount(labels[thin], minlength=pieces + 1) > 0
    if left[1:].all():
        return thin
    left[0] = True
    return thin | ~left[labels]


def _share(lines: NDArray[np.bool_], mask: NDArray[np.bool_]) -> float:
    return int(np.count_nonzero(lines & mask)) / int(np.count_nonzero(lines))
