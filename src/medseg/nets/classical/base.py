"""What all systems without gradients share: buffers that grow, settings tried on the validation side, hard logits."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medseg.errors import ConfigError
from medseg.nets.adapters import check_channels
from medseg.nets.classical.basics import case_dice, checked_label, hard_logits

LOG = logging.getLogger(__name__)
MOST_TUNED = 24
"""Validation images that settings are tried on, spread evenly over the side; the rest would only cost time."""


class Classical(nn.Module):
    """Base of the systems that learn without gradients.

    Whatever is learnt lives in buffers: arrays through :meth:`remember`, whose size may change with the fit and which
    take the size of a loaded state; settings, single numbers that :meth:`tune` may choose.

    Args:
        in_channels: image channels C.
        num_classes: classes K.
        settings: name and default of every setting that validation may choose; each becomes a buffer.
        candidates: name of a setting to the values that :meth:`tune` tries, one setting after the other.

    Attributes:
        interaction: what a user gives, or "none"; part of every run's record.

    Raises:
        ConfigError: candidates of an unknown setting.
    """

    READING = ""
    interaction = "none"
    fitted: Tensor

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        settings: Mapping[str, float],
        candidates: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        super().__init__()
        self.in_channels, self.num_classes = in_channels, num_classes
        self.spatial_dims = 2
        self.candidates = {name: [float(value) for value in values] for name, values in (candidates or {}).items()}
        unknown = sorted(set(self.candidates) - set(settings))
        if unknown:
            raise ConfigError(
                f"net.candidates names {unknown[0]!r}; {type(self).__name__} can try {', '.join(sorted(settings))}."
            )
        for name, value in settings.items():
            self.register_buffer(name, torch.tensor(float(value), dtype=torch.float64))
        self.register_buffer("fitted", torch.tensor(False))

    @property
    def foreground(self) -> list[int]:
        """Labels whose Dice chooses the settings: every class but the background."""
        return list(range(1, max(self.num_classes, 2)))

    def remember(self, **arrays: np.ndarray | float) -> None:
        """Keep arrays as buffers, replacing those of the same name."""
        for name, value in arrays.items():
            self.register_buffer(name, torch.from_numpy(np.array(value)).to(self.fitted.device))

    def known(self, name: str) -> np.ndarray:
        """Return what :meth:`remember` kept."""
        return getattr(self, name).cpu().numpy()

    def setting(self, name: str) -> float:
        """Return the value of a setting."""
        return float(getattr(self, name))

    def adopt(self, name: str, value: float) -> None:
        """Set a setting; a system that has to learn anew for it overrides this."""
        getattr(self, name).fill_(value)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        for name, own in list(self._buffers.items()):
            arriving = state_dict.get(prefix + name)
            if own is not None and isinstance(arriving, Tensor) and arriving.shape != own.shape:
                self._buffers[name] = torch.empty_like(arriving, device=own.device)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def fit(self, images: list[np.ndarray], masks: list[np.ndarray]) -> None:
        """Learn from the training side.

        Args:
            images: (H, W, C) float32 in the network's normalisation.
            masks: (H, W) uint8 label maps; IGNORE pixels do not count.

        Raises:
            DataError: there is nothing to learn from.
        """
        self.learn(images, masks)
        self.fitted.fill_(True)

    def learn(self, images: list[np.ndarray], masks: list[np.ndarray]) -> None:
        """Do what :meth:`fit` says; a system that only has settings learns nothing."""

    def tune(self, images: list[np.ndarray], masks: list[np.ndarray]) -> None:
        """Choose the settings that have candidates by the mean Dice on the validation side, the first of the best.

        A side without any foreground tells nothing; the defaults stay then, and the log says so.

        Args:
            images: (H, W, C) float32.
            masks: (H, W) uint8; IGNORE pixels do not count.
        """
        telling = [place for place, mask in enumerate(masks) if np.isin(mask, self.foreground).any()]
        if not telling:
            LOG.warning("%s: no validation image shows foreground; its settings stay as given", type(self).__name__)
            return
        step = max(1, len(telling) / MOST_TUNED)
        places = [telling[int(number * step)] for number in range(int(len(telling) / step))]
        chosen = [images[place] for place in places], [masks[place] for place in places]
        for name, values in self.candidates.items():
            scores = []
            for value in values:
                self.adopt(name, value)
                scores.append(self.mean_dice(*chosen))
            best = values[int(np.argmax(scores))]
            self.adopt(name, best)
            LOG.info("%s: %s=%g has the best validation Dice, %.3f", type(self).__name__, name, best, max(scores))

    def mean_dice(self, images: list[np.ndarray], masks: list[np.ndarray]) -> float:
        """Return the mean Dice of the answers, with exact marks of the simulated user where the system has one."""
        values = []
        for image, mask in zip(images, masks, strict=True):
            values.append(case_dice(self.answer(self.presented(image, mask)), mask, self.foreground))
        return float(np.nanmean(values))

    def presented(self, image: np.ndarray, mask: np.ndarray) -> Tensor:
        """Return an image (1, C, H, W) as evaluation shows it; interactive systems add their marks."""
        return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None].to(self.fitted.device)

    def answer(self, image: Tensor) -> np.ndarray:
        """Return the label map (H, W) of one image (1, C, H, W)."""
        with torch.no_grad():
            logits = self(image)[0].cpu().numpy()
        return (logits[0] > 0).astype(np.uint8) if self.num_classes == 1 else logits.argmax(0).astype(np.uint8)

    def check(self, image: Tensor) -> None:
        """Refuse an image of another kind, and any image before the fit.

        Raises:
            ConfigError: another number of channels or axes, or not fitted yet.
        """
        name = type(self).__name__
        check_channels(image, self.in_channels, net=name)
        if not bool(self.fitted):
            raise ConfigError(f"{name} is not fitted; train it with method=fitted before it is asked.")

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, K, H, W) for images (B, C, H, W)."""
        self.check(image)
        pixels = image.detach().float().movedim(1, -1).cpu().numpy()
        logits = np.stack([self.logits_of(np.ascontiguousarray(one)) for one in pixels])
        return torch.from_numpy(logits).to(image.device)

    def logits_of(self, image: np.ndarray) -> np.ndarray:
        """Return logits (K, H, W) float32 of one image (H, W, C)."""
        raise NotImplementedError


class OneClass(Classical):
    """Base of the systems that tell one class from everything else.

    Args:
        in_channels: image channels C.
        num_classes: classes K.
        label: the class.
        settings: as in :class:`Classical`.
        candidates: as in :class:`Classical`.

    Raises:
        ConfigError: a label out of 1..K-1; candidates of an unknown setting.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        label: int,
        settings: Mapping[str, float],
        candidates: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        super().__init__(in_channels=in_channels, num_classes=num_classes, settings=settings, candidates=candidates)
        self.label = checked_label(label, num_classes)

    @property
    def foreground(self) -> list[int]:
        """The one class."""
        return [self.label]

    def logits_of(self, image: np.ndarray) -> np.ndarray:
        """Return logits (K, H, W) float32 of one image (H, W, C)."""
        return hard_logits(np.where(self.segment(image), self.label, 0), self.num_classes)

    def segment(self, image: np.ndarray) -> np.ndarray:
        """Return where the class is, (H, W) bool, in one image (H, W, C)."""
        raise NotImplementedError
