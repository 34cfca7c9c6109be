"""What happens to cases that lack a modality, and to single modalities while training."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medseg.data.cases import Case
from medseg.errors import ConfigError, DataError
from medseg.rng import generator

LOG = logging.getLogger(__name__)
POLICIES = ("error", "drop", "zero")


@dataclass(frozen=True)
class Missing:
    """How missing modalities are treated.

    Attributes:
        policy: ``error`` refuses a case that lacks a modality, ``drop`` leaves it out and says so, ``zero`` gives the
            network zeros (after normalisation) in its place.
        extra_channels: 0, or as many as the image has channels: then one plane a channel is appended that is 1 where
            the channel is there and 0 where it is missing.
        dropout: probability with which training drops each channel that is there, never all of them.
    """

    policy: str = "error"
    extra_channels: int = 0
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise ConfigError(f"missing.policy={self.policy}: choose one of {', '.join(POLICIES)}.")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"missing.dropout={self.dropout}: give a probability in [0, 1).")

    def check_channels(self, channels: int) -> None:
        """Check that the planes fit the channels.

        Raises:
            ConfigError: neither none nor one for each.
        """
        if self.extra_channels not in (0, channels):
            raise ConfigError(
                f"missing.extra_channels={self.extra_channels}: give 0 or data.card.in_channels={channels}."
            )

    def select(self, cases: Sequence[Case], *, channels: Sequence[str], name: str) -> list[Case]:
        """Return the cases that may be used.

        Args:
            cases: the dataset.
            channels: names of the channels, for messages; may be empty.
            name: the dataset's.

        Raises:
            DataError: a case lacks a modality and the policy refuses that, or no case is left.
        """
        lacking = [case for case in cases if None in case.images]
        if not lacking or self.policy == "zero":
            return list(cases)
        if self.policy == "error":
            place = lacking[0].images.index(None)
            label = f" ({channels[place]})" if place < len(channels) else ""
            raise DataError(
                f"case '{lacking[0].id}' lacks modality {place + 1}{label}, {len(lacking)} of {len(cases)} cases of "
                f"'{name}' lack one; leave them out with missing=drop, or use missing=zero, mask or dropout."
            )
        kept = [case for case in cases if None not in case.images]
        LOG.warning(
            "%s: %d of %d cases lack a modality and are left out: %s",
            name, len(lacking), len(cases), ", ".join(case.id for case in lacking),
        )  # fmt: skip
        if not kept:
            raise DataError(f"dataset '{name}': every case lacks a modality; use missing=zero, mask or dropout.")
        return kept

    def apply(self, image: np.ndarray, available: np.ndarray, *, seed: int | None = None) -> np.ndarray:
        """Return the network's input (C or 2C, *S) of a normalised image.

        Args:
            image: float32 (C, *S); may be changed.
            available: (C,) bool.
            seed: of a training sample; None in evaluation, where nothing is dropped.
        """
        present = available if seed is None or not self.dropout else self._thinned(available, seed)
        image[~present] = 0
        if not self.extra_channels:
            return image
        planes = np.broadcast_to(present.reshape(-1, *[1] * (image.ndim - 1)), image.shape)
        return np.concatenate([image, planes.astype(image.dtype)])

    def _thinned(self, available: np.ndarray, seed: int) -> np.ndarray:
        rng = generator(seed, "modality dropout")
        present = available & (rng.random(len(available)) >= self.dropout)
        if not present.any() and available.any():
            present[rng.choice(np.flatnonzero(available))] = True
        return present


def available_channels(case: Case, *, channels: int) -> np.ndarray:
    """Return which of the C channels a case has, (C,) bool; one file with several channels has them all."""
    if len(case.images) == 1:
        return np.full(channels, case.images[0] is not None)
    return np.array([path is not None for path in case.images])
