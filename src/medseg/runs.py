"""A run on disk: where it lies, what it is called, how it is written and loaded again.

A run's folder holds ``config.yaml``, ``run.json``, ``versions.json``, ``split.json``, ``metrics.jsonl``,
``weights.pt``, ``scores.csv``, pictures and, last of all, the marker ``DONE``. Tables are rebuilt from it; MLflow
only mirrors it.
"""

import hashlib
import json
import platform
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.errors import RunError
from medseg.whole import write_whole

if TYPE_CHECKING:
    from torch import nn

    from medseg.data.datamodule import SegmentationData

PACKAGES = [
    "medseg",
    "torch",
    "torchvision",
    "lightning",
    "segmentation-models-pytorch",
    "hydra-core",
    "omegaconf",
    "mlflow",
    "torchmetrics",
    "albumentations",
    "numpy",
    "scipy",
    "pandas",
    "opencv-python-headless",
]
NOT_IN_KEY = (
    *("paths", "tracking", "folder", "resume", "study", "panel", "preset", "name", "choices", "trusted_targets"),
    "threads",  # moves the last bits only; recorded with the run
)
DISPLAY_ONLY = {
    "trainer": ("enable_progress_bar", "default_root_dir"),
    "callbacks": ("progress",),
    "data": ("about", "cache_limit_gb", "num_workers"),
}
"""What changes how a run is shown, described or fed, but not what it gives."""


def run_key(config: Mapping[str, Any]) -> str:
    """Return ten hex digits that identify what a resolved config trains, wherever it lies and however it is shown.

    Args:
        config: the resolved config as plain containers, with ``choices``.
    """
    kept = {name: value for name, value in config.items() if name not in NOT_IN_KEY}
    for group, names in DISPLAY_ONLY.items():
        if isinstance(kept.get(group), Mapping):
            kept[group] = {name: value for name, value in kept[group].items() if name not in names}
    if isinstance(kept.get("audit"), Mapping):
        kept["audit"] = {"allow_leaks": kept["audit"].get("allow_leaks", False)}  # the rest only looks
    text = json.dumps(kept, sort_keys=True)
    if config.get("folder"):
        text = text.replace(str(config["folder"]), str(None))  # as before the folder was known
    folders = sorted(((str(v), n) for n, v in config.get("paths", {}).items() if v), key=lambda pair: -len(pair[0]))
    for folder, name in folders:
        text = text.replace(folder, f"${name}")
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def run_name(config: Mapping[str, Any]) -> str:
    """Return the readable name of a run: ``name`` of the config, or net, data, split and seed."""
    if config.get("name"):
        return str(config["name"])
    choices = config["choices"]
    return f"{choices['net']}-{choices['data']}-{choices['split']}-s{config['seed']}"


def run_folder(config: Mapping[str, Any]) -> Path:
    """Return the folder of a config's run; the same config has the same folder."""
    return (
        Path(config["paths"]["runs"]) / str(config.get("study") or "single") / f"{run_name(config)}-{run_key(config)}"
    )


def is_finished(folder: Path) -> bool:
    """Return whether a run has written everything."""
    return (folder / "DONE").exists()


def free_folder(folder: Path) -> Path:
    """Return the folder, or the first of ``-2``, ``-3`` ... that does not exist yet."""
    candidate, number = folder, 1
    while candidate.exists():
        number += 1
        candidate = folder.with_name(f"{folder.name}-{number}")
    return candidate


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a run's folder; a second process that wants it is refused at once.

    Raises:
        RunError: another process trains there. The lock of a dead process does not count.
    """
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise RunError(f"{folder}: another process is training this run; wait for it or change a setting") from error
    try:
        yield
    finally:
        lock.release()


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON; a kill leaves the old or the new content."""
    write_whole(path, json.dumps(content, indent=1, sort_keys=True) + "\n")


def read_record(folder: Path) -> dict[str, Any]:
    """Return a run's ``run.json``.

    Raises:
        RunError: the folder is no run, or the file is damaged.
    """
    path = Path(folder) / "run.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunError(
            f"{folder}: no run.json there; give the folder of a run, for instance run=outputs/runs/..."
        ) from error
    except json.JSONDecodeError as error:
        raise RunError(f"{path}: not readable as JSON ({error}); the run has to be trained again") from error


def provenance() -> dict[str, Any]:
    """Return package versions, the git commit of the working folder and what of the machine decides numbers."""
    import torch

    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return {
        "packages": versions,
        "python": platform.python_version(),
        "git": {"commit": _git("rev-parse", "HEAD"), "dirty": bool(_git("status", "--porcelain"))},
        "torch": {
            "threads": torch.get_num_threads(),
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
            "cuda": torch.version.cuda if torch.cuda.is_available() else None,
            "device": torch.cuda.get_device_name(0) if torch.cuda.is_available() else platform.processor(),
        },
        "system": platform.system(),
    }


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


@dataclass(frozen=True)
class Run:
    """A finished run, loaded.

    Attributes:
        folder: where it lies.
        config: its resolved config, plain containers.
        record: its ``run.json``.
        net: the trained network in eval mode.
    """

    folder: Path
    config: dict[str, Any]
    record: dict[str, Any]
    net: "nn.Module"

    def module(self) -> Any:
        """Return what trained the network, with the trained network in it, for predictions and scores."""
        from hydra.utils import instantiate

        return instantiate(self.config["method"], net=self.net, _recursive_=True)

    def data(self) -> "SegmentationData":
        """Return the run's dataset, prepared, with the run's own split.

        Raises:
            RunError: the files under the data root are not those the run was trained on.
        """
        from hydra.utils import instantiate

        data = instantiate(self.config["data"])
        data.prepare_data()
        data.setup("test")
        if self.record["split"]["leaky"] and not data.split.leaky:
            data.declare_leaky()  # as the gate did when the run was trained
        for what, now, then in (
            ("dataset", data.digest, self.record["data"]["digest"]),
            ("split", data.split.hash, self.record["split"]["hash"]),
        ):
            if now != then:
                raise RunError(
                    f"{self.folder}: the {what} is not the one the run was made with (digest {now[:12]}, the run has "
                    f"{then[:12]}); restore the files under the data root or train again"
                )
        return data


def load_config(folder: Path) -> dict[str, Any]:
    """Return a run's resolved config as plain containers.

    Raises:
        RunError: there is none.
    """
    from omegaconf import OmegaConf

    path = Path(folder) / "config.yaml"
    if not path.exists():
        raise RunError(f"{folder}: no config.yaml there; give the folder of a run, for instance run=outputs/runs/...")
    return OmegaConf.to_container(OmegaConf.load(path), resolve=True)  # type: ignore[return-value]


def load_run(folder: str | Path, *, trusted: tuple[str, ...] = ()) -> Run:
    """Load a finished run: the network from the run's own config, its weights without unpickling objects.

    Args:
        folder: the run's folder.
        trusted: packages beyond the allow list that the config may name; only you can say so, never the run itself.

    Raises:
        RunError: the folder is no finished run or the weights do not fit.
        ConfigError: the config names something that is not allowed.
    """
    import torch
    from hydra.utils import instantiate

    from medseg.targets import check_targets

    folder = Path(folder)
    record, config = read_record(folder), load_config(folder)
    if not (folder / "weights.pt").exists():
        raise RunError(f"{folder}: no weights.pt (status {record.get('status')}); let the run finish first")
    check_targets(config, trusted)
    # weights.pt holds all of it; the file that a training started from may be gone, or on another machine.
    net = instantiate({**config["net"], **({"encoder_weights": None} if "encoder_weights" in config["net"] else {})})
    weights = torch.load(folder / "weights.pt", map_location="cpu", weights_only=True)
    try:
        net.load_state_dict(weights)
    except RuntimeError as error:
        raise RunError(
            f"{folder}: weights.pt does not fit the network of config.yaml ({str(error).splitlines()[0]})"
        ) from error
    return Run(folder, config, record, net.eval())
