"""Splits: which case serves which side, written as a file and never recomputed silently.

A splitter is called with the case list and returns ``(cases, Split)``; only the twin protocols change the list. All
divide by patient but ``twins_leaky``, which says so.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medseg.data.cases import Case, by_id
from medseg.data.groups import Group, deal, largest_remainder, patient_groups
from medseg.data.twins import SUFFIX, add_twins, original_id
from medseg.errors import ConfigError, DataError
from medseg.rng import derive, generator
from medseg.selection import ROLES

SIDES = ("train", "val", "test")


@dataclass(frozen=True)
class Split:
    """Case ids of each side.

    Attributes:
        name: the protocol.
        seed: what fixed the draw.
        leaky: whether pictures of one patient are on two sides; every output says so.
        sides: "train", "val" and "test" to sorted case ids; val may be empty.
    """

    name: str
    seed: int
    leaky: bool
    sides: dict[str, tuple[str, ...]]

    @property
    def hash(self) -> str:
        """SHA-256 (hex) of the sides and the leak flag: equal for equal divisions, whatever drew them."""
        content = {"leaky": self.leaky, "sides": {side: sorted(self.sides[side]) for side in SIDES}}
        return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def write(self, path: Path) -> None:
        """Write the split as JSON, with its hash and what each side is for; the roles are no part of the hash."""
        content = {
            "name": self.name,
            "seed": self.seed,
            "leaky": self.leaky,
            "hash": self.hash,
            "roles": ROLES,
            "sides": self.sides,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_split(path: Path) -> Split:
    """Return the split in a JSON file.

    Raises:
        DataError: the file is missing, is no split, or was edited since its hash was written.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        sides = {side: tuple(str(identifier) for identifier in content["sides"][side]) for side in SIDES}
        split = Split(str(content["name"]), int(content["seed"]), bool(content["leaky"]), sides)
    except FileNotFoundError:
        raise DataError(f"{path}: split file is missing; name an existing one with split.path=FILE.") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not a split file ({error!r}); write one with Split.write.") from None
    if content.get("roles", ROLES) != ROLES:  # files written before there were roles have none
        raise DataError(f"{path}: roles are {content['roles']}, but sides serve as {ROLES}; move cases, not roles.")
    if content.get("hash", split.hash) != split.hash:
        raise DataError(
            f"{path}: sides do not match the stored hash; restore the file, or delete 'hash' to accept them."
        )
    return split


def ratio(
    cases: Sequence[Case], *, seed: int, fractions: Sequence[float] = (0.7, 0.1, 0.2)
) -> tuple[list[Case], Split]:
    """Return a hold-out split by patient, stratified by foreground size.

    Args:
        cases: the dataset.
        seed: fixes the draw.
        fractions: shares of train, val and test; a share of 0 leaves the side empty.

    Raises:
        ConfigError: not three shares that sum to 1, or no train or test share.
        DataError: too few patients.
    """
    dealt = deal(patient_groups(cases), fractions=_shares(fractions), seed=derive(seed, "ratio"))
    return list(cases), checked_split("ratio", seed, dealt)


def kfold(
    cases: Sequence[Case], *, seed: int, folds: int = 5, fold: int = 0, val_fraction: float = 0.15
) -> tuple[list[Case], Split]:
    """Return fold ``fold`` of ``folds`` as test; val is drawn from the other folds.

    The folds depend on the seed alone: the test sides of all ``fold`` values partition the dataset.

    Raises:
        ConfigError: ``fold`` is not in 0 .. folds-1, folds < 2 or ``val_fraction`` not in [0, 1).
        DataError: fewer patients than folds.
    """
    if folds < 2 or not 0 <= fold < folds:
        raise ConfigError(f"split.fold={fold} with split.folds={folds}: take 0 <= fold < folds and folds >= 2.")
    shares = {str(number): 1.0 for number in range(folds)}
    dealt = deal(patient_groups(cases), fractions=shares, seed=derive(seed, "kfold"))
    rest = [group for number, groups in dealt.items() if number != str(fold) for group in groups]
    sides = _take_val(rest, val_fraction, derive(seed, "kfold val", fold))
    return list(cases), checked_split(f"kfold{fold}of{folds}", seed, {**sides, "test": dealt[str(fold)]})


def manifest_fold(
    cases: Sequence[Case], *, seed: int, test_fold: int | str = 0, val_fraction: float = 0.15
) -> tuple[list[Case], Split]:
    """Return the publisher's fold ``test_fold`` as test and all other folds as train and val.

    Raises:
        ConfigError: ``val_fraction`` is not in [0, 1).
        DataError: a case has no fold, the fold does not exist or is the only one, or a patient is in two folds.
    """
    folds = sorted({case.fold for case in cases})
    if "" in folds:
        raise DataError(
            f"split manifest_fold: case '{_first(cases, '')}' has no fold; fill the column or use split=ratio."
        )
    if str(test_fold) not in folds or len(folds) < 2:
        raise DataError(
            f"split.test_fold={test_fold}: the manifest's folds are {', '.join(folds)}; name one of several."
        )
    groups = patient_groups(cases)
    test_ids = {case.id for case in cases if case.fold == str(test_fold)}
    test = [group for group in groups if test_ids.intersection(group.ids)]
    for group in test:
        if not test_ids.issuperset(group.ids):
            raise DataError(
                f"patient '{group.patient}' is in fold {test_fold} and in another; repair the manifest's folds."
            )
    rest = [group for group in groups if test_ids.isdisjoint(group.ids)]
    sides = _take_val(rest, val_fraction, derive(seed, "manifest_fold val", str(test_fold)))
    return list(cases), checked_split(f"manifest_fold{test_fold}", seed, {**sides, "test": test})


def official(
    cases: Sequence[Case], *, seed: int, column: str = "split", val_fraction: float = 0.15
) -> tuple[list[Case], Split]:
    """Return the publisher's own sides from a manifest column with the values train, test and perhaps val.

    Without published val cases, val is drawn by patient from train. If the publisher cut a patient in two, the split
    is flagged leaky.

    Raises:
        ConfigError: ``val_fraction`` is not in [0, 1).
        DataError: a case has another value, or train or test is empty.
    """
    sides: dict[str, list[Case]] = {side: [] for side in SIDES}
    for case in cases:
        side = case.attributes.get(column, "")
        if side not in SIDES:
            raise DataError(f"case '{case.id}': column '{column}' holds '{side}', not train, val or test; repair it.")
        sides[side].append(case)
    dealt = {side: patient_groups(found) if found else [] for side, found in sides.items()}
    if not dealt["val"]:
        dealt.update(_take_val(dealt["train"], val_fraction, derive(seed, "official val")))
    return list(cases), checked_split("official", seed, dealt)


def from_file(cases: Sequence[Case], *, path: str | Path) -> tuple[list[Case], Split]:
    """Return a written split after checking that it names exactly these cases; twins it names are made anew.

    Raises:
        DataError: the file is no split, names unknown cases, leaves cases out or names one twice.
    """
    split = read_split(Path(path))
    named = [identifier for side in SIDES for identifier in split.sides[side]]
    if any(identifier.endswith(SUFFIX) for identifier in named):
        cases = add_twins(cases, seed=split.seed)
    known = by_id(cases)
    strange = sorted(set(named) ^ set(known))
    if strange or len(named) != len(known):
        first = strange[0] if strange else max(named, key=named.count)
        raise DataError(
            f"{path}: does not name each case exactly once (first difference: '{first}'); use its own dataset."
        )
    patients = [{known[identifier].patient for identifier in split.sides[side]} for side in SIDES]
    if not split.leaky and _overlap(patients):
        raise DataError(f"{path}: a patient is on two sides but the file says leaky=false; divide by patient.")
    return list(cases), split


def test_only(cases: Sequence[Case]) -> tuple[list[Case], Split]:
    """Return every case on the test side: a dataset that only judges what was trained elsewhere."""
    return list(cases), Split(
        "test_only", 0, False, _sorted({"train": [], "val": [], "test": [case.id for case in cases]})
    )


def twins_leaky(
    cases: Sequence[Case], *, seed: int, fractions: Sequence[float] = (0.7, 0.2, 0.1)
) -> tuple[list[Case], Split]:
    """Return the doubled dataset shuffled picture by picture: about nine in ten test pictures have a twin elsewhere.

    That the 2022 preprint shuffled single pictures is our reading; it states only the ratio 7:2:1.

    Raises:
        ConfigError: ``fractions`` are not three shares that sum to 1.
    """
    shares = _shares(fractions)
    doubled = add_twins(cases, seed=seed)
    ids = list(by_id(doubled))
    order = [ids[place] for place in generator(seed, "twins_leaky").permutation(len(ids))]
    counts = largest_remainder(len(ids), weights=shares)
    ends = {"train": counts["train"], "val": counts["train"] + counts["val"]}
    sides = {"train": order[: ends["train"]], "val": order[ends["train"] : ends["val"]], "test": order[ends["val"] :]}
    return doubled, Split("twins_leaky", seed, True, _sorted(sides))


def twins_grouped(
    cases: Sequence[Case], *, seed: int, fractions: Sequence[float] = (0.7, 0.2, 0.1)
) -> tuple[list[Case], Split]:
    """Return the doubled dataset divided by patient: every twin stays beside its original.

    Raises:
        ConfigError: ``fractions`` are not three shares that sum to 1.
        DataError: too few patients.
    """
    dealt = deal(patient_groups(cases), fractions=_shares(fractions), seed=derive(seed, "twins_grouped"))
    side_of = {identifier: side for side, groups in dealt.items() for group in groups for identifier in group.ids}
    doubled = add_twins(cases, seed=seed)
    sides = {side: [case.id for case in doubled if side_of[original_id(case)] == side] for side in SIDES}
    return doubled, Split("twins_grouped", seed, False, _sorted(sides))


def _first(cases: Sequence[Case], fold: str) -> str:
    return min(case.id for case in cases if case.fold == fold)


def _shares(fractions: Sequence[float]) -> dict[str, float]:
    shares = [float(share) for share in fractions]
    if len(shares) != 3 or min(shares) < 0 or abs(sum(shares) - 1) > 1e-6 or 0 in (shares[0], shares[2]):
        raise ConfigError(
            f"split.fractions={shares}: give the shares of train, val and test; they sum to 1 and only val may be 0."
        )
    return dict(zip(SIDES, shares, strict=True))


def _take_val(groups: list[Group], fraction: float, seed: int) -> dict[str, list[Group]]:
    if not 0 <= fraction < 1:
        raise ConfigError(f"split.val_fraction={fraction}: give a share of the non-test cases in [0, 1).")
    return deal(groups, fractions={"train": 1 - fraction, "val": fraction}, seed=seed)


def checked_split(name: str, seed: int, dealt: Mapping[str, list[Group]]) -> Split:
    """Return the split of dealt patients, flagged leaky where a patient is on two sides.

    Raises:
        DataError: train or test is empty.
    """
    for side in ("train", "test"):
        if not dealt[side]:
            raise DataError(f"split {name}: side '{side}' has no case; check the manifest or use another split.")
    patients = [{group.patient for group in dealt[side]} for side in SIDES]
    sides = {side: [identifier for group in dealt[side] for identifier in group.ids] for side in SIDES}
    return Split(name, seed, _overlap(patients), _sorted(sides))


def _overlap(patients: Sequence[set[str]]) -> bool:
    return sum(len(found) for found in patients) > len(set().union(*patients))


def _sorted(sides: Mapping[str, Iterable[str]]) -> dict[str, tuple[str, ...]]:
    return {side: tuple(sorted(sides[side])) for side in SIDES}
