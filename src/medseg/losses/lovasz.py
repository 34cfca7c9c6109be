"""The Lovasz extension of the Jaccard loss."""

import torch
from torch import Tensor, nn

from medseg.losses.encoding import probabilities_and_target


def lovasz(logits: Tensor, mask: Tensor, *, per_image: bool = False) -> Tensor:
    """Return the Lovasz-softmax loss, the mean over the classes that the truth holds, background among them.

    Berman, Rannen Triki and Blaschko, CVPR 2018, equation 8 with the errors ``|g - p|``. With saturated answers it is
    the mean of 1 - IoU. The paper's hinge for two classes is another loss, and unbounded; two classes are treated as
    any number. Written here because segmentation_models_pytorch's ``LovaszLoss``, which has the same values, fails in
    float64 and on a batch that is all ignored.

    Args:
        logits: (B, K, *S).
        mask: (B, *S) int64; ``IGNORE`` pixels are left out.
        per_image: whether images are judged one by one; else the batch as a whole.
    """
    probability, target = (values.flatten(2) for values in probabilities_and_target(logits, mask))
    if not per_image:
        # (1, K, N): the pixels of all images in one row.
        probability, target = (values.movedim(0, 1).flatten(1).unsqueeze(0) for values in (probability, target))
    # Ignored pixels have error 0: sorted to the end, where they count nothing.
    errors, order = (target - probability).abs().sort(dim=-1, descending=True)
    each = (errors * jaccard_steps(target.gather(-1, order))).sum(-1)
    present = target.any(-1)
    rows = (each * present).sum(-1) / present.sum(-1).clamp(min=1)
    return rows.sum() / present.any(-1).sum().clamp(min=1)


def jaccard_steps(target: Tensor) -> Tensor:
    """Return by how much the Jaccard loss grows with each further wrong pixel of (..., N) targets, worst first."""
    foreground = target.sum(-1, keepdim=True)
    kept = foreground - target.cumsum(-1)
    union = foreground + (1 - target).cumsum(-1)
    losses = 1 - kept / union
    return torch.diff(losses, dim=-1, prepend=torch.zeros_like(foreground))


class Lovasz(nn.Module):
    """Lovasz-softmax loss as a module (see :func:`lovasz`).

    Args:
        per_image: whether images are judged one by one; else the batch as a whole.
    """

    def __init__(self, per_image: bool = False) -> None:
        super().__init__()
        self.per_image = per_image

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Return the scalar loss of logits (B, K, *S) and mask (B, *S)."""
        return lovasz(logits, mask, per_image=self.per_image)
