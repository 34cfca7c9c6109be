"""Medical Segmentation Decathlon, all ten tasks (Antonelli et al., Nature Communications 13, 2022, 4128).

Layout as the archives hold it: ``TaskNN_Name/`` with ``dataset.json`` (``name``, ``modality``, ``labels``,
``training``: pairs of ``image`` and ``label``, ``test``: images), ``imagesTr/``, ``labelsTr/`` and ``imagesTs/``.
Several modalities are the fourth axis of one NIfTI file and stay so. Test labels are not published, so test images are
left out.
"""

from pathlib import Path
from typing import Any

from medseg.data.prepare.layout import Layout
from medseg.data.prepare.official import check_labels, find_file, read_json
from medseg.errors import DataError

NAME = "MSD"


def prepare(source: Path, layout: Layout, *, task: str = "", classes: int = 0, check: bool = True) -> None:
    """Add every training volume with its label volume.

    Args:
        source: folder of the unpacked task.
        layout: receives the cases.
        task: folder name of the task, for instance ``Task09_Spleen``; another task in its place is refused.
        classes: number of labels, background included, that ``dataset.json`` must declare; 0 accepts any.
        check: read every label volume and compare its values with ``dataset.json``.

    Raises:
        DataError: ``dataset.json``, a volume or a label is missing, or labels differ from what is declared.
    """
    path = find_file(source, "dataset.json", dataset=NAME)
    root, content = path.parent, read_json(path)
    labels = _labels(content, path)
    if task and root.name != task and not _same_task(str(content.get("name", "")), task):
        raise DataError(f"{path}: is of the task '{content.get('name')}' in '{root.name}', {task} is expected.")
    if classes and len(labels) != classes:
        raise DataError(f"{path}: declares {len(labels)} labels {labels}, {classes} are expected for {task or 'it'}.")
    pairs = [(_volume(root, item, "image", path), _volume(root, item, "label", path)) for item in content["training"]]
    layout.expect(len(pairs))
    for image, label in pairs:
        if check:
            check_labels(label, list(labels), dataset=NAME)
        name = _stem(image)
        layout.add(id=name, images=[image], masks=[label], group=name)
    for item in content.get("test", []):
        layout.leave_out(_stem(Path(str(item))), "test image whose labels are not published")
    layout.note("MSD publishes no person ids: every volume is a group of its own.")


def _labels(content: Any, path: Path) -> dict[int, str]:
    try:
        if not isinstance(content["training"], list):
            raise TypeError("training")
        return {int(value): str(name) for value, name in content["labels"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path}: no dataset.json of the decathlon ({error!r}); 'labels' and 'training'.") from None


def _same_task(name: str, task: str) -> bool:
    def plain(text: str) -> str:
        return text.lower().replace(" ", "").replace("_", "")

    return plain(name) == plain(task.partition("_")[2])


def _volume(root: Path, item: Any, key: str, path: Path) -> Path:
    named = item.get(key) if isinstance(item, dict) else None
    if not isinstance(named, str):
        raise DataError(f"{path}: a training entry names no '{key}'; unpack the official archive again.")
    found = root / named
    if Path(named).is_absolute() or ".." in Path(named).parts:
        raise DataError(f"{path}: '{named}' lies outside the task's folder; take the official archive.")
    if not found.is_file():
        raise DataError(f"{found}: named by dataset.json but missing; unpack the official archive again.")
    return found


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".nii")
