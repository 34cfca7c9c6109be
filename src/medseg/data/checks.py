"""What must hold of a list of cases before anything is trained on it."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from medseg.data.cases import Case
from medseg.data.files import read_case
from medseg.errors import DataError


def check_list(cases: Sequence[Case], *, name: str) -> None:
    """Check the list without decoding a file: not empty, ids unique, patients known, every file there.

    Raises:
        DataError: one line with the first problem and how many more there are.
    """
    if not cases:
        raise DataError(f"dataset '{name}' has no cases; check data.source.root and the manifest's rows.")
    raise_first(list(_list_problems(cases)), name)


def check_cases(
    cases: Sequence[Case], *, labels: Mapping[int, int], channels: int, threshold: int = 127, name: str = "data"
) -> None:
    """Check the list and decode every file: readable to the end, sizes equal, mask values declared.

    Args:
        cases: the dataset as its source lists it (twins share files and need no check).
        labels: value in the mask file to class index.
        channels: image channels.
        threshold: grey level that separates the classes of JPEG masks.
        name: the dataset's name for the message.

    Raises:
        DataError: one line with the first problem in order of the list and how many more there are.
    """
    check_list(cases, name=name)

    def problem(case: Case) -> str | None:
        try:
            read_case(case, channels=channels, labels=labels, threshold=threshold)
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
