"""Outlines of any tool to label maps: areas worked by hand, run lengths, COCO, LabelMe and plain folders."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from medseg.data.prepare import coco, folder, labelme, options
from medseg.data.prepare.layout import Layout
from medseg.data.prepare.polygons import circle, fill, paint, rectangle, run_lengths
from medseg.data.sources.folder import read_manifest
from medseg.errors import ConfigError, DataError, MedsegError

SIZE = (20, 30)
SQUARE = [(5, 4), (15, 4), (15, 12), (5, 12)]
OWN = {"one_image_per_patient": True}


def test_a_square_covers_exactly_the_pixels_between_its_edges():
    mask = fill([SQUARE], size=SIZE)
    expected = np.zeros(SIZE, bool)
    expected[4:12, 5:15] = True
    assert (mask == expected).all()


@pytest.mark.parametrize(
    ("ring", "area"),
    [
        ([(0, 0), (30, 0), (30, 20), (0, 20)], 600),  # the whole image
        ([(0, 0), (4, 0), (0, 4)], 10),  # centres with x + y <= 4: 4 + 3 + 2 + 1, the hypotenuse included
        ([(2, 2), (3, 2), (3, 3), (2, 3)], 1),  # one pixel
        ([(2.6, 2.6), (3.4, 2.6), (3.4, 3.4), (2.6, 3.4)], 0),  # between four centres
        ([(10, 2), (18, 10), (10, 18), (2, 10)], 144),  # diamond of half axis 8: 2 * (2 + 4 + ... + 16)
    ],
)
def test_areas_worked_by_hand(ring, area):
    assert fill([ring], size=SIZE).sum() == area


@pytest.mark.parametrize(
    "turn", [lambda ring: ring[::-1], lambda ring: ring[2:] + ring[:2], lambda ring: [*ring, ring[0]]]
)
def test_direction_start_and_closing_do_not_matter(turn):
    ring = [(3.3, 1.2), (22.7, 4.4), (18.1, 17.9), (7.2, 12.8), (9.9, 7.1)]
    assert (fill([turn(ring)], size=SIZE) == fill([ring], size=SIZE)).all()


def test_what_lies_outside_the_image_is_cut_off():
    assert fill([[(-10, -10), (5, -10), (5, 6), (-10, 6)]], size=SIZE).sum() == 30
    assert fill([[(-99, -99), (99, -99), (99, 99), (-99, 99)]], size=SIZE).all()
    assert not fill([[(40, 40), (50, 40), (50, 50)]], size=SIZE).any()


def test_rings_are_united_or_make_holes():
    inner = [(8, 6), (12, 6), (12, 10), (8, 10)]
    assert fill([SQUARE, inner], size=SIZE).sum() == 80
    assert fill([SQUARE, inner], size=SIZE, even_odd=True).sum() == 80 - 16
    bridge = [*SQUARE, SQUARE[0], *[(8, 6), (8, 10), (12, 10), (12, 6), (8, 6)], SQUARE[0]]
    assert 58 <= fill([bridge], size=SIZE).sum() <= 70, "a hole cut by a bridge"


@given(st.lists(st.tuples(st.floats(-5, 35), st.floats(-5, 25)), min_size=3, max_size=7))
@settings(max_examples=20, deadline=None)
def test_fill_agrees_with_counting_crossings_pixel_by_pixel(ring):
    mask = fill([ring], size=SIZE)
    for row in range(SIZE[0]):
        for column in range(SIZE[1]):
            x, y = column + 0.5, row + 0.5
            if min(_gap((x, y), a, b) for a, b in zip(ring, ring[1:] + ring[:1], strict=True)) > 1e-6:
                assert mask[row, column] == _inside(x, y, ring)


def _gap(point: tuple[float, float], a: tuple[float, float], b: tuple[float, float]) -> float:
    """Distance from a point to a segment."""
    (x, y), (ax, ay), (bx, by) = point, a, b
    length = (bx - ax) ** 2 + (by - ay) ** 2
    share = 0.0 if length == 0 else min(1.0, max(0.0, ((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / length))
    return float(np.hypot(x - ax - share * (bx - ax), y - ay - share * (by - ay)))


def _inside(x: float, y: float, ring: list[tuple[float, float]]) -> bool:
    crossings = 0
    for (ax, ay), (bx, by) in zip(ring, ring[1:] + ring[:1], strict=True):
        if (ay > y) != (by > y) and x < ax + (y - ay) / (by - ay) * (bx - ax):
            crossings += 1
    return crossings % 2 == 1


@pytest.mark.parametrize(
    "ring", [[], [(1, 1), (2, 2)], [(1, 1), (2, 2), (float("nan"), 3)], [(1, 1, 1)] * 3, ["ab"] * 3]
)
def test_outlines_that_are_none_are_refused(ring):
    with pytest.raises(DataError, match="case x: an outline needs three or more points"):
        fill([ring], size=SIZE, where="case x")


def test_rectangles_and_circles():
    assert (rectangle([(15, 12), (5, 4)], size=SIZE) == fill([SQUARE], size=SIZE)).all()
    disk = circle([(10, 10), (13, 14)], size=SIZE)
    rows, columns = np.nonzero(disk)
    assert disk.sum() == sum((x + 0.5 - 10) ** 2 + (y + 0.5 - 10) ** 2 <= 25 for x in range(30) for y in range(20))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (5, 14, 5, 14)
    with pytest.raises(DataError, match="2 points"):
        circle([(1, 1)], size=SIZE)


def compress(runs: list[int]) -> str:
    """Write COCO's text form of run lengths, from its published definition."""
    text = ""
    for number, run in enumerate(runs):
        value = run - runs[number - 2] if number > 2 else run
        more = True
        while more:
            code = value & 0x1F
            value >>= 5
            more = value != -1 if code & 0x10 else value != 0
            text += chr((code | 0x20 if more else code) + 48)
    return text


def runs_of(mask: np.ndarray) -> list[int]:
    flat = mask.ravel(order="F")
    runs, value = [0], False
    for pixel in flat:
        if bool(pixel) != value:
            runs.append(0)
            value = not value
        runs[-1] += 1
    return runs


def test_run_lengths_go_down_the_columns_and_begin_with_background():
    assert run_lengths([1, 2, 3], size=(2, 3)).tolist() == [[False, True, False], [True, False, False]]


def test_a_compressed_text_from_the_format_s_own_tools():
    # pycocotools encodes the 3 x 3 mask with only its centre set, runs 4, 1, 4, as "414".
    assert run_lengths("414", size=(3, 3)).tolist() == [[False] * 3, [False, True, False], [False] * 3]


@given(st.integers(0, 2**32 - 1), st.floats(0.0, 1.0))
@settings(max_examples=40, deadline=None)
def test_both_kinds_of_run_lengths_come_back(seed, share):
    from medseg.rng import generator

    mask = generator(seed, "runs").random((7, 90)) < share
    runs = runs_of(mask)
    assert (run_lengths(runs, size=mask.shape) == mask).all()
    assert (run_lengths(compress(runs), size=mask.shape) == mask).all()
    assert (run_lengths(compress(runs).encode(), size=mask.shape) == mask).all()


@pytest.mark.parametrize("counts", [[1, 2], [-1, 10], [9.0], ["9"], "~~", "P", "\x00", [10], []])
def test_damaged_run_lengths_are_refused(counts):
    with pytest.raises(DataError, match="run lengths"):
        run_lengths(counts, size=(3, 3))


def test_of_overlapping_regions_the_smaller_is_on_top_whatever_the_order():
    large, small = fill([SQUARE], size=SIZE), fill([[(6, 5), (8, 5), (8, 7), (6, 7)]], size=SIZE)
    for order in ([(large, 1), (small, 2)], [(small, 2), (large, 1)]):
        labels = paint(order, size=SIZE)
        assert (labels == 2).sum() == 4
        assert (labels == 1).sum() == 76


# COCO


def coco_set(
    root: Path, annotations: list[dict], *, categories: tuple[str, ...] = ("nodule",), **image: object
) -> Path:
    (root / "images").mkdir(parents=True)
    for stem in ("p1_a", "p1_b"):
        Image.fromarray(np.full(SIZE, 90, np.uint8)).save(root / "images" / f"{stem}.png")
    entries = [
        {"id": 1, "file_name": "p1_a.png", "height": 20, "width": 30, **image},
        {"id": 2, "file_name": "p1_b.png"},
    ]
    content = {
        "images": entries,
        "categories": [{"id": 7 + number, "name": name} for number, name in enumerate(categories)],
        "annotations": [
            {"id": number, "image_id": 1, "category_id": 7, **item} for number, item in enumerate(annotations)
        ],
    }
    (root / "instances.json").write_text(json.dumps(content), encoding="utf-8")
    return root


def laid_out(prepare, source: Path, target: Path, **given: object) -> dict[str, np.ndarray]:
    with Layout(target, "set") as layout:
        prepare(source, layout, **given)
        laid_out.notes = layout.notes  # type: ignore[attr-defined]
        root = layout.finish({})
    laid_out.cases = read_manifest(root)  # type: ignore[attr-defined]
    return {item.id: np.asarray(Image.open(item.masks[0])) for item in laid_out.cases}  # type: ignore[attr-defined]


FLAT = [value for point in SQUARE for value in point]


def test_coco_polygons_of_one_class_become_255_and_an_image_without_any_is_empty(tmp_path):
    masks = laid_out(coco.prepare, coco_set(tmp_path / "in", [{"segmentation": [FLAT]}]), tmp_path / "out",
                     patient="^(p[0-9]+)_")  # fmt: skip
    assert sorted(masks) == ["p1_a", "p1_b"]
    assert (masks["p1_a"] == fill([SQUARE], size=SIZE) * 255).all()
    assert not masks["p1_b"].any()
    assert {item.patient for item in laid_out.cases} == {"p1"}
    assert "255 = nodule" in laid_out.notes[0]


def test_coco_run_lengths_of_both_kinds_with_a_hole(tmp_path):
    ring = fill([SQUARE], size=SIZE)
    ring[6:8, 7:9] = False
    runs = runs_of(ring)
    for kind, counts in (("plain", runs), ("packed", compress(runs))):
        source = coco_set(tmp_path / kind, [{"segmentation": {"size": [20, 30], "counts": counts}, "iscrowd": 1}])
        assert (laid_out(coco.prepare, source, tmp_path / f"{kind}_out", **OWN)["p1_a"] == ring * 255).all()


def test_coco_polygons_of_an_instance_are_united_or_holes_as_asked(tmp_path):
    inner = [8, 6, 12, 6, 12, 10, 8, 10]
    source = coco_set(tmp_path / "in", [{"segmentation": [FLAT, inner]}])
    assert (laid_out(coco.prepare, source, tmp_path / "a", **OWN)["p1_a"] > 0).sum() == 80
    assert (laid_out(coco.prepare, source, tmp_path / "b", holes=True, **OWN)["p1_a"] > 0).sum() == 64


def test_coco_categories_become_values_in_order_and_small_instances_stay_visible(tmp_path):
    small = {"segmentation": [[6, 5, 8, 5, 8, 7, 6, 7]], "category_id": 8}
    source = coco_set(tmp_path / "in", [small, {"segmentation": [FLAT]}], categories=("lobe", "nodule"))
    first = laid_out(coco.prepare, source, tmp_path / "a", **OWN)["p1_a"]
    assert ((first == 1).sum(), (first == 2).sum()) == (76, 4)
    turned = laid_out(coco.prepare, source, tmp_path / "b", classes="nodule,lobe", **OWN)["p1_a"]
    assert ((turned == 2).sum(), (turned == 1).sum()) == (76, 4)
    only = laid_out(coco.prepare, source, tmp_path / "c", classes="nodule", **OWN)["p1_a"]
    assert ((only == 255).sum(), np.unique(only).tolist()) == (4, [0, 255])
    assert any("left out" in note and "lobe" in note for note in laid_out.notes)


@pytest.mark.parametrize(
    ("annotation", "image", "message"),
    [
        ({"segmentation": [FLAT]}, {"file_name": "none.png"}, "'none.png' was not found"),
        ({"segmentation": [FLAT]}, {"file_name": "../../outside.png"}, "'../../outside.png' was not found"),
        ({"segmentation": [FLAT]}, {"height": 21}, "image is 20x30 but instances.json states 21x30"),
        ({"segmentation": [FLAT], "image_id": 9}, {}, "names image 9, which is not listed"),
        ({"segmentation": [FLAT], "category_id": 9}, {}, "names category 9"),
        ({"segmentation": [FLAT], "category_id": [7]}, {}, "no usable 'category_id'"),
        ({"bbox": [1, 1, 2, 2]}, {}, "annotation 0: there is no outline, perhaps a box only"),
        ({"segmentation": [[1, 1, 2]]}, {}, "a polygon is a list of x, y"),
        ({"segmentation": [[1, 1, 2, 2]]}, {}, "three or more points"),
        ({"segmentation": {"size": [30, 20], "counts": [600]}}, {}, r"run lengths are for \[30, 20\]"),
        ({"segmentation": {"size": [20, 30], "counts": [599]}}, {}, "do not fill"),
    ],
)
def test_coco_faults_are_named_and_nothing_is_left(annotation, image, message, tmp_path):
    Image.fromarray(np.zeros(SIZE, np.uint8)).save(tmp_path / "outside.png")
    source = coco_set(tmp_path / "deep" / "in", [annotation], **image)
    with pytest.raises(DataError, match=message):
        laid_out(coco.prepare, source, tmp_path / "out", **OWN)
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.part").exists()


def test_coco_files_that_are_none_are_named(tmp_path):
    source = coco_set(tmp_path / "in", [])
    (source / "more.json").write_text("{")
    with pytest.raises(DataError, match=r"found instances\.json, more\.json; name it with annotations=FILE"):
        laid_out(coco.prepare, source, tmp_path / "out", **OWN)
    with pytest.raises(DataError, match=r"more\.json: file is no readable JSON"):
        laid_out(coco.prepare, source, tmp_path / "out", annotations="more.json", **OWN)
    with pytest.raises(ConfigError, match="no such file below"):
        laid_out(coco.prepare, source, tmp_path / "out", annotations="../x.json", **OWN)
    (source / "more.json").write_text('{"images": 1}')
    with pytest.raises(DataError, match="the list 'images' is missing"):
        laid_out(coco.prepare, source, tmp_path / "out", annotations="more.json", **OWN)
    with pytest.raises(ConfigError, match="'lobe' is no category"):
        laid_out(coco.prepare, source, tmp_path / "out", annotations="instances.json", classes="lobe", **OWN)


# LabelMe


def labelme_set(root: Path, *shapes: dict, **changes: object) -> Path:
    root.mkdir(parents=True)
    Image.fromarray(np.full(SIZE, 90, np.uint8)).save(root / "p1_a.png")
    content = {"version": "5.4.1", "flags": {}, "shapes": list(shapes), "imagePath": "..\\scans\\p1_a.png",
               "imageData": None, "imageHeight": 20, "imageWidth": 30, **changes}  # fmt: skip
    (root / "p1_a.json").write_text(json.dumps(content), encoding="utf-8")
    return root


def shape(label: str, kind: str, points: list) -> dict:
    return {"label": label, "shape_type": kind, "points": points, "group_id": None, "flags": {}}


def test_labelme_shapes_become_classes(tmp_path):
    source = labelme_set(
        tmp_path / "in", shape("nodule", "circle", [[10, 8], [12, 8]]), shape("lobe", "polygon", SQUARE),
        shape("cyst", "rectangle", [[20, 2], [24, 5]]), shape("caliper", "line", [[0, 0], [1, 1]]),
    )  # fmt: skip
    labels = laid_out(labelme.prepare, source, tmp_path / "out", classes="lobe,nodule,cyst", ignore="caliper", **OWN)
    disk = circle([(10, 8), (12, 8)], size=SIZE)
    expected = fill([SQUARE], size=SIZE).astype(int)
    expected[disk] = 2
    expected[2:5, 20:24] = 3
    assert (labels["p1_a"] == expected).all()


def test_labelme_without_classes_takes_all_labels_and_one_is_255(tmp_path):
    source = labelme_set(tmp_path / "in", shape("nodule", "polygon", SQUARE))
    assert np.unique(laid_out(labelme.prepare, source, tmp_path / "out", **OWN)["p1_a"]).tolist() == [0, 255]
    empty = labelme_set(tmp_path / "empty")
    assert not laid_out(labelme.prepare, empty, tmp_path / "e", classes="nodule", **OWN)["p1_a"].any()


@pytest.mark.parametrize(
    ("item", "changes", "given", "message"),
    [
        (shape("nodule", "line", [[0, 0], [1, 1]]), {}, {}, "line 'nodule': a shape of this type has no area"),
        (shape("nodule", "polygon", [[0, 0], [1, 1]]), {}, {}, "p1_a.json, polygon 'nodule': an outline needs"),
        (shape("cyst", "polygon", SQUARE), {}, {"classes": "nodule"}, "label 'cyst' is not among classes=nodule"),
        (shape("cyst", "polygon", SQUARE), {}, {"ignore": "cyst"}, "no shape is left"),
        (shape("cyst", "polygon", SQUARE), {"imageHeight": 99}, {}, "image is 20x30 but p1_a.json states 99x30"),
        (shape("cyst", "polygon", SQUARE), {"imagePath": "other.png"}, {}, "'other.png' was not found"),
        (shape("cyst", "polygon", SQUARE), {"imagePath": None}, {}, "this is no LabelMe file"),
        (shape("cyst", "polygon", SQUARE), {"shapes": None}, {}, "the list 'shapes' is missing"),
    ],
)
def test_labelme_faults_are_named(item, changes, given, message, tmp_path):
    source = labelme_set(tmp_path / "in", item, **changes)
    with pytest.raises(MedsegError, match=message):
        laid_out(labelme.prepare, source, tmp_path / "out", **OWN, **given)
    assert not (tmp_path / "out").exists()


# Folders


def picture(path: Path, value: int = 90) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 5), value, np.uint8)).save(path)


def test_a_folder_with_masks_of_equal_names(tmp_path):
    for stem in ("p1_a", "p2_a"):
        picture(tmp_path / "in" / "images" / f"{stem}.jpg")
        picture(tmp_path / "in" / "masks" / f"{stem}.png", 255)
    masks = laid_out(
        folder.prepare, tmp_path / "in", tmp_path / "out", patient="^(p.)", spacing="0.1x0.08", domain="GE"
    )
    assert sorted(masks) == ["p1_a", "p2_a"]
    assert [(item.patient, item.domain) for item in laid_out.cases] == [("p1", "GE"), ("p2", "GE")]
    assert laid_out.cases[0].attributes["spacing"] == "0.1x0.08"


def test_a_folder_with_several_masks_beside_each_image(tmp_path):
    for name in (
        "benign (1)",
        "benign (1)_mask",
        "benign (1)_mask_1",
        "benign (10)",
        "benign (10)_mask",
        "[x]",
        "[x]_mask",
    ):
        picture(tmp_path / "in" / f"{name}.png", 255 if "mask" in name else 90)
    masks = laid_out(folder.prepare, tmp_path / "in", tmp_path / "out", mask="{stem}_mask*", **OWN)
    assert sorted(masks) == ["[x]", "benign (1)", "benign (10)"]
    assert [len(item.masks) for item in laid_out.cases] == [1, 2, 1]


def test_a_folder_with_modalities_one_of_them_missing(tmp_path):
    for name in ("a_t1", "a_t2", "b_t2"):
        picture(tmp_path / "in" / "images" / f"{name}.png")
    for name in ("a", "b"):
        picture(tmp_path / "in" / "masks" / f"{name}.png", 1)
    laid_out(folder.prepare, tmp_path / "in", tmp_path / "out", modalities="_t1,_t2", values="0:0,1:255", **OWN)
    assert [[path and path.name for path in item.images] for item in laid_out.cases] == [
        ["a_0000.png", "a_0001.png"], [None, "b_0001.png"],
    ]  # fmt: skip
    assert np.asarray(Image.open(laid_out.cases[0].masks[0])).max() == 255


def test_patients_from_a_table(tmp_path):
    picture(tmp_path / "in" / "images" / "x.png")
    picture(tmp_path / "in" / "masks" / "x.png", 255)
    table = tmp_path / "p.csv"
    table.write_text("image,patient\nx.png,mueller\n")
    laid_out(folder.prepare, tmp_path / "in", tmp_path / "out", patients=str(table))
    assert laid_out.cases[0].patient == "mueller"
    table.write_text("image,patient\ny.png,mueller\n")
    with pytest.raises(DataError, match="no patient for image 'x'"):
        laid_out(folder.prepare, tmp_path / "in", tmp_path / "b", patients=str(table))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "which images share a patient is unknown"),
        ({**OWN, "patient": "(x)"}, "exactly one of"),
        ({"patient": "x"}, r"has no \(group\)"),
        ({"patient": "(x"}, "no regular expression"),
        ({"patient": "(q)"}, "no patient found in 'p1_a'"),
        ({"patients": "none.csv"}, "the table cannot be read"),
        ({**OWN, "mask": "fixed"}, "write how a mask's name follows"),
        ({**OWN, "mask": "{stem}_seg"}, "no mask named 'p1_a_seg'"),
        ({**OWN, "masks": "nowhere"}, "folder is missing below the source"),
        ({**OWN, "images": "scans"}, "folder is missing below the source"),
        ({**OWN, "values": "0:0,1"}, "write value:label pairs"),
        ({**OWN, "values": "0:0,1:300"}, "labels 0 to 255"),
        ({**OWN, "values": "0:0"}, r"value\(s\) 255 outside"),
        ({**OWN, "modalities": "_t1,_t1"}, "names that differ"),
        ({**OWN, "modalities": "_t1,_t2"}, "ends with none of modalities"),
    ],
)
def test_folder_faults_are_named(given, message, tmp_path):
    picture(tmp_path / "in" / "images" / "p1_a.png")
    picture(tmp_path / "in" / "masks" / "p1_a.png", 255)
    with pytest.raises(MedsegError, match=message):
        laid_out(folder.prepare, tmp_path / "in", tmp_path / "out", **given)
    assert not (tmp_path / "out").exists()


def test_images_and_masks_in_one_folder_need_a_rule(tmp_path):
    picture(tmp_path / "in" / "a.png")
    with pytest.raises(ConfigError, match="say how masks are named"):
        laid_out(folder.prepare, tmp_path / "in", tmp_path / "out", **OWN)


def test_two_files_of_one_stem_are_refused(tmp_path):
    for name in ("a.png", "a.jpg"):
        picture(tmp_path / "in" / "images" / name)
    with pytest.raises(DataError, match=r"a\.png: same stem as a\.jpg"):
        laid_out(folder.prepare, tmp_path / "in", tmp_path / "out", **OWN)


def test_class_values_and_their_sentence():
    assert options.class_values(["a"]) == {"a": 255}
    assert options.class_values(["b", "a"]) == {"b": 1, "a": 2}
    assert options.class_note({"a": 255}).endswith("labels: {0: 0, 255: 1}.")
    with pytest.raises(ConfigError, match="256 classes"):
        options.class_values([str(number) for number in range(256)])
