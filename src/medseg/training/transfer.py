"""Starting from the weights of another training: what is loaded, what stays frozen, what learns more slowly."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer

from medseg.errors import ConfigError
from medseg.nets.parts import WORDS, declared, in_order, layers_of, restricted
from medseg.nets.weights import ADDED, Match, first_channels, load_partial, read_weights

log = logging.getLogger(__name__)
WRAPPERS = ("", "model.")
"""What may stand before a name of a network that wraps a library's, so that ``encoder`` names both kinds."""
RATE = "rate"
"""Key of an optimizer's parameter group: its learning rate as a multiple of ``optimizer.lr``."""


@dataclass(frozen=True)
class Transfer:
    """What a network takes over and how its parts learn.

    Names of parameters are written as a dotted beginning (``encoder``, ``encoder.levels.0``) or with ``*``; a leading
    ``model.`` may be left out. ``encoder`` and ``head`` alone are what the network calls so: its attributes ``ENCODER``
    and ``HEAD`` (see :mod:`medseg.nets.parts`), or else its parts of these names.

    Attributes:
        weights: file of a state dict (.pt, .pth, .ckpt, .safetensors; of medseg, timm, segmentation_models_pytorch or
            any other), or the folder of a finished run; None: the network starts as it was built.
        part: the part of the network that the weights are for, such as ``encoder``; None: the whole network. The same
            part, or ``encoder``, is what ``layer_decay`` is about.
        freeze: names of parameters that do not learn; a name that starts with ``!`` is taken out again. Batch norms
            whose parameters are frozen keep their statistics too.
        frozen_epochs: epochs after which they learn after all; None: never.
        rates: name to a factor of ``optimizer.lr``; of several names that fit, the longest counts.
        layer_decay: factor of the learning rate from each layer of the part to the one before it; the last layer has
            this factor itself, and the rest of the network has 1 (Clark et al., ICLR 2020; Bao et al., ICLR 2022).
            Layers are counted in the order in which the part builds them; a stage is one layer.
        least: share of the part's tensors that the file must have.
        decay_norms: whether weight decay also pulls at biases, norms and other vectors.

    Raises:
        ConfigError: a number is out of its range, or two settings contradict each other.
    """

    weights: str | Path | None = None
    part: str | None = None
    freeze: Sequence[str] = ()
    frozen_epochs: int | None = None
    rates: Mapping[str, float] = field(default_factory=dict)
    layer_decay: float | None = None
    least: float = 0.5
    decay_norms: bool = True

    def __post_init__(self) -> None:
        for name, rate in self.rates.items():
            if not rate > 0:
                raise ConfigError(
                    f"transfer.rates.{name}={rate}: give a positive factor; transfer.freeze stops a part."
                )
        if self.layer_decay is not None and not 0 < self.layer_decay <= 1:
            raise ConfigError(f"transfer.layer_decay={self.layer_decay}: give a factor in (0, 1], or null.")
        if not 0 <= self.least <= 1:
            raise ConfigError(f"transfer.least={self.least}: give a share in [0, 1].")
        if self.frozen_epochs is not None and (self.frozen_epochs < 1 or not self.freeze):
            raise ConfigError(
                f"transfer.frozen_epochs={self.frozen_epochs}: give at least 1, and say in transfer.freeze what is "
                "frozen that long; or null."
            )

    def load(self, net: nn.Module) -> Match | None:
        """Put the weights into the network and log what matched; None where there are none.

        Raises:
            ConfigError: the file cannot be read, has too little of the network, or there is no such part.
        """
        if self.weights is None:
            return None
        path = Path(self.weights)
        path = path / "weights.pt" if path.is_dir() else path
        part = net if self.part is None else part_of(net, self.part)
        added = (*ADDED, *(f"{name}." for name in declared(net, self.part or "")))
        tensors = read_weights(path, key="transfer.weights")
        return load_partial(
            part, tensors, source=str(path), in_channels=first_channels(part), least=self.least, added=added,
            key="transfer.weights",
        )  # fmt: skip

    def frozen(self, net: nn.Module) -> list[str]:
        """Return the names of the network's parameters that are frozen.

        Raises:
            ConfigError: a name fits none, or nothing is left to learn.
        """
        names = [name for name, _ in net.named_parameters()]
        spared = [pattern[1:] for pattern in self.freeze if pattern.startswith("!")]
        chosen = [pattern for pattern in self.freeze if not pattern.startswith("!")]
        for pattern in chosen:
            _refuse_unknown(pattern, net, key="transfer.freeze")
        chosen, spared = _spelt(net, chosen), _spelt(net, spared)
        frozen = [name for name in names if _fits(name, chosen) and not _fits(name, spared)]
        if frozen and len(frozen) == len(names):
            raise ConfigError(
                f"transfer.freeze={list(self.freeze)} leaves nothing to learn; spare the part that shall learn, for "
                f"instance transfer.freeze=['*','!head'], of {', '.join(tops(net))}."
            )
        return frozen

    def rate(self, net: nn.Module) -> dict[str, float]:
        """Return the factor of the learning rate of each of the network's parameters.

        Raises:
            ConfigError: a name fits no parameter, or there is no part whose layers could be counted.
        """
        factors = dict.fromkeys((name for name, _ in net.named_parameters()), 1.0)
        for pattern in sorted(self.rates, key=len):
            _refuse_unknown(pattern, net, key="transfer.rates")
            meant = _spelt(net, [pattern])
            factors.update({name: float(self.rates[pattern]) for name in factors if _fits(name, meant)})
        if self.layer_decay is not None:
            layers = list(layers_of(self._layered(net)))
            ours = {id(parameter): name for name, parameter in net.named_parameters()}
            for number, layer in enumerate(layers):
                for parameter in layer:
                    factors[ours[id(parameter)]] *= self.layer_decay ** (len(layers) - number)
        return factors

    def _layered(self, net: nn.Module) -> nn.Module:
        """Return the part whose layers ``layer_decay`` counts."""
        name = self.part or "encoder"
        if names := declared(net, name):
            return in_order(net, names)
        try:
            return part_of(net, name)
        except ConfigError as error:
            if self.part is not None:
                raise
            raise ConfigError(
                f"transfer.layer_decay={self.layer_decay}: the network says of no part that it is its encoder; name "
                f"the part with the layers as transfer.part, one of {', '.join(tops(net))}."
            ) from error

    def groups(self, net: nn.Module, names: Iterable[str]) -> list[dict[str, Any]]:
        """Return the optimizer's parameter groups, the largest rate first.

        Each has ``params`` and ``rate``, and ``weight_decay`` 0 where none pulls at it. The optimizer must then be
        given to :func:`scale_rates`.

        Args:
            net: the network.
            names: of its parameters that learn, now or later.
        """
        factors, parameters = self.rate(net), dict(net.named_parameters())
        groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
        for name in names:
            decays = self.decay_norms or parameters[name].ndim > 1
            groups.setdefault((factors[name], decays), []).append(parameters[name])
        listed = []
        for (factor, decays), members in sorted(groups.items(), key=lambda item: item[0], reverse=True):
            free: dict[str, Any] = {} if decays else {"weight_decay": 0.0}
            listed.append({"params": members, RATE: factor, **free})
        if len(listed) > 1 or any(group[RATE] != 1 for group in listed):
            log.info("learning rates: %s", "; ".join(_described(group) for group in listed))
        return listed


def _described(group: Mapping[str, Any]) -> str:
    decay = ", no decay" if "weight_decay" in group else ""
    return f"{len(group['params'])} tensors at {group[RATE]:g} of optimizer.lr{decay}"


def scale_rates(optimizer: Optimizer) -> Optimizer:
    """Multiply the learning rate of each group by its ``rate``; schedules then keep the ratios."""
    for group in optimizer.param_groups:
        group["lr"] = group["lr"] * group.setdefault(RATE, 1.0)
    return optimizer


def part_of(net: nn.Module, name: str) -> nn.Module:
    """Return a part of a network by its dotted name, or what the network declares as its encoder or head.

    Raises:
        ConfigError: there is none.
    """
    if names := declared(net, name):
        return restricted(net, names)
    modules = dict(net.named_modules())
    for wrapper in WRAPPERS:
        if wrapper + name in modules:
            return modules[wrapper + name]
    raise ConfigError(f"transfer.part={name}: the network has no such part; choose one of {', '.join(tops(net))}.")


def tops(net: nn.Module) -> list[str]:
    """Return the names of a network's parts with parameters, those inside a wrapper instead of the wrapper's."""
    inner = getattr(net, "model", None)
    parts = inner.named_children() if isinstance(inner, nn.Module) else net.named_children()
    return [name for name, part in parts if any(True for _ in part.parameters())]


def _spelt(net: nn.Module, patterns: Iterable[str]) -> list[str]:
    """Return patterns with the network's own names in place of ``encoder`` and ``head``, where it declares them."""
    return [name for pattern in patterns for name in (declared(net, pattern) or [pattern])]


def _fits(name: str, patterns: Iterable[str]) -> bool:
    """Return whether a parameter's name is, begins with, or looks like one of the patterns."""
    return any(
        fnmatchcase(name, f"{wrapper}{pattern}{rest}")
        for pattern in patterns
        for wrapper in WRAPPERS
        for rest in ("", ".*")
    )


def _refuse_unknown(pattern: str, net: nn.Module, *, key: str) -> None:
    meant = _spelt(net, [pattern])
    if not any(_fits(name, meant) for name, _ in net.named_parameters()):
        hint = f" ({WORDS[pattern]} in its class would say what that is)" if pattern in WORDS else ""
        raise ConfigError(
            f"{key}: no parameter of the network is called {pattern!r}{hint}; its parts are {', '.join(tops(net))}."
        )
