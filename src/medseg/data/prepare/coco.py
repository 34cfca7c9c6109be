"""COCO instance annotations (polygons and run lengths) to label maps.

Format: cocodataset.org, "Data format": ``images`` (id, file_name, height, width), ``categories`` (id, name) and
``annotations`` (image_id, category_id, segmentation as a list of polygons [x1, y1, x2, y2, ...] that are united, or as
run lengths {size: [H, W], counts}).
"""

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from medseg.data.files import image_size
from medseg.data.prepare import options, polygons
from medseg.data.prepare.copies import files_below
from medseg.data.prepare.layout import Layout
from medseg.errors import ConfigError, DataError


def prepare(
    source: Path,
    layout: Layout,
    *,
    annotations: str | None = None,
    images: str = "",
    classes: str | None = None,
    holes: bool = False,
    patient: str | None = None,
    patients: str | None = None,
    one_image_per_patient: bool = False,
) -> None:
    """Lay out images with COCO instances; an image without any gets an empty mask.

    A single class is stored as 255, several as 1, 2, ... in their order. Where instances overlap the smaller one is
    on top.

    Args:
        source: folder with the JSON file and the images.
        layout: takes the cases.
        annotations: the JSON file below ``source``; default the only one in it.
        images: folder of the images below ``source``; default where the JSON lies, ``source`` or ``images``.
        classes: names of the categories in the order of the mask values, ``a,b,c``; default all, by category id.
        holes: of an instance's polygons, one inside another is a hole (COCO itself unites them).
        patient: regular expression whose first (group) is the patient in the stem.
        patients: CSV table with the columns image,patient.
        one_image_per_patient: every image is a patient of its own.

    Raises:
        DataError: the JSON is damaged, an image is missing or of another size, or an annotation has no outline.
        ConfigError: an option cannot be used.
    """
    find = options.patient_finder(patient=patient, patients=patients, one_image_per_patient=one_image_per_patient)
    path = _annotation_file(source, annotations)
    content = read_json(path, needed=("images", "annotations", "categories"))
    values = _values(content["categories"], classes, path)
    unused = sorted(name for name, value in values.values() if not value)
    if unused:
        layout.note(f"Categories left out because classes does not name them: {', '.join(unused)}.")
    listed = {_field(entry, "id", path): entry for entry in content["images"]}
    instances = _by_image(content["annotations"], listed, values, path)
    places = [source / images, path.parent, source / "images"]
    files = {key: find_image(_field(entry, "file_name", path), places, named_in=path) for key, entry in listed.items()}
    identifiers = unique_stems(files, source)
    layout.expect(len(listed))
    layout.note(options.class_note({name: value for name, value in values.values() if value}))
    for key, entry in listed.items():
        size = image_size(files[key])
        stated = (entry.get("height", size[0]), entry.get("width", size[1]))
        if stated != size:
            raise DataError(
                f"{files[key]}: image is {size[0]}x{size[1]} but {path.name} states {stated[0]}x{stated[1]} (rows x "
                "columns); its outlines belong to another version of the image."
            )
        regions = [
            (_region(item, size, holes, f"{path.name}, annotation {item.get('id', '?')}"), value)
            for item in instances[key]
            if (value := values[item["category_id"]][1])
        ]
        labels = polygons.paint(regions, size=size)
        layout.add(id=identifiers[key], images=[files[key]], masks=[labels], group=find(files[key].stem))


def _annotation_file(source: Path, name: str | None) -> Path:
    if name is not None:
        path = source / name
        if not path.is_file():
            raise ConfigError(f"annotations={name}: no such file below {source}.")
        return path
    found = [path for path in files_below(source) if path.suffix == ".json" and not path.name.startswith(".")]
    if len(found) == 1:
        return found[0]
    shown = ", ".join(str(path.relative_to(source)) for path in found[:5]) or "none"
    raise DataError(
        f"{source}: one JSON file of annotations is expected, found {shown}; name it with annotations=FILE."
    )


def read_json(path: Path, *, needed: tuple[str, ...]) -> dict[str, Any]:
    """Return the object of a JSON file.

    Raises:
        DataError: it is no JSON, or lacks one of the lists ``needed``.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise DataError(f"{path}: file is missing; restore it.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: file is no readable JSON ({error}); export it again.") from None
    absent = [key for key in needed if not isinstance(content, dict) or not isinstance(content.get(key), list)]
    if absent:
        raise DataError(f"{path}: the list '{absent[0]}' is missing; this is no file of the expected format.")
    return dict(content)


def _field(entry: Any, name: str, path: Path) -> Any:
    value = entry.get(name) if isinstance(entry, Mapping) else None
    if not isinstance(value, int | str):
        raise DataError(f"{path}: an entry has no usable '{name}'; export the annotations again.")
    return value


def _values(categories: Any, classes: str | None, path: Path) -> dict[Any, tuple[str, int]]:
    """Return name and mask value of each category id; 0 for one that ``classes`` does not name."""
    known = {_field(entry, "id", path): str(_field(entry, "name", path)) for entry in categories}
    wanted = options.names(classes, option="classes") or [known[key] for key in sorted(known)]
    strange = [name for name in wanted if name not in known.values()]
    if strange or not wanted:
        raise ConfigError(
            f"classes: '{', '.join(strange)}' is no category of {path.name}; it has {', '.join(known.values())}."
        )
    values = options.class_values(wanted)
    return {key: (name, values.get(name, 0)) for key, name in known.items()}


def _by_image(entries: Any, listed: Mapping[Any, Any], values: Mapping[Any, Any], path: Path) -> dict[Any, list[Any]]:
    found: dict[Any, list[Any]] = defaultdict(list)
    for entry in entries:
        image, category = _field(entry, "image_id", path), _field(entry, "category_id", path)
        if image not in listed:
            raise DataError(
                f"{path}: annotation {entry.get('id', '?')} names image {image}, which is not listed there."
            )
        if category not in values:
            raise DataError(
                f"{path}: annotation {entry.get('id', '?')} names category {category}, which is not listed."
            )
        found[image].append(entry)
    return found


def _region(item: Mapping[str, Any], size: tuple[int, int], holes: bool, where: str) -> np.ndarray:
    outline = item.get("segmentation")
    if isinstance(outline, Mapping):
        if tuple(outline.get("size", ())) != size:
            raise DataError(f"{where}: run lengths are for {outline.get('size')}, the image is {list(size)} (H, W).")
        return polygons.run_lengths(outline.get("counts", ()), size=size, where=where)
    if not isinstance(outline, list) or not outline:
        raise DataError(f"{where}: there is no outline, perhaps a box only; draw one or take the annotation out.")
    rings = []
    for ring in outline:
        if not isinstance(ring, list) or len(ring) % 2:
            raise DataError(f"{where}: a polygon is a list of x, y, x, y, ...; export it again.")
        rings.append([ring[start : start + 2] for start in range(0, len(ring), 2)])
    return polygons.fill(rings, size=size, even_odd=holes, where=where)


def find_image(name: str, places: list[Path], *, named_in: Path) -> Path:
    """Return the file that an annotation names, from the first of the places that has it.

    A path that leads out of a place (``../``, absolute) counts with its last part only.

    Raises:
        DataError: none has it.
    """
    relative = Path(str(name).replace("\\", "/"))
    inside = not relative.is_absolute() and ".." not in relative.parts
    names = [relative, Path(relative.name)] if inside else [Path(relative.name)]
    for path in (place / part for place in places for part in names if part.name):
        if path.is_file():
            return path
    raise DataError(f"{named_in}: image '{name}' was not found below {places[-1]}; add it, or name its folder.")


def unique_stems(files: Mapping[Any, Path], source: Path) -> dict[Any, str]:
    """Return an id for each file: its stem, or its path below ``source`` where stems recur."""
    stems = [path.stem for path in files.values()]
    recurring = len(set(stems)) != len(stems)
    return {
        key: "_".join(path.relative_to(source).with_suffix("").parts) if recurring else path.stem
        for key, path in files.items()
    }
