"""Makers of ultrasound screens with burnt-in text, and the truth about every letter in them.

The scans are the phantom's. Screens hold what exports hold: lines with a name, a number and a date, settings, a ruler,
a grey wedge, a mark of the maker, calipers with a dotted line, and in some frames text within the scan.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import matplotlib as mpl
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from medseg.data.phantom.anatomy import paint_scan
from medseg.data.phantom.export import lay_out
from medseg.data.phantom.patient import draw_view
from medseg.data.phantom.physics import compress, contact_db, envelope
from medseg.data.phantom.scanner import SCANNERS
from medseg.data.phantom.simulate import patient_of
from medseg.rng import generator

FONTS = ("DejaVuSans.ttf", "DejaVuSerif-Bold.ttf", "DejaVuSansMono.ttf", "STIXGeneralBol.ttf", "cmss10.ttf")
INKS = (255, 200, 150)
LAYOUTS = ("linear", "fan", "two")
_NAMES = ("DOE^JANE", "MUELLER, ANNA", "Li Wei", "GARCIA-LOPEZ M", "OKAFOR CHIDI")


@dataclass
class Screen:
    """A screen and what is known about it.

    Attributes:
        image: uint8 (H, W, C) as exported.
        clean: the same without any overlay and with nothing outside the scan.
        scan: bool (H, W), the true scan.
        letters: int32 (H, W), number of the letter that covers a pixel by half or more; 0 is none.
        overlay: bool (H, W), whatever the overlay touched at all: letters, calipers, ruler, wedge, mark.
        inside: whether text was written within the scan.
    """

    image: np.ndarray
    clean: np.ndarray
    scan: np.ndarray
    letters: np.ndarray
    overlay: np.ndarray
    inside: bool


@lru_cache(maxsize=256)
def scan_pixels(seed: int, size: tuple[int, int]) -> np.ndarray:
    """Return a simulated scan (rows, columns) without overlay, for a screen of about ``size``."""
    scanner, rng = SCANNERS[seed % 2], generator(seed, "screen")
    anatomy = patient_of(7, seed)
    view = draw_view(rng, anatomy, empty=False)
    grid, _ = lay_out(size, scanner, depth_mm=view.depth_mm)
    maps = paint_scan(anatomy, view, grid=grid, rng=rng)
    amplitude = envelope(maps, scanner, rng=rng, tgc_db=view.tgc_db)
    lifted = contact_db(grid, left=view.contact[0], right=view.contact[1])
    return compress(amplitude * 10 ** (-lifted / 20), scanner, gain_db=view.gain_db)


def bare_screen(seed: int, *, layout: str = "linear", size: tuple[int, int] = (480, 640)) -> Screen:
    """Return a screen with a scan and nothing else: ``linear``, ``fan`` (convex probe) or ``two`` windows."""
    screen, scan = np.zeros(size, np.uint8), np.zeros(size, bool)
    pixels = scan_pixels(seed % 40, size)
    if layout == "fan":
        rows, columns = np.indices(size)
        apex = (-60, size[1] // 2 + int(generator(seed, "fan").integers(-20, 21)))
        radius, angle = np.hypot(rows - apex[0], columns - apex[1]), np.arctan2(columns - apex[1], rows - apex[0])
        scan = (radius > 105) & (radius < 480) & (np.abs(angle) < 0.6)
        deep = ((radius[scan] - 105) / 375 * (pixels.shape[0] - 1)).astype(int)
        across = ((angle[scan] + 0.6) / 1.2 * (pixels.shape[1] - 1)).astype(int)
        screen[scan] = pixels[deep, across]
    else:
        lefts = [50, 350] if layout == "two" else [120]
        for number, left in enumerate(lefts):
            part = pixels if number == 0 else scan_pixels((seed + 2) % 40, size)
            part = part[: size[0] - 90, : 270 if layout == "two" else size[1] - 220]
            screen[45 : 45 + part.shape[0], left : left + part.shape[1]] = part
            scan[45 : 45 + part.shape[0], left : left + part.shape[1]] = True
    empty = np.zeros(size, bool)
    return Screen(screen[..., None], screen[..., None].copy(), scan, np.zeros(size, np.int32), empty, False)


def put_letters(screen: Screen, text: str, *, at: tuple[int, int], font: str, pixels: int, ink: Sequence[int]) -> None:
    """Write a line into ``screen`` (in place), its top left at ``at`` (row, column), and note every letter."""
    face = ImageFont.truetype(str(Path(mpl.get_data_path()) / "fonts" / "ttf" / font), pixels)
    column = float(at[1])
    for letter in text:
        cover = Image.new("L", screen.scan.shape[::-1], 0)
        ImageDraw.Draw(cover).text((column, at[0]), letter, fill=255, font=face)
        _blend(screen, cover, ink, letter=True)
        column += face.getlength(letter)


def _blend(screen: Screen, drawn: Image.Image, ink: Sequence[int], *, letter: bool = False) -> None:
    box = drawn.getbbox()
    if box is None:
        return
    place = (slice(box[1], box[3]), slice(box[0], box[2]))
    cover = np.asarray(drawn.crop(box))
    share = cover[..., None] / 255.0
    mixed = screen.image[place] * (1 - share) + share * np.asarray(ink, np.float64)
    screen.image[place] = np.round(mixed).astype(np.uint8)
    screen.overlay[place] |= cover > 0
    if letter:
        screen.letters[place][cover >= 128] = screen.letters.max() + 1


def put_furniture(screen: Screen, *, ink: int) -> None:
    """Add a ruler, a grey wedge, a mark of the maker and two calipers with a dotted line (in place)."""
    height, width = screen.scan.shape
    cover = Image.new("L", (width, height), 0)
    draw = ImageDraw.Draw(cover)
    right = int(np.flatnonzero(screen.scan.any(axis=0))[-1])
    for row in range(50, height - 60, 30):
        draw.line([(right + 6, row), (right + 11, row)], fill=255)
    draw.rounded_rectangle([8, height - 34, 44, height - 8], radius=6, outline=255, width=2)
    draw.ellipse([16, height - 28, 36, height - 14], fill=255)
    rows, columns = np.nonzero(screen.scan)
    first = (int(np.median(columns)) - 60, int(np.median(rows)) - 12)
    last = (first[0] + 110, first[1] + 26)
    for x, y in (first, last):
        draw.line([(x - 5, y), (x + 5, y)], fill=255)
        draw.line([(x, y - 5), (x, y + 5)], fill=255)
    for step in range(1, 27):
        draw.point((first[0] + step * 110 // 27, first[1] + step * 26 // 27), fill=255)
    _blend(screen, cover, [ink])
    screen.image[120:220, 10:18] = np.linspace(255, 0, 100).astype(np.uint8)[:, None, None]
    screen.overlay[120:220, 10:18] = True


def draw_screen(
    seed: int, *, font: str = FONTS[0], ink: int = 255, layout: str = "linear", inside: bool = False,
    colour: Sequence[int] | None = None, size: tuple[int, int] = (480, 640),
) -> Screen:  # fmt: skip
    """Return a full screen of a seed; with ``colour`` (red, green, blue) it has three channels and coloured text."""
    rng = generator(seed, "text")
    screen = bare_screen(seed, layout=layout, size=size)
    put_furniture(screen, ink=ink)
    paint: Sequence[int] = [ink]
    if colour is not None:
        screen.image, screen.clean = np.repeat(screen.image, 3, axis=2), np.repeat(screen.clean, 3, axis=2)
        paint = colour
    pixels = int(rng.integers(12, 19))
    name = _NAMES[int(rng.integers(len(_NAMES)))]
    number = f"ID {rng.integers(10**6, 10**7)}"
    date = f"{rng.integers(1, 29):02d}.{rng.integers(1, 13):02d}.{rng.integers(1930, 2012)}"
    put_letters(screen, f"{name}  {number}", at=(4, 20), font=font, pixels=pixels, ink=paint)
    put_letters(screen, date, at=(22, 20), font=font, pixels=pixels, ink=paint)
    for line, text in enumerate(("L12-3", "DR65", f"G{rng.integers(60, 99)}")):
        put_letters(screen, text, at=(60 + 20 * line, size[1] - 60), font=font, pixels=13, ink=paint)
    put_letters(screen, "RT TRANS MID", at=(size[0] - 30, 200), font=font, pixels=pixels, ink=paint)
    if inside:
        rows, columns = np.nonzero(screen.scan)
        middle = float(np.median(columns)) if layout != "two" else 180.0
        at = (int(rng.uniform(np.quantile(rows, 0.35), np.quantile(rows, 0.85))), int(middle - rng.uniform(70, 100)))
        put_letters(screen, f"{name.split()[0]} {date[-4:]}", at=at, font=font, pixels=pixels, ink=paint)
    screen.inside = inside
    return screen
