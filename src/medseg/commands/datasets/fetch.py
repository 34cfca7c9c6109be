"""``medseg data fetch NAME --target DIR``: download the official archive of a public dataset, after asking."""

import sys
from collections.abc import Sequence
from pathlib import Path

from medseg.commands.datasets.known import Known, files, read
from medseg.commands.datasets.words import Parser
from medseg.data.fetch import Remote, check_url, fetch
from medseg.errors import ConfigError


def main(arguments: Sequence[str]) -> None:
    """Show what would be fetched, ask, fetch and verify.

    Raises:
        ConfigError: the dataset has no public address, or nobody can be asked.
        DataError: the transfer failed or the file is not the expected one.
    """
    parser = Parser(prog="medseg data fetch", description=__doc__)
    parser.add_argument("name", help="as in data=NAME")
    parser.add_argument("--target", required=True, type=Path, help="folder for the archive")
    parser.add_argument("--yes", action="store_true", help="start without asking")
    parser.add_argument("--config-dir", help="folder with your own data/*.yaml")
    given = parser.parse_args(list(arguments))
    entry = read(given.name, files(given.config_dir))
    remotes = remotes_of(entry)
    if not remotes:
        raise ConfigError(
            f"{entry.name} has no public address to fetch from; how to get it: medseg data info {entry.name}."
        )
    for remote in remotes:
        check_url(remote.url)
    target = given.target.expanduser()
    print(_question(entry, remotes, target))
    if not given.yes and not _agreed(entry.name):
        print("Nothing was fetched.")
        return
    paths = [fetch(remote, target) for remote in remotes]
    for path, remote in zip(paths, remotes, strict=True):
        print(f"{path}: {path.stat().st_size:,} bytes, {'sha256 verified' if remote.sha256 else 'no sha256 published'}")
    source = paths[0] if len(paths) == 1 else target
    print(f"next: medseg data prepare {entry.name} --source '{source}'")


def remotes_of(entry: Known) -> list[Remote]:
    """Return the files of ``about.fetch`` (one mapping or a list of them).

    Raises:
        ConfigError: an entry has no url.
    """
    node = entry.about.get("fetch") or []
    parts = node if isinstance(node, list) else [node]
    if not all(isinstance(part, dict) and isinstance(part.get("url"), str) for part in parts):
        raise ConfigError(f"{entry.file}: about.fetch needs url, sha256 and bytes; correct it.")
    return [Remote(part["url"], part.get("sha256"), part.get("bytes")) for part in parts]


def _question(entry: Known, remotes: Sequence[Remote], target: Path) -> str:
    sizes = [f"{remote.size / 1e6:,.1f} MB" if remote.size else "size not published" for remote in remotes]
    files = [f"  from     {remote.url} ({size})" for remote, size in zip(remotes, sizes, strict=True)]
    return "\n".join([
        f"{entry.about.get('title') or entry.name}",
        *files,
        f"  to       {target.absolute()}",
        f"  licence  {entry.card.get('licence') or 'not stated'}",
        f"  cite     {entry.card.get('citation') or 'not stated'}",
    ])  # fmt: skip


def _agreed(name: str) -> bool:
    if not sys.stdin.isatty():
        raise ConfigError(
            f"medseg data fetch {name}: nobody to ask on this terminal; add --yes to start without asking."
        )
    return input("Start the download? [y/N] ").strip().lower() in ("y", "yes")
