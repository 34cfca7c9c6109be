"""Results by kind of case: size of the structure, number of lesions, scanner or site, any attribute of the manifest.

Strata are made within each foreground class, since sizes of different structures say nothing about each other. Nothing
is tested between strata: the intervals say how far each is known.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from medseg import scores
from medseg.errors import ScoreError
from medseg.stats.bootstrap import Interval, mean_interval
from medseg.stats.case_table import CASE_COLUMNS

SIZE, LESIONS, DOMAIN = "size", "lesions", "domain"
NOT_STATED, EMPTY = "not stated", "empty reference"
FEWEST, MOST = 2, 12
"""Number of different stated values with which an attribute divides cases by itself; asked for, it may have more."""
TECHNICAL = re.compile(
    r"(orig_)?(width|height)|shape|spacing|dtype|vmax|(lesion_)?vox\d*|fg_fraction|labelled_slices|annotated|split|fold|source_file"
    r"|(sha256|hash|md5).*"
)
"""Attributes that say how a file is stored or used, not what it shows; divided by only if asked for."""


@dataclass(frozen=True)
class Stratum:
    """The results of one class in one kind of case.

    Attributes:
        by: what divides: ``size``, ``lesions``, ``domain`` or an attribute.
        class_name: the foreground class.
        name: of the stratum.
        n_cases: cases in it.
        n_patients: their patients.
        dice: mean Dice over its cases where defined, with its interval over patients; None if nowhere defined.
        hd95: mean ``hd95_directed_voxel``, the diagonal where exactly one mask is empty; NaN if not measured.
        n_penalised: cases in which the diagonal was taken.
        missed_rate: share of the non-empty references with an empty prediction; NaN without such a reference.
        missed_lesions: share of all reference lesions that were not detected; NaN without a lesion or a count.
        n_undefined: cases without a labelled pixel, left out of Dice.
        n_empty_reference: cases without the structure; their Dice is 1 if none was found and 0 otherwise.
    """

    by: str
    class_name: str
    name: str
    n_cases: int
    n_patients: int
    dice: Interval | None
    hd95: float
    n_penalised: int
    missed_rate: float
    missed_lesions: float
    n_undefined: int
    n_empty_reference: int

    @property
    def reliable(self) -> bool:
        """Whether it has patients enough for its interval."""
        return self.dice is not None and self.dice.reliable


def dividing_columns(cases: pd.DataFrame | None, frame: pd.DataFrame) -> tuple[str, ...]:
    """Return what divides the cases by itself: size, lesions where counted, domains, attributes with 2 to 12 values.

    Args:
        cases: the case table, None where there is none.
        frame: the score table.
    """
    always = (SIZE,) if frame["reference_lesions"].isna().all() else (SIZE, LESIONS)
    domains = (DOMAIN,) if frame["domain"].nunique() > 1 else ()
    if cases is None:
        return (*always, *domains)
    scored = cases[cases["case"].isin(frame["case"])]
    found = []
    for name in [column for column in cases.columns if column not in CASE_COLUMNS]:
        stated = {text for text in scored[name] if text}
        if FEWEST <= len(stated) <= MOST and not TECHNICAL.fullmatch(name):
            found.append(name)
    return (*always, *domains, *found)


def stratum_names(
    frame: pd.DataFrame, *, by: str, cases: pd.DataFrame | None = None, thresholds: Sequence[float] = ()
) -> pd.Series:
    """Return the name of the stratum of every row of a score table, under the index of the table.

    Args:
        frame: a score table of one run.
        by: ``size`` (quartiles of the non-empty references of a class, or ``thresholds``), ``lesions`` (single,
            multiple), ``domain``, or a column of ``cases``.
        cases: the case table.
        thresholds: sizes in pixels or voxels that divide instead of the quartiles, increasing.

    Raises:
        ScoreError: there is no such column, or thresholds are not increasing numbers above 0.
    """
    if any(low >= high for low, high in zip((0, *thresholds), thresholds, strict=False)):
        raise ScoreError(f"strata: size thresholds {list(thresholds)} must increase and be above 0.")
    parts = [_named(rows, by, cases, thresholds) for _, rows in frame.groupby("class_index", sort=True)]
    return pd.concat(parts).reindex(frame.index)


def strata(
    frame: pd.DataFrame,
    *,
    by: str,
    cases: pd.DataFrame | None = None,
    thresholds: Sequence[float] = (),
    seed: int = 0,
    resamples: int = 10_000,
) -> list[Stratum]:
    """Return the results of each class in each stratum, in order of the classes, then of the strata.

    Args:
        frame: a score table of one run.
        by: as in :func:`stratum_names`.
        cases: the case table.
        thresholds: as in :func:`stratum_names`.
        seed: root seed of the bootstrap.
        resamples: bootstrap samples of each interval.

    Raises:
        ScoreError: as in :func:`stratum_names`.
    """
    names = stratum_names(frame, by=by, cases=cases, thresholds=thresholds)
    found = []
    for _, rows in frame.groupby("class_index", sort=True):
        mine = names.loc[rows.index]
        for name in sorted(mine.unique(), key=_order):
            found.append(_stratum(rows[mine == name], by=by, name=name, seed=seed, resamples=resamples))
    return found


def _named(rows: pd.DataFrame, by: str, cases: pd.DataFrame | None, thresholds: Sequence[float]) -> pd.Series:
    if by == SIZE:
        return _size_names(rows, thresholds)
    if by == LESIONS:
        count = rows["reference_lesions"].to_numpy(dtype=np.float64)
        names = np.select([np.isnan(count), count == 0, count == 1], [NOT_STATED, EMPTY, "single"], "multiple")
        return pd.Series(names, index=rows.index, dtype=object)
    if by == DOMAIN:
        return rows["domain"].astype(object).replace("", NOT_STATED)
    if cases is None or by not in cases.columns or by in CASE_COLUMNS:
        columns = [] if cases is None else [name for name in cases.columns if name not in CASE_COLUMNS]
        raise ScoreError(
            f"strata: '{by}' divides nothing here; choose from {', '.join([SIZE, LESIONS, DOMAIN, *columns])}."
        )
    stated = dict(zip(cases["case"], cases[by], strict=True))
    return rows["case"].map(lambda case: stated.get(case) or NOT_STATED).astype(object)


def _size_names(rows: pd.DataFrame, thresholds: Sequence[float]) -> pd.Series:
    sizes = rows["reference_size"]
    present = sizes[sizes > 0]
    names = pd.Series(EMPTY, index=rows.index, dtype=object)
    if present.empty:
        return names
    if thresholds:
        place = np.searchsorted(np.asarray(thresholds), present.to_numpy(), side="right")
        names[present.index] = [_between(thresholds, number) for number in place]
        return names
    edges = np.quantile(present.to_numpy(), [0.25, 0.5, 0.75])
    quarter = pd.Series(np.searchsorted(edges, present.to_numpy(), side="left"), index=present.index)
    for number, part in present.groupby(quarter):
        names[part.index] = f"Q{int(number) + 1} ({part.min()} to {part.max()})"  # type: ignore[call-overload]
    return names


def _between(thresholds: Sequence[float], number: int) -> str:
    if number == 0:
        return f"< {thresholds[0]:g}"
    if number == len(thresholds):
        return f">= {thresholds[-1]:g}"
    return f"{thresholds[number - 1]:g} to < {thresholds[number]:g}"


def _order(name: str) -> tuple[bool, bool, int, list[tuple[int, float, str]]]:
    """Return a key that puts 9 before 10, "< 5" first, "multiple" after "single", and what is not known last."""
    parts = re.findall(r"\d+(?:\.\d+)?|\D+", name)
    pieces = [(0, float(part), "") if part[0].isdigit() else (1, 0.0, part) for part in parts]
    first = {"<": 0, ">": 2}.get(name[:1], 1)
    return name == NOT_STATED, name == EMPTY, 2 if name == "multiple" else first, pieces


def _stratum(rows: pd.DataFrame, *, by: str, name: str, seed: int, resamples: int) -> Stratum:
    defined = rows[rows["dice"].notna()]
    dice = None
    if len(defined):
        dice = mean_interval(
            defined["dice"].to_numpy(), defined["patient"].to_numpy(dtype=str), seed=seed, resamples=resamples
        )
    raw = rows["hd95_directed_voxel"].to_numpy(dtype=np.float64)
    present = rows[rows["reference_size"] > 0]
    lesions = float(rows["reference_lesions"].sum())  # 0 where they were not counted
    missed = lesions - float(rows["detected_lesions"].sum())
    return Stratum(
        by=by,
        class_name=str(rows["class_name"].iloc[0]),
        name=name,
        n_cases=len(rows),
        n_patients=int(rows["patient"].nunique()),
        dice=dice,
        hd95=scores.mean_of_defined(scores.penalised(raw, rows["diagonal"].to_numpy())),
        n_penalised=int(np.isposinf(raw).sum()),
        missed_rate=float((present["prediction_size"] == 0).mean()) if len(present) else float("nan"),
        missed_lesions=missed / lesions if lesions else float("nan"),
        n_undefined=len(rows) - len(defined),
        n_empty_reference=int((defined["reference_size"] == 0).sum()),
    )
