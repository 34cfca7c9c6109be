"""The table of all systems in the README, made from conf/net and the networks themselves.

    python docs/systems.py            # write it
    python docs/systems.py --check    # exit code 1 when the README says something else

Every yaml under conf/net says in its first three comment lines what it is: System, Source, Design. The parameters are
those of the network at the yaml's own settings with one input channel and two classes. For each system ``--export``
also tries TorchScript and torch.export at 64 x 64 (16 x 64 x 64) and writes docs/export.md.
"""

import argparse
import logging
import sys
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "conf" / "net"
KEYS = ("System", "Source", "Design")
START, END = "<!-- systems: made by docs/systems.py -->", "<!-- end of systems -->"
SIZES = {2: (64, 64), 3: (16, 64, 64)}


@dataclass(frozen=True)
class System:
    """What a yaml says of its network."""

    option: str
    system: str
    source: str
    design: str
    dims: tuple[int, ...]

    @property
    def axes(self) -> str:
        """Return ``2D``, ``3D`` or both."""
        return ", ".join(f"{number}D" for number in self.dims)


def described(path: Path) -> System:
    """Return what the head of a yaml says.

    Raises:
        SystemExit: a line is missing.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    said = {}
    for key, line in zip(KEYS, lines, strict=False):
        if not line.startswith(f"# {key} ") or not line.removeprefix(f"# {key}").strip():
            raise SystemExit(f"{path}: its first lines must be '# {key}  ...' for {', '.join(KEYS)}, in this order")
        said[key] = line.removeprefix(f"# {key}").strip()
    told = OmegaConf.to_container(OmegaConf.load(path)).get("spatial_dims", 2)  # type: ignore[union-attr]
    dims = (2, 3) if isinstance(told, str) else (int(told),)
    return System(path.stem, said["System"], said["Source"], said["Design"], dims)


def systems() -> list[System]:
    """Return every system, by the name of its option."""
    return [described(path) for path in sorted(FOLDER.glob("*.yaml")) if path.stem != "custom"]


def built(option: str, dims: int, channels: int = 1, classes: int = 2) -> nn.Module:
    """Return the network of an option at the yaml's own settings."""
    card = {"in_channels": channels, "num_classes": classes}
    view = {"dims": dims, "size": [64, 64, 64] if dims == 3 else None}
    around = {"data": {"card": card}, "input_channels": channels, "view": view, "preprocess": {"size": [256, 256]}}
    net = OmegaConf.create({**around, "seed": 0, "net": OmegaConf.load(FOLDER / f"{option}.yaml")})["net"]
    return instantiate(net)


def parameters(system: System) -> str:
    """Return the number of parameters as printed: of the 2D form, and of the 3D form after it."""
    texts = []
    for dims in system.dims:
        count = sum(parameter.numel() for parameter in built(system.option, dims).parameters())
        texts.append(f"{count:,}" if count else "none")
    return " / ".join(texts)


def table(found: Iterable[System]) -> str:
    """Return the table in Markdown."""
    lines = ["| `net=` | system | source | axes | parameters | design |", "|---|---|---|---|---|---|"]
    lines += [
        f"| `{one.option}` | {one.system} | {one.source} | {one.axes} | {parameters(one)} | {one.design} |"
        for one in found
    ]
    return "\n".join(lines)


def export_status(system: System) -> list[str]:
    """Return "yes", or the first line of the reason, for TorchScript and torch.export of a system."""
    image = torch.zeros(1, 1, *SIZES[system.dims[0]])
    net = built(system.option, system.dims[0]).eval()
    status = []
    for name in ("trace", "export"):
        try:
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                made = (
                    torch.jit.trace(net, image, check_trace=False)
                    if name == "trace"
                    else torch.export.export(net, (image,), strict=False).module()
                )
                same = torch.allclose(made(image + 0.5), net(image + 0.5), rtol=1e-3, atol=1e-3)
            status.append("yes" if same else "other answer")
        except Exception as error:  # noqa: BLE001 - whatever a compiler says is the finding
            status.append(f"no: {type(error).__name__}")
    return status


def export_page(found: Iterable[System]) -> str:
    """Return the page that says which systems leave Python."""
    lines = [
        "# TorchScript and torch.export",
        "",
        f"Measured with torch {torch.__version__.split('+')[0]} by `python docs/systems.py --export`: each network at "
        "its yaml's own settings, one channel, two classes, 64 x 64 pixels (16 x 64 x 64 for volumes); *yes* means "
        "that the exported program gives the same logits on another image of the same size.",
        "",
        "| `net=` | `torch.jit.trace` | `torch.export` |",
        "|---|---|---|",
    ]
    for one in found:
        trace, export = export_status(one)
        lines.append(f"| `{one.option}` | {trace} | {export} |")
        print(lines[-1], flush=True)
    return "\n".join(lines) + "\n"


def main() -> int:
    """Write or check the table; ``--export`` measures the page of exports."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only compare")
    parser.add_argument("--export", action="store_true", help="also write docs/export.md; takes minutes")
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    found = systems()
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    before, rest = text.split(START)
    wanted = f"{before}{START}\n\n{table(found)}\n\n{END}{rest.split(END)[1]}"
    if given.export:
        trained = [one for one in found if parameters(one) != "none"]
        (ROOT / "docs" / "export.md").write_text(export_page(trained), encoding="utf-8")
    if given.check:
        print("the README's table is " + ("up to date" if wanted == text else "out of date: python docs/systems.py"))
        return int(wanted != text)
    readme.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
