"""What must hold of settings and of a list of cases before anything is trained on them."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from medseg.data.cases import Case, annotated_classes
from medseg.data.files import read_case
from medseg.data.preprocess import Preprocess
from medseg.errors import ConfigError, DataError
from medseg.types import IGNORE, DataCard

if TYPE_CHECKING:
    from medseg.data.volumes.preprocess import VolumePreprocess


def check_settings(card: DataCard, *, preprocess: "Preprocess | VolumePreprocess", labels: Mapping[int, int]) -> None:
    """Check that preprocessing and labels fit the card, before a file is read.

    Raises:
        ConfigError: pictures are preprocessed as volumes or the reverse, or a mask value means an unknown class.
    """
    is_volume = card.spatial_dims == 3
    if is_volume == isinstance(preprocess, Preprocess):
        wanted = "medseg.data.volumes.preprocess.VolumePreprocess" if is_volume else "the group preprocess"
        raise ConfigError(
            f"data.preprocess of '{card.name}' is {type(preprocess).__name__}, data.card.spatial_dims="
            f"{card.spatial_dims} needs {wanted}."
        )
    strange = [index for index in labels.values() if index not in {*range(card.num_classes), IGNORE}]
    if strange:
        raise ConfigError(
            f"data.labels of '{card.name}' names class {strange[0]}; there are 0 to {card.num_classes - 1}, and "
            f"{IGNORE} for pixels without a label."
        )


def check_list(cases: Sequence[Case], *, name: str) -> None:
    """Check the list without decoding a file: not empty, ids unique, patients known, every file there.

    Raises:
        DataError: one line with the first problem and how many more there are.
    """
    if not cases:
        raise DataError(f"dataset '{name}' has no cases; check data.source.root and the manifest's rows.")
    raise_first(list(_list_problems(cases)), name)


def check_annotated(cases: Sequence[Case], *, classes: Sequence[str], name: str) -> None:
    """Check that the column ``annotated`` names classes of the dataset, without opening a file.

    Raises:
        DataError: one line with the first problem and how many more there are.
    """
    problems = []
    for case in cases:
        try:
            annotated_classes(case, classes=classes)
        except DataError as error:
            problems.append(str(error))
    raise_first(problems, name)


def check_labels(case: Case, mask: np.ndarray, *, classes: Sequence[str]) -> None:
    """Check that a mask holds no class that the case is said not to annotate; nothing is checked without classes.

    Args:
        case: the case.
        mask: its label map (*S).
        classes: K names, background first.

    Raises:
        DataError: it holds one.
    """
    if not classes:
        return
    for label, annotated in enumerate(annotated_classes(case, classes=classes)):
        if not annotated and (mask == label).any():
            raise DataError(
                f"case '{case.id}': its mask {case.masks[0]} holds class '{classes[label]}', which the manifest column "
                f"'annotated' ('{case.attributes['annotated']}') leaves out; name the class there, or repair the mask."
            )


def check_cases(
    cases: Sequence[Case],
    *,
    labels: Mapping[int, int],
    channels: int,
    threshold: int = 127,
    name: str = "data",
    classes: Sequence[str] = (),
) -> None:
    """Check the list and decode every file: readable to the end, sizes equal, mask values declared and annotated.

    Args:
        cases: the dataset as its source lists it (twins share files and need no check).
        labels: value in the mask file to class index.
        channels: image channels.
        threshold: grey level that separates the classes of JPEG masks.
        name: the dataset's name for the message.
        classes: K names, background first; without them the column ``annotated`` is not looked at.

    Raises:
        DataError: one line with the first problem in order of the list and how many more there are.
    """
    check_list(cases, name=name)

    def problem(case: Case) -> str | None:
        try:
            _, mask = read_case(case, channels=channels, labels=labels, threshold=threshold)
            check_labels(case, mask, classes=classes)
        except DataError as error:
            return str(error)
        return None

    with ThreadPoolExecutor(max_workers=4) as pool:
        raise_first([text for text in pool.map(problem, cases) if text is not None], name)


def _list_problems(cases: Sequence[Case]) -> Iterator[str]:
    seen: set[str] = set()
    for case in cases:
        if case.id in seen:
            yield f"case id '{case.id}' occurs more than once; give every row of the manifest an id of its own"
        seen.add(case.id)
        if case.id.startswith(".") or any(mark in case.id for mark in "/\\\0\n"):
            yield f"case id {case.id!r} cannot name a file; use letters, digits, '-', '_' and '.'"
        if not case.patient:
            yield f"case '{case.id}' has no group (patient); fill the manifest column 'group', or splits can leak"
        if not case.masks:
            yield f"case '{case.id}' ({case.images[0]}) has no mask; add one or take the case out"
        if not any(case.images):
            yield f"case '{case.id}' has no image at all; take its row out of the manifest"
        for path in case.files:
            if not path.exists():
                yield f"{path}: file of case '{case.id}' is missing; restore it or take its row out of the manifest"


def raise_first(problems: Sequence[str], name: str) -> None:
    """Raise the first problem with the number of further ones, if there is any.

    Raises:
        DataError: one line.
    """
    if not problems:
        return
    first = problems[0].rstrip(".")
    more = f" ({len(problems) - 1} more problem(s) in dataset '{name}')" if len(problems) > 1 else ""
    raise DataError(f"{first}.{more}")
