"""Files to arrays: exact values, and one clear line for everything that is wrong."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fakes import draw_pair
from medseg.data.cases import Case, spacing_of
from medseg.data.files import foreground_fraction, image_size, read_case, read_image, read_mask, write_mask
from medseg.errors import ConfigError, DataError

LABELS = {0: 0, 255: 1}


def save(path: Path, pixels: np.ndarray, **options: object) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


def one_line(caught: pytest.ExceptionInfo[BaseException]) -> bool:
    return "\n" not in str(caught.value)


def test_grey_and_colour_files_give_the_asked_channels(tmp_path: Path) -> None:
    colour = np.zeros((5, 7, 3), np.uint8)
    colour[..., 0] = 200
    path = save(tmp_path / "c.png", colour)
    assert read_image(path, channels=3).shape == (5, 7, 3)
    assert (read_image(path, channels=3)[..., 0] == 200).all()
    # ITU-R 601: 0.299 * 200 = 59.8
    assert (read_image(path, channels=1) == 60).all()
    grey = save(tmp_path / "g.png", np.full((5, 7), 9, np.uint8))
    assert (read_image(grey, channels=3) == 9).all()
    assert image_size(grey) == (5, 7)


def test_sixteen_bit_is_scaled_from_its_full_range(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = save(tmp_path / "w.png", np.array([[0, 257, 32896, 65535]], np.uint16))
    assert read_image(path, channels=1)[..., 0].tolist() == [[0, 1, 128, 255]]
    read_image(save(tmp_path / "dark.png", np.full((2, 2), 4000, np.uint16)), channels=1)
    assert "will be dark" in caplog.text


def test_two_channels_of_one_file_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "g.png", np.zeros((4, 4), np.uint8))
    with pytest.raises(ConfigError, match="1 or 3 channels"):
        read_image(path, channels=2)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif"])
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
def test_cut_files_are_refused(tmp_path: Path, suffix: str, kept: float) -> None:
    image, _ = draw_pair(1, size=(80, 90))
    path = save(tmp_path / f"cut.{suffix}", image[..., 0])
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(DataError, match=r"cut\.\w+: file is unreadable or cut short .*copy it again") as caught:
        read_image(path, channels=1)
    assert one_line(caught)


def test_garbage_empty_and_missing_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "garbage.png").write_bytes(b"no picture at all")
    (tmp_path / "empty.png").write_bytes(b"")
    for name in ("garbage.png", "empty.png"):
        with pytest.raises(DataError, match=rf"{name}: file is unreadable") as caught:
            read_image(tmp_path / name, channels=1)
        assert one_line(caught)
    with pytest.raises(DataError, match=r"absent\.png: file is missing"):
        read_mask(tmp_path / "absent.png", labels=LABELS)


def test_several_frames_are_refused(tmp_path: Path) -> None:
    frames = [Image.fromarray(np.full((4, 4), value, np.uint8)) for value in (0, 9)]
    frames[0].save(tmp_path / "two.tif", save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match="2 frames"):
        read_image(tmp_path / "two.tif", channels=1)


def test_mask_values_become_class_indices(tmp_path: Path) -> None:
    path = save(tmp_path / "m.png", np.array([[0, 10, 20], [0, 0, 20]], np.uint8))
    assert read_mask(path, labels={0: 0, 10: 2, 20: 1}).tolist() == [[0, 2, 1], [0, 0, 1]]


def test_mask_value_7_is_refused_with_its_remedy(tmp_path: Path) -> None:
    path = save(tmp_path / "m.png", np.array([[0, 255], [7, 0]], np.uint8))
    with pytest.raises(
        DataError, match=r"m\.png: mask holds value\(s\) 7 outside the declared \[0, 255\].*data\.labels"
    ):
        read_mask(path, labels=LABELS)


def test_jpeg_mask_is_thresholded_at_127_not_at_0(tmp_path: Path) -> None:
    truth = np.zeros((64, 64), np.uint8)
    truth[20:40, 20:45] = 255
    path = save(tmp_path / "m.jpg", truth, quality=30)
    smeared = np.asarray(Image.open(path))
    assert ((smeared > 0) != (truth > 0)).sum() > 20, "the file must really be smeared for this test to mean anything"
    mask = read_mask(path, labels=LABELS)
    assert (mask != (smeared > 127)).sum() == 0
    assert (mask != (truth > 0)).mean() < 0.01
    renamed = path.rename(tmp_path / "really_a_jpeg.png")
    assert (read_mask(renamed, labels=LABELS) == mask).all()


def test_jpeg_mask_of_three_classes_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "m.jpg", np.zeros((8, 8), np.uint8))
    with pytest.raises(DataError, match="JPEG mask holds two classes at most, 3 are declared"):
        read_mask(path, labels={0: 0, 1: 1, 2: 2})


def test_png_mask_is_never_thresholded(tmp_path: Path) -> None:
    path = save(tmp_path / "m.png", np.array([[0, 254]], np.uint8))
    with pytest.raises(DataError, match="254"):
        read_mask(path, labels=LABELS)


def test_equal_channels_palette_and_one_bit_masks(tmp_path: Path) -> None:
    flat = np.array([[0, 255], [255, 0]], np.uint8)
    assert read_mask(save(tmp_path / "rgb.png", np.stack([flat] * 3, 2)), labels=LABELS).tolist() == [[0, 1], [1, 0]]
    assert read_mask(save(tmp_path / "bit.png", flat > 0), labels=LABELS).tolist() == [[0, 1], [1, 0]]
    palette = Image.fromarray(np.array([[0, 2], [1, 0]], np.uint8), mode="P")
    palette.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    palette.save(tmp_path / "p.png")
    assert read_mask(tmp_path / "p.png", labels={0: 0, 1: 1, 2: 2}).tolist() == [[0, 2], [1, 0]]
    uneven = np.zeros((2, 2, 3), np.uint8)
    uneven[0, 0, 1] = 255
    with pytest.raises(DataError, match="colour picture"):
        read_mask(save(tmp_path / "u.png", uneven), labels=LABELS)


def test_written_mask_reads_back(tmp_path: Path) -> None:
    labels = np.arange(6, dtype=np.int64).reshape(2, 3)
    write_mask(tmp_path / "new" / "m.png", labels)
    assert (read_mask(tmp_path / "new" / "m.png", labels={value: value for value in range(6)}) == labels).all()
    with pytest.raises(DataError, match="values 0 to 255"):
        write_mask(tmp_path / "m.png", labels + 251)


def case_of(tmp_path: Path, *images: str, **fields: object) -> Case:
    return Case("a", "p", tuple(tmp_path / name for name in images), (tmp_path / "m.png",), **fields)


def test_sizes_that_differ_are_named(tmp_path: Path) -> None:
    save(tmp_path / "i.png", np.zeros((4, 6), np.uint8))
    save(tmp_path / "m.png", np.zeros((4, 5), np.uint8))
    with pytest.raises(DataError, match=r"m\.png: mask is 4x5 but its image i\.png is 4x6 \(rows x columns\)"):
        read_case(case_of(tmp_path, "i.png"), channels=1, labels=LABELS)


def test_modalities_become_channels(tmp_path: Path) -> None:
    for value, name in ((10, "t1.png"), (20, "t2.png")):
        save(tmp_path / name, np.full((4, 6), value, np.uint8))
    save(tmp_path / "m.png", np.zeros((4, 6), np.uint8))
    image, _ = read_case(case_of(tmp_path, "t1.png", "t2.png"), channels=2, labels=LABELS)
    assert image[0, 0].tolist() == [10, 20]
    with pytest.raises(DataError, match="2 image files, data.card.in_channels=3"):
        read_case(case_of(tmp_path, "t1.png", "t2.png"), channels=3, labels=LABELS)


def test_foreground_fraction_from_manifest_or_mask(tmp_path: Path) -> None:
    save(tmp_path / "m.png", np.array([[0, 255, 255, 255]], np.uint8))
    assert foreground_fraction(case_of(tmp_path, "i.png")) == 0.75
    assert foreground_fraction(case_of(tmp_path, "i.png", attributes={"fg_fraction": "0.5"})) == 0.5
    with pytest.raises(DataError, match="fg_fraction 'much' is not in"):
        foreground_fraction(case_of(tmp_path, "i.png", attributes={"fg_fraction": "much"}))


def test_spacing_counts_only_in_physical_units(tmp_path: Path) -> None:
    case = case_of(tmp_path, "i.png", attributes={"spacing": "0.1x0.08"})
    assert spacing_of(case, unit="px") == (1.0, 1.0)
    assert spacing_of(case, unit="mm") == (0.1, 0.08)
    with pytest.raises(DataError, match="ROWxCOLUMN in mm"):
        spacing_of(case_of(tmp_path, "i.png"), unit="mm")
