"""The embedded default dataset: simulated thyroid ultrasound, made once and kept as ordinary files."""

import csv
import hashlib
import io
import json
import logging
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medseg.data.cases import Case
from medseg.data.sources.folder import read_manifest
from medseg.errors import ConfigError
from medseg.rng import generator

if TYPE_CHECKING:
    from medseg.data.phantom.simulate import Picture

_Row = dict[str, str]
LOG = logging.getLogger(__name__)
SIMULATOR_VERSION = 2
"""Part of the folder's name: raise it with every change that changes a pixel."""

FOLDS = 5
_SMALLEST_SIDE = 96
_README = """SYNTHETIC ultrasound. No patient was ever imaged for these files.

Simulated thyroid B-mode pictures with exact nodule outlines, written by medseg's phantom (version {version}).
Parameters: {parameters}

images/  exported screens, 8-bit grey PNG
masks/   nodule outlines, 0 and 255
manifest.csv  one row a picture; `group` is the simulated patient, `fold` is patient-disjoint
"""


@dataclass(frozen=True)
class _Recipe:
    """Everything the files depend on."""

    seed: int
    patients: int
    images_per_patient: int
    size: tuple[int, ...]
    scanners: tuple[str, ...]
    empty_fraction: float
    maps: bool

    @property
    def folder(self) -> str:
        text = json.dumps({"version": SIMULATOR_VERSION, **asdict(self)}, sort_keys=True)
        return f"phantom-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def phantom(
    root: str | Path,
    *,
    seed: int = 0,
    patients: int = 120,
    images_per_patient: int = 3,
    size: Sequence[int] = (360, 340),
    scanners: Sequence[str] = ("linear_a", "linear_b"),
    empty_fraction: float = 0.0,
    maps: bool = False,
) -> list[Case]:
    """Return the cases of a simulated dataset, which is generated on first use.

    The files go to ``root/phantom-<hash of the parameters and the simulator's version>``. That folder appears in one
    step when it is complete; processes that ask for it at the same time wait for the one that writes it. Equal
    parameters give equal files (equal pixels always, equal bytes with equal versions of Pillow).

    Args:
        root: cache folder.
        seed: seed of all patients and images.
        patients: number of patients; those with even and odd numbers and so on take turns among ``scanners``.
        images_per_patient: views of the same anatomy.
        size: (rows, columns) of each picture.
        scanners: presets in use (see ``medseg.data.phantom.scanner``); a case's domain is its scanner.
        empty_fraction: chance that a picture shows no nodule.
        maps: also write ``gland/`` and ``cyst/`` and name them in the manifest columns of these names.

    Raises:
        ConfigError: a parameter is out of range.
    """
    recipe = _Recipe(seed, patients, images_per_patient, tuple(size), tuple(scanners), empty_fraction, maps)
    _check(recipe)
    folder = Path(root) / recipe.folder
    if not (folder / "manifest.csv").is_file():
        _generate_once(folder, recipe)
    return read_manifest(folder)


def _check(recipe: _Recipe) -> None:
    from medseg.data.phantom.scanner import scanner_named

    for name, value, least in (
        ("patients", recipe.patients, FOLDS),
        ("images_per_patient", recipe.images_per_patient, 1),
    ):
        if value < least:
            raise ConfigError(f"data.source.{name}={value} is too few; use {least} or more.")
    if len(recipe.size) != 2 or min(recipe.size) < _SMALLEST_SIDE:
        raise ConfigError(
            f"data.source.size={list(recipe.size)} cannot hold a scan; give [rows, columns], {_SMALLEST_SIDE} or more."
        )
    if not 0 <= recipe.empty_fraction < 1:
        raise ConfigError(f"data.source.empty_fraction={recipe.empty_fraction} is no share; use 0 or more and below 1.")
    if not recipe.scanners:
        raise ConfigError("data.source.scanners is empty; name at least one scanner, for instance linear_a.")
    for name in recipe.scanners:
        scanner_named(name)


def _generate_once(folder: Path, recipe: _Recipe) -> None:
    from filelock import FileLock

    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if (folder / "manifest.csv").is_file():
            return
        for dead in folder.parent.glob(f".{folder.name}.partial-*"):
            shutil.rmtree(dead)  # we hold the lock, so whoever wrote it was killed
        partial = folder.with_name(f".{folder.name}.partial-{os.getpid()}")
        try:
            _write(partial, recipe)
            shutil.rmtree(folder, ignore_errors=True)  # a folder that lost its manifest
            os.replace(partial, folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _write(folder: Path, recipe: _Recipe) -> None:
    LOG.info("simulating %d ultrasound images into %s", recipe.patients * recipe.images_per_patient, folder.parent)
    kinds = ("images", "masks", "gland", "cyst") if recipe.maps else ("images", "masks")
    for kind in kinds:
        (folder / kind).mkdir(parents=True)
    folds = _folds(recipe)
    jobs = [(patient, image) for patient in range(recipe.patients) for image in range(recipe.images_per_patient)]
    rows = _with_progress(lambda job: _write_case(folder, recipe, *job, fold=folds[job[0]]), jobs)
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    text = _README.format(version=SIMULATOR_VERSION, parameters=json.dumps(asdict(recipe)))
    (folder / "README.txt").write_text(text, encoding="utf-8")


def _with_progress(work: Callable[[tuple[int, int]], _Row], jobs: list[tuple[int, int]]) -> list[_Row]:
    """Return the results in order; NumPy and zlib release the interpreter, so threads share the load."""
    from rich.console import Console
    from rich.progress import track

    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        results = pool.map(work, jobs)
        shown = track(results, "phantom", total=len(jobs), console=Console(stderr=True), transient=True)
        return list(shown)


def _folds(recipe: _Recipe) -> dict[int, int]:
    """Return the fold of each patient: dealt in turn within scanner and kind of nodule, in an order of the seed."""
    from medseg.data.phantom.simulate import patient_of

    order = generator(recipe.seed, "phantom", "folds").permutation(recipe.patients)
    scanners = len(recipe.scanners)

    def stratum(patient: int) -> tuple[int, str]:
        return patient % scanners, patient_of(recipe.seed, patient).nodules[0].kind

    dealt = sorted((int(patient) for patient in order), key=stratum)
    return {patient: place % FOLDS for place, patient in enumerate(dealt)}


def _write_case(folder: Path, recipe: _Recipe, patient: int, image: int, *, fold: int) -> _Row:
    from medseg.data.phantom.scanner import scanner_named
    from medseg.data.phantom.simulate import simulate

    scanner = scanner_named(recipe.scanners[patient % len(recipe.scanners)])
    rows, columns = recipe.size
    picture = simulate(
        recipe.seed,
        patient=patient,
        image=image,
        scanner=scanner,
        size=(rows, columns),
        empty_fraction=recipe.empty_fraction,
    )
    name = f"p{patient:04d}_{image}"
    row = {
        "id": name,
        "image": f"images/{name}.png",
        "mask": f"masks/{name}.png",
        "group": f"p{patient:04d}",
        "fold": str(fold),
        "domain": scanner.name,
        "scanner": scanner.name,
        **_description(picture, recipe),
        "sha256_image": _save(folder / f"images/{name}.png", picture.image),
        "sha256_mask": _save(folder / f"masks/{name}.png", picture.nodule),
    }
    if recipe.maps:
        for kind, pixels in (("gland", picture.gland), ("cyst", picture.cyst)):
            row[kind] = f"{kind}/{name}.png"
            _save(folder / row[kind], pixels)
    return row


def _description(picture: "Picture", recipe: _Recipe) -> dict[str, str]:
    kinds = "+".join(nodule.kind for nodule in picture.view.nodules)
    return {
        "view": "longitudinal" if picture.view.longitudinal else "transverse",
        "nodule_type": kinds or "none",
        "width": str(recipe.size[1]),
        "height": str(recipe.size[0]),
        "fg_fraction": f"{(picture.nodule > 0).mean():.4f}",
    }


def _save(path: Path, pixels: np.ndarray) -> str:
    """Write a grey PNG and return the SHA-256 of its bytes."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG", compress_level=3)
    path.write_bytes(stream.getvalue())
    return hashlib.sha256(stream.getvalue()).hexdigest()
