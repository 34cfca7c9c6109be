"""How a window is looked at: blurred and sampled ever more coarsely away from its centre."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medseg.errors import ConfigError
from medseg.nets.adapters import checked_choice

FOVEA, FIELD = 0.5, 1.5
"""Share of the half side where a window is left alone; half side of a nonuniformly sampled field over the window's."""


class Gaze(nn.Module):
    """Foveation and nonuniform sampling of a window after Ciresan et al. 2012; no formula was at hand: our reading.

    The inner half of the way to the edge is seen as it is. Beyond, foveation replaces a pixel by the mean of a disc
    whose radius grows linearly to ``foveation`` pixels at the edge (between whole radii their means are mixed; around
    the window its edge goes on), and nonuniform samples lie ever wider apart, the last 1.5 half windows from the
    centre: as many samples as before of a wider field.

    Args:
        patch: samples of a side.
        foveation: radius of the blur at the edge in pixels; 0 none.
        sampling: ``uniform`` or ``nonuniform``.
    """

    places: Tensor
    discs: Tensor
    shares: Tensor

    def __init__(self, patch: int, *, foveation: float, sampling: str) -> None:
        super().__init__()
        half = patch // 2
        reach = int(FIELD * half) if sampling == "nonuniform" else half
        self.side = 2 * reach + 1  # of the field that the samples come from
        away = torch.arange(-half, half + 1, dtype=torch.float64)
        spread = ((away.abs() / half - FOVEA) / (1 - FOVEA)).clamp(min=0).square() * (reach - half)
        axis = torch.arange(-reach, reach + 1, dtype=torch.float64)
        radius = foveation * ((torch.hypot(axis[:, None], axis) / reach - FOVEA) / (1 - FOVEA)).clamp(0, 1)
        self.most = math.ceil(foveation)
        whole = torch.arange(1, self.most + 1)
        offsets = torch.arange(-self.most, self.most + 1)
        discs = (offsets[:, None] ** 2 + offsets**2 <= whole[:, None, None] ** 2).double()
        values = {
            "places": (reach + away + away.sign() * spread).round().long(),
            "discs": (discs / discs.sum((1, 2), keepdim=True)).float()[:, None],
            "shares": (1 - (radius - whole[:, None, None]).abs()).clamp(min=0).float(),
        }
        for name, value in values.items():  # fixed, so no part of a checkpoint
            self.register_buffer(name, value, persistent=False)

    def forward(self, windows: Tensor) -> Tensor:
        """Return what is seen (N, C, patch, patch) of windows (N, C, side, side)."""
        if self.most:
            middle = self.side // 2
            # Blurred is the difference to the central pixel: a flat window then stays exactly what it is.
            rest = (windows - windows[..., middle, middle, None, None]).flatten(0, 1)[:, None]
            padded = F.pad(rest, [self.most] * 4, mode="replicate")
            change = (F.conv2d(padded, self.discs.to(rest)) - rest) * self.shares.to(rest)
            windows = windows + change.sum(1).view_as(windows)
        return windows.index_select(-2, self.places).index_select(-1, self.places)


def checked_gaze(foveation: float, sampling: str, mode: str) -> bool:
    """Return whether windows have to be looked at one by one.

    Raises:
        ConfigError: an unknown sampling, a negative foveation, or either of them with ``mode=dense``.
    """
    checked_choice(sampling, ["uniform", "nonuniform"], key="sampling")
    if foveation < 0:
        raise ConfigError(f"net.foveation={foveation}: give a radius in pixels, 0 for none.")
    literal = foveation > 0 or sampling == "nonuniform"
    if literal and mode == "dense":
        raise ConfigError(
            f"net.foveation={foveation} with net.sampling={sampling} looks at each window by itself, net.mode=dense at "
            "none: set net.mode=sliding, or net.foveation=0 and net.sampling=uniform."
        )
    return literal
