"""LabelMe annotations, one JSON file beside each image, to label maps.

Format as written by the program labelme: ``imagePath``, ``imageHeight``, ``imageWidth`` and ``shapes``, each with
``label``, ``shape_type`` and ``points`` (x, y).
"""

from pathlib import Path
from typing import Any

import numpy as np

from medseg.data.files import image_size
from medseg.data.prepare import options, polygons
from medseg.data.prepare.coco import find_image, read_json, unique_stems
from medseg.data.prepare.copies import files_below
from medseg.data.prepare.layout import Layout
from medseg.errors import ConfigError, DataError

_FIELDS = ("shapes", "imagePath", "imageHeight", "imageWidth")


def prepare(
    source: Path,
    layout: Layout,
    *,
    classes: str | None = None,
    ignore: str | None = None,
    patient: str | None = None,
    patients: str | None = None,
    one_image_per_patient: bool = False,
) -> None:
    """Lay out images with LabelMe shapes (polygon, rectangle, circle); a file without shapes gives an empty mask.

    A single class is stored as 255, several as 1, 2, ... in their order. Where shapes overlap the smaller one is on
    top.

    Args:
        source: folder with the JSON files and the images.
        layout: takes the cases.
        classes: labels in the order of the mask values, ``a,b,c``; default all that occur, in alphabetical order.
        ignore: labels that are left out, ``a,b``.
        patient: regular expression whose first (group) is the patient in the stem of the image.
        patients: CSV table with the columns image,patient.
        one_image_per_patient: every image is a patient of its own.

    Raises:
        DataError: a JSON is damaged, an image is missing or of another size, or a shape has no area.
        ConfigError: a label is not among ``classes``, or an option cannot be used.
    """
    find = options.patient_finder(patient=patient, patients=patients, one_image_per_patient=one_image_per_patient)
    unwanted = set(options.names(ignore, option="ignore"))
    paths = [path for path in files_below(source) if path.suffix == ".json" and not path.name.startswith(".")]
    contents = {path: _read(path) for path in paths}
    if not contents:
        raise DataError(f"{source}: no JSON file found; LabelMe writes one beside each image.")
    values = _values(contents, options.names(classes, option="classes"), unwanted)
    files = {
        path: find_image(content["imagePath"], [path.parent, source], named_in=path)
        for path, content in contents.items()
    }
    identifiers = unique_stems(files, source)
    layout.expect(len(files))
    layout.note(options.class_note(values))
    for path, content in contents.items():
        size = image_size(files[path])
        stated = (content.get("imageHeight") or size[0], content.get("imageWidth") or size[1])
        if stated != size:
            raise DataError(
                f"{files[path]}: image is {size[0]}x{size[1]} but {path.name} states {stated[0]}x{stated[1]} (rows x "
                "columns); its outlines belong to another version of the image."
            )
        shapes = [shape for shape in content["shapes"] if shape.get("label") not in unwanted]
        regions = [(_region(shape, size, str(path)), values[str(shape.get("label"))]) for shape in shapes]
        labels = polygons.paint(regions, size=size)
        layout.add(id=identifiers[path], images=[files[path]], masks=[labels], group=find(files[path].stem))


def _read(path: Path) -> dict[str, Any]:
    content = read_json(path, needed=("shapes",))
    if not all(isinstance(shape, dict) for shape in content["shapes"]) or not isinstance(content.get("imagePath"), str):
        raise DataError(f"{path}: 'imagePath' or a shape is missing; this is no LabelMe file.")
    return {name: content.get(name) for name in _FIELDS}  # the embedded copy of the image would fill the memory


def _values(contents: dict[Path, dict[str, Any]], classes: list[str], unwanted: set[str]) -> dict[str, int]:
    found: dict[str, Path] = {}
    for path, content in contents.items():
        for shape in content["shapes"]:
            found.setdefault(str(shape.get("label")), path)
    wanted = classes or sorted(set(found) - unwanted)
    strange = sorted(set(found) - set(wanted) - unwanted)
    if strange:
        raise ConfigError(
            f"{found[strange[0]]}: label '{strange[0]}' is not among classes={','.join(wanted)}; add it or "
            f"ignore={strange[0]}."
        )
    if not wanted:
        raise DataError("no shape is left in any file; name the classes, or correct ignore=.")
    return options.class_values(wanted)


def _region(shape: dict[str, Any], size: tuple[int, int], where: str) -> np.ndarray:
    kind, points = shape.get("shape_type") or "polygon", shape.get("points", ())
    named = f"{where}, {kind} '{shape.get('label')}'"
    if kind == "polygon":
        return polygons.fill([points], size=size, where=named)
    if kind == "rectangle":
        return polygons.rectangle(points, size=size, where=named)
    if kind == "circle":
        return polygons.circle(points, size=size, where=named)
    raise DataError(f"{named}: a shape of this type has no area here; draw polygons, rectangles or circles.")
