"""Listed, checked, divided and cached: a dataset that is ready for use."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medseg.data.cache import Reading, content_hashes, dataset_digest, open_cache
from medseg.data.cases import Case, by_id
from medseg.data.checks import check_annotated, check_list
from medseg.data.dataset import Store
from medseg.data.missing import Missing
from medseg.data.preprocess import Preprocess
from medseg.data.splits import Split
from medseg.types import DataCard

Source = Callable[[], list[Case]]
Splitter = Callable[[Sequence[Case]], tuple[list[Case], Split]]


@dataclass(frozen=True)
class Prepared:
    """A dataset that is ready for use.

    Attributes:
        split: which case serves which side.
        digest: SHA-256 (hex) of the dataset's ids, files and patients, the same for every split and recipe.
        cases: under their ids, in order of the ids; twins included.
        store: their pixels.
    """

    split: Split
    digest: str
    cases: Mapping[str, Case]
    store: Store

    def of(self, side: str) -> list[Case]:
        """Return the cases of ``train``, ``val`` or ``test``."""
        return [self.cases[identifier] for identifier in self.split.sides[side]]

    def leaky(self) -> "Prepared":
        """Return the same with the split flagged as leaky."""
        return replace(self, split=replace(self.split, leaky=True))


def prepare(
    source: Source,
    splitter: Splitter,
    *,
    card: DataCard,
    missing: Missing,
    reading: Reading,
    root: Path,
    limit_gb: float | None,
) -> Prepared:
    """List, check, divide and cache the cases; safe when several processes call it at once.

    Args:
        source: returns the cases.
        splitter: returns cases (twins included) and split.
        card: of the dataset.
        missing: which cases are left out for missing modalities.
        reading: how files become arrays.
        root: folder of cache entries.
        limit_gb: of all cache entries together in 1e9 bytes; None is no limit.

    Raises:
        DataError: the list or a file is unfit, or the cache cannot be written.
    """
    listed = source()
    check_list(listed, name=card.name)
    check_annotated(listed, classes=card.classes, name=card.name)
    originals = missing.select(listed, channels=card.channels, name=card.name)
    hashes = content_hashes(originals)
    cases, split = splitter(originals)
    store = _opened(cases, reading=reading, root=root, hashes=hashes, name=card.name, limit_gb=limit_gb)
    return Prepared(split, dataset_digest(originals, hashes), by_id(cases), store)


def _opened(cases: Sequence[Case], *, reading: Reading, **given: Any) -> Store:
    """Return the cache entry of pictures or of volumes."""
    if isinstance(reading.preprocess, Preprocess):
        return open_cache(cases, reading=reading, **given)
    from medseg.data.volumes.cache import open_volume_cache

    return open_volume_cache(cases, reading=reading, **given)
