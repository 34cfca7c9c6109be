"""Montgomery and Shenzhen: lungs in chest radiographs (Jaeger et al., Quant Imaging Med Surg 4, 2014).

Layout as described by public loaders, not verified against the archives: ``MontgomerySet/`` with ``CXR_png/`` and
``ManualMask/leftMask/`` and ``rightMask/`` (138 images MCUCXR_NNNN_L.png), ``ChinaSet_AllFiles/CXR_png/`` (662 images
CHNCXR_NNNN_L.png) and for 566 of them ``CHNCXR_NNNN_L_mask.png`` in ``mask/`` (Stirenko et al. 2018). L is 1 for
tuberculosis. The joined copy (``CXR_png/`` and ``masks/``) is read too. The masks of both lungs are united.
"""

from pathlib import Path

from medseg.data.prepare.layout import Layout
from medseg.data.prepare.official import binary_mask, find_all
from medseg.errors import DataError

NAME = "Montgomery and Shenzhen"
SITES = {"MCUCXR": "montgomery", "CHNCXR": "shenzhen"}
_PATTERN = r"(MCUCXR|CHNCXR)_\d{4}_[01]"


def prepare(source: Path, layout: Layout) -> None:
    """Add every radiograph that has lung masks; ``domain`` is the hospital set, ``label`` normal or tuberculosis.

    Args:
        source: folder with one or both sets, unpacked or as archives.
        layout: receives the cases.

    Raises:
        DataError: no radiograph is there, a Montgomery image lacks a lung, or a mask holds other values than two.
    """
    pictures = find_all(source, rf"{_PATTERN}(_mask)?\.png", dataset=NAME, what="files like MCUCXR_0001_0.png")
    masks: dict[str, list[Path]] = {}
    for path in pictures:
        if "mask" in path.parent.name.lower() or path.stem.endswith("_mask"):
            masks.setdefault(path.stem.removesuffix("_mask"), []).append(path)
    images = [path for path in pictures if path.parent.name == "CXR_png"]
    if not images:
        raise DataError(f"{source}: {NAME} have their radiographs in 'CXR_png', no such folder holds one here.")
    for image in images:
        _add(layout, image, masks.get(image.stem, []))
    layout.note("Montgomery and Shenzhen: one radiograph is one patient by the sets' numbering.")


def _add(layout: Layout, image: Path, masks: list[Path]) -> None:
    sides = {path.parent.name.lower() for path in masks}
    if not masks and image.stem.startswith("CHNCXR"):
        layout.leave_out(image.stem, "no lung mask was published for it")
        return
    if not masks or (sides & {"leftmask", "rightmask"} and len(sides) < 2):
        raise DataError(
            f"{image}: a mask in leftMask and one in rightMask are expected, found {sorted(sides) or 'none'}."
        )
    layout.add(
        id=image.stem,
        images=[image],
        masks=[binary_mask(path) for path in masks],
        group=image.stem.rpartition("_")[0],
        domain=SITES[image.stem[:6]],
        label="tuberculosis" if image.stem.endswith("1") else "normal",
    )
