"""Which runs a command line means: folders, every run of a sweep, or every run of a study."""

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from medseg import runs
from medseg.errors import ConfigError, RunError

GROUPS = ("sweep", "study")
RENAMED = {"net=": "option="}
"""``net`` is a group of whole configs elsewhere; here it is a name only."""


def overrides_of(arguments: Sequence[str]) -> list[str]:
    """Return the overrides that arguments mean: ``A B --sweep ID net=unet`` is ``runs=[A,B] sweep=ID option=unet``.

    Raises:
        ConfigError: a flag without its value.
    """
    folders, kept, rest = [], [], list(arguments)
    while rest:
        text = rest.pop(0)
        flag, equals, value = text.removeprefix("--").partition("=")
        if text.startswith("--") and flag in GROUPS:
            if not equals and not rest:
                raise ConfigError(f"{text} needs a value, for instance {text} 2026-03-01_10-00-00.")
            kept.append(f"{flag}={_quoted(value if equals else rest.pop(0))}")
        elif text in ("--cfg", "-c", "--info", "-i", "--config-dir", "-cd", "--package", "-p"):
            kept += [text, *rest[:1]]  # Hydra's own flags with a value
            del rest[:1]
        elif text.startswith("-") or ("=" in text and not Path(text).exists()):
            name = next((short for short in RENAMED if text.startswith(short)), "")
            kept.append(RENAMED.get(name, "") + text.removeprefix(name))
        else:
            folders.append(text)
    return [*kept, *([f"runs=[{','.join(map(_quoted, folders))}]"] if folders else [])]


def _quoted(text: str) -> str:
    """Return text as Hydra reads it back whatever it holds."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def find_runs(config: DictConfig) -> list[Path]:
    """Return the folders of the finished runs that a config names, sorted by name where it names a group.

    Raises:
        ConfigError: it names none, or both folders and a group.
        RunError: a group has no run, or a run is not finished.
    """
    given = {name: config.get(name) for name in GROUPS if config.get(name)}
    if bool(config.runs) == bool(given) or len(given) > 1:
        raise ConfigError("give the folders of runs, or --sweep ID, or --study NAME, and one of these only.")
    folders = [Path(str(folder)) for folder in config.runs] or _of_group(config, given)
    for folder in folders:
        state = runs.read_record(folder).get("status")
        if not runs.is_finished(folder):
            raise RunError(f"{folder}: the run is not finished (status {state}); let it finish, or leave it out.")
    return folders


def _of_group(config: DictConfig, given: dict[str, str]) -> list[Path]:
    (group, value), root = next(iter(given.items())), Path(config.paths.runs)
    found = []
    for path in sorted(root.glob("*/*/run.json")):
        record = runs.read_record(path.parent)
        if str(record.get(group)) == str(value) and config.option in (None, record["choices"].get("net")):
            found.append(path.parent)
    if not found:
        of_net = f" net={config.option}" if config.option else ""
        raise RunError(f"{root}: no run of {group}={value}{of_net} there; name folders of runs instead.")
    return found
