"""Stored predictions read once more as published evaluation scripts would; beside the score table, never in it."""

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from medseg.data.cases import Case
from medseg.data.datamodule import SegmentationData
from medseg.errors import ConfigError, ScoreError
from medseg.metrics.legacy import seed004, seed004_table, trfe, trfe_means
from medseg.whole import whole_file

CONTRACT = "contract"
"""The project's own definitions, which make ``scores.csv``."""

REMARK = "as the published protocol would print it"

_SCRIPTS: Mapping[str, tuple[Callable[..., Any], Callable[[Sequence[Any]], dict[str, float]]]] = {
    "trfe": (trfe, trfe_means),
    "seed004": (seed004, seed004_table),
}
PROTOCOLS = (CONTRACT, *_SCRIPTS)


def check_protocol(protocol: str) -> None:
    """Raise unless a protocol is known.

    Raises:
        ConfigError: it is not.
    """
    if protocol not in PROTOCOLS:
        raise ConfigError(f"protocol='{protocol}' is unknown; choose one of {', '.join(PROTOCOLS)}.")


def legacy_numbers(
    data: SegmentationData, cases: Sequence[Case], predictions: Path, *, protocol: str
) -> dict[str, float]:
    """Return what a published script would have printed for label maps that were written before.

    Args:
        data: reads truths and predictions.
        cases: in order.
        predictions: folder with a native label map of each.
        protocol: ``trfe`` (the first foreground class against the rest) or ``seed004`` (all foreground as one).

    Raises:
        ScoreError: a case that the script could not score, or data with several foreground classes.
    """
    if data.card.num_classes > 2:
        raise ScoreError(
            f"protocol={protocol} scores one nodule class, data '{data.card.name}' has {data.card.num_classes - 1} "
            "foreground classes; use protocol=contract."
        )
    of_image, of_all = _SCRIPTS[protocol]
    images = []
    for case in cases:
        _, truth = data.read(case)
        try:
            images.append(of_image(data.load_prediction(predictions, case.id), truth))
        except ScoreError as error:
            raise ScoreError(f"case '{case.id}', protocol={protocol}: {error}") from error
    return of_all(images)


def write_legacy(values: Mapping[str, float], path: Path, *, protocol: str) -> None:
    """Write the numbers, whole or not at all, each with the remark that it is not the project's own."""
    with whole_file(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("protocol", "score", "value", "remark"))
        writer.writerows((protocol, name, value, REMARK) for name, value in values.items())
