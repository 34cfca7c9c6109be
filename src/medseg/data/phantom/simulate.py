"""One picture with its reference, from a seed and two numbers."""

from dataclasses import dataclass

import numpy as np

from medseg.data.phantom.anatomy import paint_scan
from medseg.data.phantom.export import export, lay_out
from medseg.data.phantom.patient import Patient, View, draw_patient, draw_view
from medseg.data.phantom.physics import compress, contact_db, envelope
from medseg.data.phantom.scanner import Scanner
from medseg.rng import generator


@dataclass(frozen=True)
class Picture:
    """An exported screen and its maps, each uint8 (rows, columns); maps are 0 or 255."""

    image: np.ndarray
    nodule: np.ndarray
    gland: np.ndarray
    cyst: np.ndarray
    view: View


def patient_of(seed: int, number: int) -> Patient:
    """Return patient ``number`` of the dataset of a seed."""
    return draw_patient(generator(seed, "phantom", number))


def simulate(
    seed: int, *, patient: int, image: int, scanner: Scanner, size: tuple[int, int], empty_fraction: float = 0.0
) -> Picture:
    """Return one image of one patient; it depends on nothing but the arguments.

    Args:
        seed: seed of the dataset.
        patient: number of the patient.
        image: number of the image of that patient.
        scanner: the machine.
        size: (rows, columns) of the exported screen.
        empty_fraction: chance that the plane misses the nodule.
    """
    anatomy = patient_of(seed, patient)
    rng = generator(seed, "phantom", patient, image)
    view = draw_view(rng, anatomy, empty=bool(rng.random() < empty_fraction))
    grid, corner = lay_out(size, scanner, depth_mm=view.depth_mm)
    maps = paint_scan(anatomy, view, grid=grid, rng=rng)
    amplitude = envelope(maps, scanner, rng=rng, tgc_db=view.tgc_db)
    lifted = contact_db(grid, left=view.contact[0], right=view.contact[1])
    scan = compress(amplitude * 10 ** (-lifted / 20), scanner, gain_db=view.gain_db)
    screen = export(scan, size=size, grid=grid, corner=corner, scanner=scanner, patient=anatomy, view=view)
    nodule, gland, cyst = (_framed(mask, size, corner) for mask in (maps.nodule, maps.gland, maps.cyst))
    return Picture(screen, nodule, gland, cyst, view)


def _framed(mask: np.ndarray, size: tuple[int, int], corner: tuple[int, int]) -> np.ndarray:
    screen = np.zeros(size, np.uint8)
    screen[corner[0] : corner[0] + mask.shape[0], corner[1] : corner[1] + mask.shape[1]] = 255 * mask
    return screen
