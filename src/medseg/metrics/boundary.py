"""Boundary IoU: the overlap of two masks' inner bands, which a large nodule cannot hide behind its inside."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medseg.errors import ScoreError
from medseg.metrics.surface import bounding_box, diagonal, mask_pair

WIDTH_SHARE = 0.02
"""Default width of the band as a share of the image diagonal (Cheng et al., section 5)."""


def band_width(shape: tuple[int, ...]) -> int:
    """Return the default width in pixels: 2 % of the diagonal of the whole grid, rounded, at least 1."""
    return max(1, round(WIDTH_SHARE * diagonal(shape)))


def boundary_iou(prediction: NDArray[Any], truth: NDArray[Any], *, width: int | None = None) -> float:
    """Return the IoU of the two bands of pixels that lie inside a mask and within ``width`` of its outside.

    Cheng et al., Boundary IoU, CVPR 2021, equation 2. Distances are those of the chessboard (``width`` erosions by a
    3x3 or 3x3x3 block, as in the authors' reference implementation), in pixels whatever the spacing; beyond the image
    edge is outside, so pixels on the edge belong to the band. With ``width`` at least half the masks' thickness the
    bands fill the masks and the number is their plain IoU. Both masks empty: 1; exactly one empty: 0.

    Args:
        prediction: (H, W) or (D, H, W) mask, bool or uint8 with 0 and 1.
        truth: mask of the same shape.
        width: width of the band in pixels, at least 1; ``band_width`` of the shape if not given.

    Raises:
        ScoreError: shapes differ, masks are not 2D or 3D, not binary, or the width is below 1.
    """
    first, second = mask_pair(prediction, truth)
    pixels = band_width(first.shape) if width is None else width
    if pixels < 1:
        raise ScoreError(f"boundary IoU: width={pixels}; give a band of at least 1 pixel.")
    box = bounding_box(first | second)
    if box is None:
        return 1.0
    bands = [_band(mask[box], pixels) for mask in (first, second)]
    shared = int(np.count_nonzero(bands[0] & bands[1]))
    return shared / int(np.count_nonzero(bands[0] | bands[1]))


def _band(mask: NDArray[np.uint8], width: int) -> NDArray[np.bool_]:
    """Return the pixels of ``mask`` (cropped anywhere outside its pixels) within ``width`` of what is not mask."""
    inside = mask.astype(bool)
    if not inside.any():
        return inside
    framed = np.pad(mask, 1)  # the frame is outside: it stands for the image edge and for what was cropped away
    if mask.ndim == 2:
        depth = cv2.distanceTransform(framed, cv2.DIST_C, 3)[1:-1, 1:-1]
    else:
        depth = ndimage.distance_transform_cdt(framed, metric="chessboard")[1:-1, 1:-1, 1:-1]
    return inside & (depth <= width)
