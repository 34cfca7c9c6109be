"""Nested cross-validation: an outer fold that only judges, inner folds of the rest that choose."""

from collections.abc import Sequence

from medseg.data.cases import Case
from medseg.data.groups import Group, deal, patient_groups
from medseg.data.splits import Split, checked_split
from medseg.errors import ConfigError
from medseg.rng import derive


def nested_kfold(
    cases: Sequence[Case], *, seed: int, folds: int = 5, fold: int = 0, inner_folds: int = 4, inner_fold: int = 0
) -> tuple[list[Case], Split]:
    """Return outer fold ``fold`` as test and inner fold ``inner_fold`` of everything else as val.

    The outer folds are those of ``medseg.data.splits.kfold`` with the same seed and number. The val sides of all inner
    folds of one outer fold partition what is not test, so a mean of the inner validation scores chooses a setting
    without a look at the outer fold (Varma and Simon, BMC Bioinformatics 7:91, 2006), and the inner models, none of
    which has seen the outer fold, may judge it as an ensemble.

    Raises:
        ConfigError: a fold is not in 0 .. folds-1, or fewer than two folds.
        DataError: fewer patients than folds.
    """
    for name, number, count in (("fold", fold, folds), ("inner_fold", inner_fold, inner_folds)):
        if count < 2 or not 0 <= number < count:
            raise ConfigError(f"split.{name}={number} of {count}: take 0 <= {name} < {name}s and {name}s >= 2.")
    outer = _dealt(patient_groups(cases), folds, derive(seed, "kfold"))
    rest = [group for number, groups in enumerate(outer) if number != fold for group in groups]
    inner = _dealt(rest, inner_folds, derive(seed, "nested inner", fold))
    train = [group for number, groups in enumerate(inner) if number != inner_fold for group in groups]
    name = f"nested{fold}of{folds}-{inner_fold}of{inner_folds}"
    return list(cases), checked_split(name, seed, {"train": train, "val": inner[inner_fold], "test": outer[fold]})


def _dealt(groups: Sequence[Group], folds: int, seed: int) -> list[list[Group]]:
    """Return the groups of each fold."""
    return list(deal(groups, fractions={str(number): 1.0 for number in range(folds)}, seed=seed).values())
