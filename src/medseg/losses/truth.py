"""What a network's answer is judged against."""

from dataclasses import dataclass

from torch import Tensor

from medseg.types import IGNORE, Batch


@dataclass(frozen=True)
class Truth:
    """Masks, and what is known of them.

    Attributes:
        mask: (B, *S) int64.
        weight: (B, *S) pixel weights, for a loss that wants them.
        annotated: (B, K) bool, which classes each sample annotates, background always; None: all of them.
    """

    mask: Tensor
    weight: Tensor | None = None
    annotated: Tensor | None = None

    @classmethod
    def of(cls, batch: Batch) -> "Truth":
        """Return the truth of a batch."""
        return cls(batch["mask"], batch.get("weight"), batch.get("annotated"))

    @property
    def whole(self) -> Tensor:
        """Mask (B, *S) in which samples that annotate only some classes are ignored altogether."""
        if self.annotated is None:
            return self.mask
        partial = ~self.annotated.all(1).reshape(-1, *[1] * (self.mask.ndim - 1))
        return self.mask.masked_fill(partial, IGNORE)
