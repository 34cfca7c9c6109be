"""Frozen parts of a network: they do not learn, and their batch norms keep the statistics they came with."""

import logging
from collections.abc import Iterable

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from medseg.training.transfer import Transfer

log = logging.getLogger(__name__)


class Freezing:
    """Freeze what ``transfer.freeze`` names, and let it learn after ``transfer.frozen_epochs``.

    Args:
        net: its frozen parameters stop asking for gradients here.
        transfer: says what is frozen, and how long.

    Attributes:
        later: names of the parameters that will learn although they are frozen now; the optimizer has to know them.

    Raises:
        ConfigError: a name fits no parameter, or nothing is left to learn.
    """

    def __init__(self, net: nn.Module, transfer: Transfer) -> None:
        self.net, self.epochs = net, transfer.frozen_epochs
        parameters, names = dict(net.named_parameters()), transfer.frozen(net)
        # Those of a network that froze them itself stay out for good.
        self._stopped = [name for name in names if parameters[name].requires_grad]
        self._held = norms_of(net, names)
        self.later = frozenset(self._stopped if self.epochs is not None else ())
        for name in self._stopped:
            parameters[name].requires_grad_(False)
        if names:
            log.info(
                "frozen: %d of %d parameter tensors, and %d norms with their statistics%s",
                len(names), len(parameters), len(self._held),
                "" if self.epochs is None else f", for {self.epochs} epoch(s)",
            )  # fmt: skip

    def hold(self) -> None:
        """Keep the frozen norms in eval mode; whenever somebody may have set the mode of the whole network."""
        for layer in self._held:
            layer.eval()

    def start_epoch(self, epoch: int) -> None:
        """Let the frozen parts learn once their epochs are over; before, hold their norms."""
        if self._stopped and self.epochs is not None and epoch >= self.epochs:
            parameters = dict(self.net.named_parameters())
            for name in self._stopped:
                parameters[name].requires_grad_(True)
            for layer in self._held:
                layer.train()
            self._stopped, self._held = [], []
        self.hold()


def norms_of(net: nn.Module, frozen: Iterable[str]) -> list[nn.Module]:
    """Return the norm layers with running statistics all of whose parameters are frozen."""
    still = set(frozen)
    return [
        layer
        for prefix, layer in net.named_modules()
        if isinstance(layer, _NormBase)
        and (own := [f"{prefix}.{name}" for name, _ in layer.named_parameters(recurse=False)])
        and still.issuperset(own)
    ]
