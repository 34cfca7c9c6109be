"""Measures what desensitising ultrasound screens removes and what it spares, on synthetic screens.

    python benchmarks/deidentification.py [--frames 1000] [--jpeg 90] [--sheet sheet.png]

Screens are simulated scans (linear, convex, two windows) with names, numbers, dates, settings, calipers, ruler, wedge
and a mark of a maker, in 5 fonts x 3 levels of ink, half of them with a name within the scan, some in colour. Stated:

- frames refused: a doubt was raised, nothing is passed on;
- frames leaking: passed on although a letter is left, which is a letter of which more than half the pixels (those the
  letter covers by half or more) are as they were within three grey levels; recall is 1 minus the share of leaks;
- text pixels changed: share over the frames passed on;
- scan unchanged: share of the scan's pixels, further than 4 pixels from any overlay, that have exactly the value they
  had, over the frames passed on. Before JPEG only, where exactness is defined.

The last row has screens without any overlay, where everything removed is a loss.
"""

import argparse
import io
import sys
import time
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from fake_screens import FONTS, INKS, LAYOUTS, Screen, bare_screen, draw_screen
from medseg.data.steps.desensitise import Cleaned, clean

YELLOW = (240, 220, 40)
TOLERANCE = 3


def recompressed(image: np.ndarray, quality: int) -> np.ndarray:
    """Return the image after JPEG at a quality; 0 leaves it."""
    if not quality:
        return image
    stream = io.BytesIO()
    Image.fromarray(image.squeeze()).save(stream, format="JPEG", quality=quality)
    pixels = np.asarray(Image.open(stream))
    return pixels.reshape(image.shape)


def letters_left(screen: Screen, image: np.ndarray, cleaned: Cleaned) -> tuple[int, int, int]:
    """Return letters left, text pixels changed, text pixels."""
    letter = screen.letters > 0
    same = (np.abs(cleaned.image.astype(int) - image) <= TOLERANCE).all(axis=2)
    count = int(screen.letters.max()) + 1
    all_pixels = np.bincount(screen.letters[letter], minlength=count)
    left = np.bincount(screen.letters[letter & same], minlength=count)
    return int((left > 0.5 * all_pixels).sum()), int((letter & ~same).sum()), int(letter.sum())


def spared(screen: Screen, image: np.ndarray, cleaned: Cleaned) -> tuple[int, int]:
    """Return unchanged pixels and pixels of the scan away from the overlay."""
    near = cv2.dilate(screen.overlay.astype(np.uint8), np.ones((9, 9), np.uint8)).astype(bool)
    away = screen.scan & ~near
    return int((cleaned.image == image).all(axis=2)[away].sum()), int(away.sum())


def frame(number: int) -> tuple[str, Screen]:
    """Return the group and the screen of a frame: fonts, inks and layouts in all combinations."""
    font, ink = FONTS[number % 5], INKS[number // 5 % 3]
    layout = LAYOUTS[number // 15 % 3]
    colour = YELLOW if number % 10 == 9 or (number % 10 == 4 and number % 4 == 0) else None
    screen = draw_screen(number, font=font, ink=ink, layout=layout, inside=number // 45 % 2 == 0, colour=colour)
    return f"{layout}, ink {'colour' if colour else ink}", screen


def main() -> None:
    """Run and print one row per group."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--jpeg", type=int, default=0, help="quality the screens are compressed with; 0 is not")
    parser.add_argument("--sheet", type=Path, default=None, help="PNG of the frames that leak or lose most")
    options = parser.parse_args()
    sums: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(8))
    odd, reasons, seconds = [], defaultdict(int), 0.0
    for number in range(options.first, options.first + options.frames):
        group, screen = frame(number)
        image = recompressed(screen.image, options.jpeg)
        start = time.perf_counter()
        cleaned = clean(image)
        seconds += time.perf_counter() - start
        refused = bool(cleaned.doubts)
        for doubt in cleaned.doubts:
            reasons[doubt.rstrip("0123456789. only")] += 1
        left, changed, text = letters_left(screen, image, cleaned)
        same, away = spared(screen, image, cleaned)
        passed = np.array([left > 0, changed, text, same, away]) * (not refused)
        for key in (group, "all", "name in the scan" if screen.inside else "no name in the scan"):
            sums[key] += [1, refused, *passed, left > 0]
        if left or same < 0.97 * away:
            odd.append((number, group, left, refused, round(same / away, 4), image, cleaned.image))
    for number in range(60):
        screen = bare_screen(number, layout=LAYOUTS[number % 3])
        cleaned = clean(screen.image)
        same, away = spared(screen, screen.image, cleaned)
        sums["no overlay at all"] += [1, bool(cleaned.doubts), 0, 0, 0, same, away, 0]
    print(f"{'':24} frames refused leaking  recall text-px-changed scan-unchanged  (letters left incl. refused)")
    for key, (count, refused, leaking, changed, text, same, away, any_left) in sorted(sums.items()):
        shares = f"{changed / text if text else 1:15.4%} {same / away if away else 1:14.4%}"
        print(
            f"{key:24} {count:6.0f} {refused:7.0f} {leaking:7.0f} {1 - leaking / count:7.2%} {shares} {any_left:6.0f}"
        )
    print(f"{1000 * seconds / options.frames:.0f} ms a frame; doubts: {dict(reasons)}")
    for row in odd[:40]:
        print("look at", *row[:5])
    if options.sheet and odd:
        pairs = [np.concatenate([row[5][..., 0], row[6][..., 0]], axis=1) for row in odd[:12]]
        Image.fromarray(np.concatenate(pairs)).save(options.sheet)


if __name__ == "__main__":
    main()
