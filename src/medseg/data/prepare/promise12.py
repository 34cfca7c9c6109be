"""PROMISE12: prostate in T2 MRI, 50 training and 30 test volumes (Litjens et al., Medical Image Analysis 18, 2014).

Layout as described by public loaders, not verified against the archives: ``training_data.zip``, ``test_data.zip`` (and
``livechallenge_test_data.zip``) with ``CaseXX.mhd``, ``CaseXX.raw``, ``CaseXX_segmentation.mhd`` and
``CaseXX_segmentation.raw``. Header and pixels become one file with the same values and geometry.
"""

import re
from pathlib import Path

from medseg.data.prepare.layout import Layout
from medseg.data.prepare.official import check_labels, find_all
from medseg.errors import DataError

NAME = "PROMISE12"

SITES = {
    "BIDMC": (0, *range(2, 13)),
    "RUNMC": tuple(range(13, 26)),
    "UCL": (1, *range(26, 38)),
    "HK": tuple(range(38, 50)),
}
"""Hospital of each training case, by the numbers that multi-site studies use; the archive itself does not state it."""


def prepare(source: Path, layout: Layout, *, check: bool = True) -> None:
    """Add every volume that has a segmentation; one case is one patient.

    Columns: ``split`` (train or test by the folder or archive; a test volume counts only where its segmentation is
    there), ``domain`` the hospital of training cases.

    Args:
        source: folder with the archives or their content.
        layout: receives the cases.
        check: read every segmentation and compare its values with 0 and 1.

    Raises:
        DataError: no volume is there, a training volume has no segmentation, or one holds other values.
    """
    volumes = find_all(source, r"Case\d+\.mhd", dataset=NAME, what="files like Case00.mhd")
    for path in volumes:
        side = _side(path, source)
        identifier = f"{'' if side == 'train' else side + '_'}{path.stem}"
        label = path.with_name(f"{path.stem}_segmentation.mhd")
        if not label.is_file():
            if side == "train":
                raise DataError(f"{path}: {NAME} has '{label.name}' beside it, but it is missing.")
            layout.leave_out(identifier, "test volume without segmentation")
            continue
        if check:
            check_labels(label, (0, 1), dataset=NAME)
        layout.add(
            id=identifier,
            images=[path],
            masks=[label],
            group=identifier,
            domain=_site(path) if side == "train" else "",
            split="test" if side != "train" else "train",
        )
    layout.note("PROMISE12: one case is one patient; the hospital in 'domain' follows the numbers used in the field.")


def _side(path: Path, source: Path) -> str:
    """Return train, test or live by the names of the folders above, train where they say nothing."""
    above = "/".join(path.relative_to(source).parts[:-1]).lower()
    return "live" if "live" in above else "test" if "test" in above else "train"


def _site(path: Path) -> str:
    number = int(re.sub(r"\D", "", path.stem))
    return next((site for site, numbers in SITES.items() if number in numbers), "")
