"""The screen around a scan: where it stands, depth marks, grey wedge and burnt-in text, as in a hospital's export.

The letters are a bitmap of our own (5 x 7), so that no font library can change the pixels.
"""

import numpy as np

from medseg.data.phantom.patient import Patient, View
from medseg.data.phantom.scanner import Scanner
from medseg.data.phantom.texture import Grid

_GLYPHS = {
    "0": "0e11131519110e", "1": "040c040404040e", "2": "0e11010204081f", "3": "1f02040201110e", "4": "02060a121f0202",
    "5": "1f101e0101110e", "6": "0608101e11110e", "7": "1f010204080808", "8": "0e11110e11110e", "9": "0e11110f01020c",
    "A": "0e11111f111111", "B": "1e11111e11111e", "C": "0e11101010110e", "D": "1c12111111121c", "E": "1f10101e10101f",
    "F": "1f10101e101010", "G": "0e11101711110f", "H": "1111111f111111", "I": "0e04040404040e", "L": "1010101010101f",
    "M": "111b1515111111", "N": "11191513111111", "O": "0e11111111110e", "P": "1e11111e101010", "R": "1e11111e141211",
    "S": "0f10100e01011e", "T": "1f040404040404", "X": "11110a040a1111", "Z": "1f01020408101f",
    ".": "00000000000c0c", "-": "0000001f000000", " ": "00000000000000",
}  # fmt: skip
"""Seven rows of five pixels per letter, two hexadecimal digits a row."""


def lay_out(size: tuple[int, int], scanner: Scanner, *, depth_mm: float) -> tuple[Grid, tuple[int, int]]:
    """Return the scan grid and the (row, column) of its top left corner on a screen of ``size`` (rows, columns).

    The scan fills 85 % of the height, or less where the probe's width would not fit beside the text.
    """
    rows = round(0.85 * size[0])
    pixel_mm = depth_mm / rows
    columns = min(round(scanner.probe_mm / pixel_mm), round(0.83 * size[1]))
    text = round(0.125 * size[1])
    free = size[1] - columns - text
    left = free // 2 + (text if scanner.text_side == "left" else 0)
    return Grid.below_probe((rows, columns), pixel_mm=pixel_mm), (round(0.03 * size[0]), left)


def export(
    scan: np.ndarray, *, size: tuple[int, int], grid: Grid, corner: tuple[int, int], scanner: Scanner,
    patient: Patient, view: View,
) -> np.ndarray:  # fmt: skip
    """Return the exported screen, uint8 (rows, columns) of ``size``.

    Args:
        scan: grey levels on the scan grid.
        size: (rows, columns) of the screen.
        grid: the scan grid.
        corner: where the scan's top left pixel goes.
        scanner: style of the overlay and the settings it prints.
        patient: for the side that is printed.
        view: for the plane and the gain that are printed.
    """
    screen = np.full(size, scanner.ground, np.uint8)
    top, left = corner
    screen[top : top + grid.shape[0], left : left + grid.shape[1]] = scan
    _marks(screen, grid, corner, scanner)
    if scanner.grey_bar:
        _wedge(screen, scanner)
    enlarge = max(1, round(size[0] / 360))
    column = left + grid.shape[1] + 5 if scanner.text_side == "right" else 3
    row = max(top, 2)
    for line in _settings(scanner, view):
        write(screen, line, at=(row, column), ink=scanner.ink, enlarge=enlarge)
        row += 11 * enlarge
    plane = "LONG" if view.longitudinal else "TRANS"
    label = f"{'RT' if patient.side > 0 else 'LT'} {plane}  PHANTOM"
    write(screen, label, at=(top + grid.shape[0] + 8 * enlarge, left + 6), ink=scanner.ink, enlarge=enlarge)
    write(screen, "T", at=(top + 5, left + grid.shape[1] - 16 * enlarge), ink=180, enlarge=enlarge)
    return screen


def _settings(scanner: Scanner, view: View) -> list[str]:
    gain = f"{88 + view.gain_db:.0f}"
    if scanner.text_side == "right":
        return ["P100", "L12", f"{scanner.frequency_mhz:.1f}", "28HZ", f"DR{scanner.dynamic_range_db:.0f}", f"G{gain}"]
    return [f"F {scanner.frequency_mhz:.0f}M", f"D {view.depth_mm / 10:.1f}", f"G {gain}", "MI 0.9", "TIS0.4"]


def write(screen: np.ndarray, text: str, *, at: tuple[int, int], ink: int, enlarge: int = 1) -> None:
    """Write capitals into ``screen``; what lies beyond its edge is cut.

    Args:
        screen: uint8 (rows, columns), changed in place.
        text: capitals, digits, point, hyphen and blank, as far as the alphabet has them.
        at: (row, column) of the top left corner.
        ink: grey level.
        enlarge: pixels per dot.
    """
    column = at[1]
    for letter in text:
        lines = bytes.fromhex(_GLYPHS[letter])
        dots = np.array([[line >> (4 - bit) & 1 for bit in range(5)] for line in lines], bool)
        dots = np.kron(dots, np.ones((enlarge, enlarge), bool))
        target = screen[at[0] : at[0] + dots.shape[0], max(column, 0) : max(column + dots.shape[1], 0)]
        target[dots[: target.shape[0], : target.shape[1]]] = ink
        column += 6 * enlarge


def _marks(screen: np.ndarray, grid: Grid, corner: tuple[int, int], scanner: Scanner) -> None:
    """Draw centimetre marks beside and above the scan, with a 0 and every fifth centimetre written."""
    top, left = corner
    reach = 2 if scanner.ticks == "dots" else 5
    column = left - 4 if scanner.text_side == "right" else left + grid.shape[1] + 3
    for centimetre in range(int(grid.shape[0] * grid.pixel_mm / 10) + 1):
        row = top + round(10 * centimetre / grid.pixel_mm)
        screen[row : row + (2 if reach == 2 else 1), max(column, 0) : max(column + reach, 0)] = scanner.ink
        if centimetre % 5 == 0:
            write(
                screen,
                str(centimetre),
                at=(max(row - 3, 0), column - 8 if column < left else column + 8),
                ink=scanner.ink,
            )
    if reach == 2:
        across = int(grid.shape[1] * grid.pixel_mm / 20)
        for centimetre in range(-across, across + 1):
            middle = left + grid.shape[1] // 2 + round(10 * centimetre / grid.pixel_mm)
            screen[max(top - 4, 0) : max(top - 2, 0), middle : middle + 2] = scanner.ink


def _wedge(screen: np.ndarray, scanner: Scanner) -> None:
    """Draw the grey map as a vertical bar at the left edge."""
    rows = round(scanner.grey_bar * screen.shape[0])
    start = round(0.42 * screen.shape[0])
    screen[start : start + rows, 2:8] = np.linspace(255, 0, rows).astype(np.uint8)[:, None]
