"""Which modules of a network are its encoder and which its head, in the network's own words."""

from collections.abc import Iterable, Iterator

from torch import nn

WORDS = {"encoder": "ENCODER", "head": "HEAD"}
"""Names that every network understands, and the class attribute that spells them out: names of modules, in order."""
DOMINANT = 0.8
"""Share of the parameters from which on a container is not one layer but the list of layers."""


def declared(net: nn.Module, word: str) -> tuple[str, ...]:
    """Return the names of the modules that a word of ``WORDS`` stands for in a network; none if it does not say.

    Names of modules that this form of the network lacks, such as heads of side outputs, are left out.
    """
    names = getattr(net, WORDS[word], ()) if word in WORDS else ()
    there = {name for name, _ in net.named_modules()}
    return tuple(name for name in ((names,) if isinstance(names, str) else names) if name in there)


def restricted(net: nn.Module, names: Iterable[str]) -> nn.Module:
    """Return some of a network's modules under their full names, and nothing else; the modules are the network's own.

    Args:
        net: the network.
        names: dotted names of modules, none within another.
    """
    part = nn.Module()
    for name in names:
        *path, last = name.split(".")
        place = part
        for step in path:
            if step not in dict(place.named_children()):
                place.add_module(step, nn.Module())
            place = place.get_submodule(step)
        place.add_module(last, net.get_submodule(name))
    return part


def in_order(net: nn.Module, names: Iterable[str]) -> nn.ModuleList:
    """Return a network's modules of these names in their order; a list of modules is opened."""
    listed: list[nn.Module] = []
    for module in (net.get_submodule(name) for name in names):
        listed += list(module) if isinstance(module, nn.ModuleList) else [module]
    return nn.ModuleList(listed)


def layers_of(part: nn.Module) -> Iterator[list[nn.Parameter]]:
    """Yield the parameters of each layer of a part, in the order in which the part builds them.

    A layer is a child with parameters; a norm belongs to the layer before it, the part's own parameters (position
    embeddings) to the first. A wrapper and a list that holds nearly all parameters are opened.
    """
    current: list[nn.Parameter] = []
    started = False
    for child, parameters in _opened(part):
        if started and child is not None and "norm" not in type(child).__name__.lower():
            yield current
            current = []
        current = [*current, *parameters]
        started = started or child is not None
    yield current


def _opened(part: nn.Module) -> Iterator[tuple[nn.Module | None, list[nn.Parameter]]]:
    """Yield each child and its parameters, and None with those of the part itself."""
    total = sum(parameter.numel() for parameter in part.parameters())
    yield None, list(part.parameters(recurse=False))
    for child in part.children():
        parameters = list(child.parameters())
        share = sum(parameter.numel() for parameter in parameters) / max(total, 1)
        wraps = share == 1.0 and any(True for _ in child.children())
        if wraps or (type(child) in (nn.Sequential, nn.ModuleList, nn.ModuleDict) and share >= DOMINANT):
            yield from _opened(child)
        elif parameters:
            yield child, parameters
