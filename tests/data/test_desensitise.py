"""Desensitising takes text off, spares the scan, and refuses what it does not understand."""

import cv2
import numpy as np
import pytest

from fake_screens import FONTS, INKS, LAYOUTS, Screen, bare_screen, draw_screen, put_letters
from medseg.data.preprocess import Preprocess
from medseg.data.steps.desensitise import Cleaned, Desensitise, clean
from medseg.data.steps.sector import find_sector
from medseg.data.steps.text import TextFinder
from medseg.errors import ConfigError, DataError
from medseg.rng import generator

YELLOW = (240, 220, 40)


def letters_left(screen: Screen, cleaned: Cleaned) -> int:
    """Letters of which more than half the pixels are as they were, within three grey levels."""
    same = (np.abs(cleaned.image.astype(int) - screen.image) <= 3).all(axis=2)
    count = int(screen.letters.max()) + 1
    whole = np.bincount(screen.letters[screen.letters > 0], minlength=count)
    return int((np.bincount(screen.letters[same], minlength=count)[1:] > 0.5 * whole[1:]).sum())


def unchanged(screen: Screen, cleaned: Cleaned) -> float:
    """Share of the scan, further than 4 pixels from any overlay, with exactly its value."""
    near = cv2.dilate(screen.overlay.astype(np.uint8), np.ones((9, 9), np.uint8)).astype(bool)
    return float((cleaned.image == screen.image).all(axis=2)[screen.scan & ~near].mean())


# ---- the scan


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_scan_is_found_to_the_pixel_beside_ruler_text_and_wedge(layout: str) -> None:
    for seed in (1, 2):
        screen = draw_screen(seed, layout=layout)
        sector = find_sector(screen.image)
        assert not sector.doubts
        assert set(sector.kinds) == {"fan" if layout == "fan" else "rectangle"}
        assert len(sector.kinds) == (2 if layout == "two" else 1)
        missed, extra = (screen.scan & ~sector.mask).sum(), (sector.mask & ~screen.scan).sum()
        assert missed / screen.scan.sum() < (0.01 if layout == "fan" else 0.003)
        assert extra / screen.scan.sum() < 0.01


def test_a_scan_that_fills_the_picture_is_all_of_it() -> None:
    screen = bare_screen(3)
    rows, columns = np.flatnonzero(screen.scan.any(axis=1)), np.flatnonzero(screen.scan.any(axis=0))
    full = screen.image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    assert find_sector(full).mask.all()


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((200, 300, 1), np.uint8),
        np.full((200, 300, 3), 7, np.uint8),
        np.pad(np.full((12, 200, 1), 255, np.uint8), ((90, 98), (50, 50), (0, 0))),
    ],
    ids=["black", "grey", "one bar"],
)
def test_a_picture_without_a_scan_is_refused(picture: np.ndarray) -> None:
    assert find_sector(picture).doubts == ("no clear scan",)
    assert clean(picture).image.max() == 0, "and nothing of it is passed on"
    with pytest.raises(DataError, match=r"cannot be desensitised safely \(no clear scan"):
        Desensitise()(picture)


def test_a_page_of_text_is_refused() -> None:
    page = bare_screen(0)
    page.image[:] = 0
    for row in range(0, 460, 18):
        put_letters(page, "DOE JANE 12.05.1971 ID 8841207", at=(row, 10), font=FONTS[0], pixels=15, ink=[255])
    with pytest.raises(DataError, match="cannot be desensitised safely"):
        Desensitise()(page.image)


# ---- text


@pytest.mark.parametrize("font", FONTS)
@pytest.mark.parametrize("ink", INKS)
def test_no_letter_is_left_and_the_scan_stays(font: str, ink: int) -> None:
    number = FONTS.index(font) * 3 + INKS.index(ink)
    screen = draw_screen(number, font=font, ink=ink, layout=LAYOUTS[number % 3], inside=True)
    cleaned = clean(screen.image)
    assert letters_left(screen, cleaned) == 0 or cleaned.doubts
    assert not cleaned.doubts or ink < 255, "only faint ink may be refused"
    assert unchanged(screen, cleaned) > 0.975
    outside = ~screen.scan
    assert cleaned.image[outside & ~cleaned.scan].max() == 0


def test_coloured_text_goes_and_the_colour_of_flow_stays() -> None:
    screen = draw_screen(4, inside=True, colour=YELLOW)
    flow = np.zeros(screen.scan.shape, bool)
    flow[100:150, 160:220] = True
    shade = cv2.GaussianBlur(generator(0, "flow").uniform(120, 255, flow.shape).astype(np.float32), (0, 0), 3)
    screen.image[flow] = np.stack([shade, shade / 4, shade / 4], axis=2)[flow].astype(np.uint8)
    cleaned = clean(screen.image)
    assert letters_left(screen, cleaned) == 0
    spread = cleaned.image.max(axis=2).astype(int) - cleaned.image.min(axis=2)
    assert (spread[flow] > 48).mean() > 0.9
    assert (spread[~flow] > 48).mean() < 0.004


def test_without_an_overlay_nearly_nothing_is_filled_in() -> None:
    shares = [clean(bare_screen(seed, layout=LAYOUTS[seed % 3]).image).removed.mean() for seed in range(6)]
    assert np.mean(shares) < 0.003


def test_what_the_finder_leaves_raises_a_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = draw_screen(2, inside=True)
    nothing = np.zeros(screen.scan.shape, bool)
    monkeypatch.setattr(TextFinder, "find", lambda self, image: nothing)
    assert "text-like residue" in clean(screen.image).doubts


def test_ink_that_is_no_brighter_than_the_scan_around_it_raises_a_doubt() -> None:
    screen = bare_screen(1)
    rows = slice(200, 260)
    screen.image[rows] = np.clip(screen.image[rows].astype(int) * 2 + 40, 0, 255)
    put_letters(screen, "DOE JANE 1971", at=(220, 200), font=FONTS[1], pixels=18, ink=[150])
    assert "faint text within the scan" in clean(screen.image).doubts


def test_text_may_be_refused_instead_of_filled_in_and_doubts_may_be_kept() -> None:
    screen = draw_screen(2, inside=True)
    with pytest.raises(DataError, match="graphics within the scan"):
        Desensitise(text="refuse")(screen.image)
    kept = Desensitise(text="keep")(screen.image)
    assert np.array_equal(kept[screen.scan], screen.image[screen.scan])
    assert Desensitise(doubt="keep")(np.zeros((90, 90, 1), np.uint8)).max() == 0
    for wrong in ({"text": "ocr"}, {"doubt": "hope"}):
        with pytest.raises(ConfigError, match="is unknown"):
            Desensitise(**wrong)


def test_the_step_works_in_the_pipeline_with_one_and_three_channels() -> None:
    screen = draw_screen(6, layout="fan")
    recipe = Preprocess(size=64, steps=[Desensitise()])
    for image in (screen.image, np.repeat(screen.image, 3, axis=2)):
        small, _, geometry = recipe.do(image)
        assert small.shape == (64, 64, image.shape[2])
        assert geometry.box == (0, 0, *screen.scan.shape), "the shape of the picture stays"
    assert "Desensitise(text='inpaint', doubt='refuse')" in recipe.recipe
