"""Stanford thyroid ultrasound cine-clips: 192 nodules of 167 patients, every frame outlined (AIMI, 2021).

Layout as described by public loaders, not verified against the archive: ``dataset.hdf5`` with the equally long arrays
``image`` (N, H, W) uint8, ``mask`` (N, H, W) uint8 of 0 and 255, ``annot_id`` and ``frame_num`` (byte strings), and
``metadata.csv`` with one row for each ``annot_id``. An ``annot_id`` is PATIENT_NODULE (``103_`` where the patient has
one nodule); what stands before its first underscore is the group. Were it not the patient, the groups would still never
be finer than the nodule.
"""

import importlib
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from medseg.data.prepare.layout import Layout
from medseg.data.prepare.official import find_file, maybe_file, natural, read_rows
from medseg.errors import ConfigError, DataError

NAME = "Stanford cine-clips"
ARRAYS = ("image", "mask", "annot_id", "frame_num")
FACTS = ("age", "sex", "location", "ti-rads_level", "histopath_diagnosis")


def prepare(source: Path, layout: Layout, *, every: int = 10) -> None:
    """Add every n-th frame of each clip with its mask.

    Columns: ``clip`` (the annot_id), ``frame``, and age, sex, location, TI-RADS level and diagnosis from the table.

    Args:
        source: folder with ``dataset.hdf5`` and ``metadata.csv``.
        layout: receives the cases.
        every: 1 takes all 17 412 frames; neighbours differ little, so 10 loses little.

    Raises:
        ConfigError: ``every`` is below 1.
        DataError: h5py is not installed, a file or array is missing, or the arrays' lengths differ.
    """
    if every < 1:
        raise ConfigError(f"every={every}: take every n-th frame with n >= 1.")
    path = find_file(source, "dataset.hdf5", dataset=NAME)
    facts = _facts(source)
    with _open(path) as store:
        chosen = _chosen(store, path, every)
        layout.note(
            f"Stanford cine-clips: every {every}. frame is kept; frames of one clip are near copies, the group is the "
            "patient part of annot_id.",
        )
        layout.expect(len(chosen))
        for row, clip, frame in chosen:
            layout.add(
                id=f"stanford_{clip.strip('_')}_{frame:04d}",
                images=[np.asarray(store["image"][row], np.uint8)],
                masks=[np.asarray(store["mask"][row]) > 127],
                group=f"patient{clip.partition('_')[0]}",
                clip=clip,
                frame=frame,
                **facts.get(clip, {}),
            )


def _open(path: Path) -> Any:
    try:
        h5py = importlib.import_module("h5py")
    except ModuleNotFoundError:
        raise DataError(f"{path}: reading HDF5 needs h5py; install it with: pip install h5py.") from None
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise DataError(f"{path}: not readable as HDF5 ({error}); download it again.") from None


def _chosen(store: Any, path: Path, every: int) -> list[tuple[int, str, int]]:
    """Return (row, clip, frame number) of the frames to keep, by clip and frame."""
    absent = [name for name in ARRAYS if name not in store]
    if absent:
        raise DataError(f"{path}: {NAME} has the arrays {', '.join(ARRAYS)}; {', '.join(absent)} missing here.")
    lengths = {name: len(store[name]) for name in ARRAYS}
    if len(set(lengths.values())) != 1:
        raise DataError(f"{path}: the arrays differ in length ({lengths}); the file is cut short, download it again.")
    clips: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for row, (clip, frame) in enumerate(zip(store["annot_id"][:], store["frame_num"][:], strict=True)):
        clips[_text(clip)].append((int(_text(frame)), row))
    return [(row, clip, frame) for clip in sorted(clips, key=natural) for frame, row in sorted(clips[clip])[::every]]


def _text(value: Any) -> str:
    return value.decode("utf-8").strip() if isinstance(value, bytes) else str(value).strip()


def _facts(source: Path) -> dict[str, dict[str, Any]]:
    path = maybe_file(source, "metadata.csv")
    if path is None:
        return {}
    return {
        row["annot_id"]: {name.replace("-", "_"): row.get(name, "") for name in FACTS}
        for row in read_rows(path, "annot_id")
    }
