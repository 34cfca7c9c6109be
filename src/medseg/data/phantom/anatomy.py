"""From a patient and a view to the maps of one scan."""

import numpy as np
from scipy.ndimage import gaussian_filter1d

from medseg.data.phantom import neck
from medseg.data.phantom.maps import Maps
from medseg.data.phantom.nodule import GLAND_ATTENUATION, half_height, half_width, paint_nodule
from medseg.data.phantom.patient import Patient, View
from medseg.data.phantom.texture import Grid, ellipse, inside, unite

_MARGIN_MM = 1.6
"""Gland tissue that is left around a nodule; a nodule thicker than the lobe makes the lobe bulge."""
_DROOP_MM = 3.0
"""How far the strap muscles sink beside the gland."""


def nodule_centres(patient: Patient, view: View) -> list[tuple[float, float]]:
    """Return (lateral, depth) in mm of each nodule of the view, all of it behind the lobe's front wall."""
    width = patient.lobe[2] if view.longitudinal else patient.lobe[0]
    centres: list[tuple[float, float]] = []
    for nodule in view.nodules:
        sideways, deep = nodule.place
        high, wide = half_height(nodule), half_width(nodule)
        room = max(2 * patient.lobe[1] - 2 * high - 2, 0.0)
        reach = max(width - wide, 2.0) * (0.6 if view.longitudinal else 1.0)
        lateral = view.offset_mm + patient.side * sideways * reach
        if centres:
            away = half_width(view.nodules[0]) + wide + 1.5
            lateral = centres[0][0] + np.copysign(max(abs(lateral - centres[0][0]), away), lateral - centres[0][0])
        depth = patient.cover + view.slope * lateral + 1.0 + high + deep * room
        centres.append((float(lateral), float(depth)))
    return centres


def paint_scan(patient: Patient, view: View, *, grid: Grid, rng: np.random.Generator) -> Maps:
    """Return the maps of one scan.

    Args:
        patient: the anatomy.
        view: plane and position.
        grid: the scan grid.
        rng: everything that differs between two images of one plane: texture, waviness, small structures.
    """
    maps = Maps.homogeneous(grid)
    centres = nodule_centres(patient, view)
    gland, front = _gland(patient, view, centres, grid, rng)
    neck.paint_background(maps, rng)
    back = _back(patient, view, centres)
    neck.paint_deep(
        maps,
        back=back,
        centre=view.offset_mm + patient.side * rng.uniform(0, 5),
        longitudinal=view.longitudinal,
        spine=patient.spine,
        rng=rng,
    )
    _paint_neighbours(maps, patient, view, centres, back, rng)
    _paint_gland(maps, gland, patient.gland_db, patient.gland_variation_db, rng)
    neck.paint_cover(maps, front, fat=patient.fat, rng=rng)
    for nodule, centre in zip(view.nodules, centres, strict=True):
        paint_nodule(maps, nodule, centre=centre, gland_db=patient.gland_db, rng=rng)
    maps.gland = ((gland <= 0) & (grid.depth >= front)) | maps.nodule
    return maps


def _gland(
    patient: Patient, view: View, centres: list[tuple[float, float]], grid: Grid, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return the gland's signed distance and the depth (1, columns) of the face between muscle and what lies below."""
    high = patient.lobe[1]
    width = patient.lobe[2] if view.longitudinal else patient.lobe[0]
    top = patient.cover + view.slope * grid.lateral
    depth = grid.depth - top + patient.cover + 0.5 * grid.noise(rng, rows_mm=6.0, columns_mm=6.0)
    gland = ellipse(grid.lateral, depth, centre=(view.offset_mm, patient.cover + high), half=(width, high))
    if not view.longitudinal:
        reach = width + patient.trachea
        bridge = (view.offset_mm + patient.side * reach, patient.cover + patient.isthmus / 2 + 0.5)
        gland = unite(
            gland, ellipse(grid.lateral, depth, centre=bridge, half=(reach, patient.isthmus / 2)), blend_mm=3.0
        )
    for nodule, centre in zip(view.nodules, centres, strict=True):
        half = (half_width(nodule) + _MARGIN_MM, half_height(nodule) + _MARGIN_MM)
        gland = unite(gland, ellipse(grid.lateral, grid.depth, centre=centre, half=half), blend_mm=2.0)
    return gland, _front(gland, top, grid, rng)


def _front(gland: np.ndarray, top: np.ndarray, grid: Grid, rng: np.random.Generator) -> np.ndarray:
    """Return the lower face of the strap muscles, which drape over the gland and sink a little beside it."""
    touched = (gland < 0).any(axis=0, keepdims=True)
    face = (gland < 0).argmax(axis=0)[None, :] * grid.pixel_mm
    sunk = np.where(touched, np.clip(face - top, -0.8, _DROOP_MM), _DROOP_MM)
    draped = gaussian_filter1d(sunk, 1.5 / grid.pixel_mm, axis=1, mode="nearest")
    return top + draped + 0.2 * grid.wave(rng, columns_mm=7.0)


def _back(patient: Patient, view: View, centres: list[tuple[float, float]]) -> float:
    """Return the depth in mm of the lobe's back wall, nodules included."""
    lowest = [centre[1] + half_height(nodule) for nodule, centre in zip(view.nodules, centres, strict=True)]
    return max([patient.cover + 2 * patient.lobe[1], *(depth + _MARGIN_MM for depth in lowest)])


def _paint_gland(maps: Maps, gland: np.ndarray, level_db: float, variation_db: float, rng: np.random.Generator) -> None:
    slow = maps.grid.noise(rng, rows_mm=3.5, columns_mm=4.5)
    grain = maps.grid.noise(rng, rows_mm=0.6, columns_mm=1.2)
    echo = level_db + variation_db * slow + 1.2 * grain
    maps.paint(inside(gland, softness_mm=0.5), echo, attenuation=GLAND_ATTENUATION)
    maps.wall(gland - 0.1, 1.5 * np.clip(0.5 + 0.8 * maps.grid.wave(rng, columns_mm=2.0), 0.0, None), width_mm=0.22)


def _paint_neighbours(
    maps: Maps, patient: Patient, view: View, centres: list[tuple[float, float]], back: float, rng: np.random.Generator
) -> None:
    """Paint vessels, trachea and gullet beside the lobe; along the neck only a vessel behind it."""
    if view.longitudinal:
        if rng.random() < 0.4:
            depth = back + rng.uniform(2.0, 5.0)
            neck.paint_vessel(maps, neck.Vessel((rng.uniform(-25, 25), depth), (22.0, rng.uniform(1.4, 2.6)), 1.6), rng)
        return
    medial, lateral = _flank(patient, view, centres, patient.side), _flank(patient, view, centres, -patient.side)
    if patient.side > 0 and rng.random() < 0.6:
        gullet = (view.offset_mm + patient.side * (medial - 4.0), back + rng.uniform(1.5, 3.5))
        neck.paint_gullet(maps, centre=gullet, rng=rng)
    carotid = view.offset_mm - patient.side * (lateral + 0.75 * patient.carotid)
    depth = patient.cover + 1.35 * patient.lobe[1] + rng.normal(0, 1.0)
    if patient.jugular[1] > 0.6:
        beside = (carotid - patient.side * rng.uniform(2, 5), depth - patient.carotid - patient.jugular[1] - 0.6)
        neck.paint_vessel(maps, neck.Vessel(beside, patient.jugular, 0.8), rng)
    neck.paint_vessel(maps, neck.Vessel((carotid, depth), (patient.carotid, 0.95 * patient.carotid), 2.4), rng)
    windpipe = (
        view.offset_mm + patient.side * (medial + 0.78 * patient.trachea),
        patient.cover + patient.isthmus + 1.0 + patient.trachea,
    )
    neck.paint_trachea(maps, centre=windpipe, radius=patient.trachea, rng=rng)


def _flank(patient: Patient, view: View, centres: list[tuple[float, float]], side: int) -> float:
    """Return how far in mm the lobe, pushed out by its nodules, reaches from its centre to one side."""
    reaches = [
        side * (centre[0] - view.offset_mm) + half_width(nodule) + _MARGIN_MM
        for nodule, centre in zip(view.nodules, centres, strict=True)
    ]
    return max([patient.lobe[0], *reaches])
