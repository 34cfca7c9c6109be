"""``medseg data register``: every channel of every case onto the grid of its reference channel, as a new dataset."""

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medseg.commands.show import show_table
from medseg.data.cases import Case
from medseg.data.sources.folder import read_manifest
from medseg.data.volumes.files import is_volume, read_volume, same_grid, volume_header, write_volume
from medseg.errors import ConfigError, DataError

_HASHES = ("sha256_image", "sha256_mask")  # written anew
_TAKEN = ("affine", "images", "masks")  # names that the layout keeps for itself


@dataclass(frozen=True)
class _Moved:
    """One channel of a case after registration."""

    channel: int
    before: float
    after: float
    transform: list[list[float]]


def main(arguments: Sequence[str]) -> None:
    """Run ``medseg data register --source DIR --target DIR``."""
    options = _parser().parse_args(arguments)
    target = register_dataset(
        Path(options.source),
        Path(options.target),
        reference_channel=options.reference_channel,
        kind=options.kind,
        start=options.start,
        seed=options.seed,
    )
    print(f"written to {target}; similarities stand in manifest.csv, transforms in provenance.json")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="medseg data register",
        description="Register all channels of every case onto its reference channel, whose grid the masks share. "
        "Masks and the reference are copied as they are.",
    )
    parser.add_argument("--source", required=True, help="dataset in medseg's layout (images/, masks/, manifest.csv)")
    parser.add_argument("--target", required=True, help="folder to write; must not exist")
    parser.add_argument("--reference-channel", type=int, default=0, help="channel that stays (first: 0)")
    parser.add_argument("--kind", choices=("rigid", "affine"), default="rigid", help="what the transform may do")
    parser.add_argument("--start", choices=("header", "centre"), default="header", help="where the search begins")
    parser.add_argument("--seed", type=int, default=0, help="of the sampled voxels")
    return parser


def register_dataset(
    source: Path, target: Path, *, reference_channel: int = 0, kind: str = "rigid", start: str = "header", seed: int = 0
) -> Path:
    """Write a dataset whose channels lie on one grid, and return its folder.

    Columns ``similarity_before`` and ``similarity_after`` (mutual information in nats, ``;`` between channels, empty
    for the reference and for missing channels) come to the manifest; the transforms stand in ``provenance.json``.

    Args:
        source: dataset in medseg's layout.
        target: folder to write.
        reference_channel: stays as it is; the masks must lie on its grid.
        kind: ``rigid`` or ``affine``.
        start: ``header`` or ``centre``, see ``medseg.data.volumes.registration.register``.
        seed: of the sampling.

    Raises:
        DataError: a case lacks the reference channel, is no volume, or its mask lies on another grid.
        ConfigError: the reference channel is negative.
    """
    from medseg.data.prepare.layout import Layout

    if reference_channel < 0:
        raise ConfigError(f"--reference-channel={reference_channel}: channels count from 0.")
    cases = read_manifest(source)
    options: dict[str, Any] = {"kind": kind, "start": start, "seed": seed}
    moved: dict[str, list[_Moved]] = {}
    with Layout(target, target.name) as layout:
        layout.expect(len(cases))
        for case in cases:
            with tempfile.TemporaryDirectory(prefix="medseg-register-") as scratch:
                images, moved[case.id] = _register_case(case, Path(scratch), reference_channel, options)
                layout.add(
                    id=case.id,
                    images=images,
                    masks=case.masks,
                    group=case.patient,
                    fold=case.fold,
                    domain=case.domain,
                    **_columns(case, moved[case.id]),
                )
        record = {name: [vars(one) for one in found] for name, found in moved.items()}
        finished = layout.finish(
            {
                "sources": [source.name],
                "options": {"reference_channel": reference_channel, **options},
                "registration": record,
            }
        )
    _show(moved)
    return finished


def _register_case(
    case: Case, scratch: Path, reference_channel: int, options: Mapping[str, Any]
) -> tuple[list[Path | None], list[_Moved]]:
    """Return the case's image files with the moved ones in ``scratch``, and what was done to each."""
    from medseg.data.volumes.registration import register

    reference_file = case.images[reference_channel] if reference_channel < len(case.images) else None
    if reference_file is None:
        raise DataError(
            f"case '{case.id}' has no file for the reference channel {reference_channel}; choose another with "
            "--reference-channel, or take the case out."
        )
    for file in case.files:
        if not is_volume(file):
            raise DataError(f"{file}: case '{case.id}' is no volume; only volumes are registered.")
    grid = volume_header(reference_file)
    for mask in case.masks:
        same_grid(grid, volume_header(mask), names=(reference_file, mask))
    images: list[Path | None] = list(case.images)
    found = []
    reference = read_volume(reference_file)
    for channel, path in enumerate(case.images):
        if path is None or channel == reference_channel:
            continue
        result = register(read_volume(path), reference, **options)
        target = scratch / f"{channel:04d}.nii.gz"
        write_volume(target, result.volume.values, result.volume.grid)
        images[channel] = target
        before, after = round(result.similarity_before, 6), round(result.similarity_after, 6)
        found.append(_Moved(channel, before, after, result.transform.round(9).tolist()))
    return images, found


def _columns(case: Case, moved: Sequence[_Moved]) -> dict[str, Any]:
    """Return the case's own further columns and those of its similarities."""
    columns: dict[str, Any] = {
        f"source_{name}" if name in _TAKEN else name: text for name, text in case.attributes.items()
    }
    for name in _HASHES:
        columns.pop(name, None)
    by_channel = {one.channel: one for one in moved}
    channels = [by_channel.get(channel) for channel in range(len(case.images))]
    columns["similarity_before"] = ";".join("" if one is None else f"{one.before:.6f}" for one in channels)
    columns["similarity_after"] = ";".join("" if one is None else f"{one.after:.6f}" for one in channels)
    return columns


def _show(moved: dict[str, list[_Moved]]) -> None:
    rows = [
        [name, str(one.channel), f"{one.before:.4f}", f"{one.after:.4f}"]
        for name, found in moved.items()
        for one in found
    ]
    show_table("mutual information with the reference (nats)", ["case", "channel", "before", "after"], rows)
