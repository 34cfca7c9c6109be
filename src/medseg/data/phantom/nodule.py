"""Nodules: contour, reference outline, inner texture, fluid, halo and calcification."""

from functools import lru_cache

import numpy as np

from medseg.data.phantom.maps import Maps
from medseg.data.phantom.patient import ORDERS, OUTLINE_ORDER, Nodule
from medseg.data.phantom.texture import ellipse, inside

GLAND_ATTENUATION = 0.45
FLUID_DB = -24.0
FLUID_ATTENUATION = 0.03
_ANGLES = np.linspace(-np.pi, np.pi, 721)


@lru_cache(maxsize=256)
def half_height(nodule: Nodule) -> float:
    """Return the largest extent of the outline above its centre, mm."""
    radius = outline_radius(nodule)
    return float(np.max(np.abs(radius * np.sin(_ANGLES))))


@lru_cache(maxsize=256)
def half_width(nodule: Nodule) -> float:
    """Return the largest extent of the outline beside its centre, mm."""
    return float(np.max(np.abs(outline_radius(nodule) * np.cos(_ANGLES))))


def outline_radius(nodule: Nodule, *, highest_order: int = OUTLINE_ORDER) -> np.ndarray:
    """Return the contour's radius in mm at 721 angles from -pi to pi: a tilted ellipse times a Fourier series.

    Args:
        nodule: whose contour.
        highest_order: the series ends there; the reference outline uses ``OUTLINE_ORDER``, the tissue all orders.
    """
    turned = _ANGLES - nodule.tilt
    wide, high = nodule.radius_mm * np.sqrt(nodule.aspect), nodule.radius_mm / np.sqrt(nodule.aspect)
    base = wide * high / np.sqrt((high * np.cos(turned)) ** 2 + (wide * np.sin(turned)) ** 2)
    amplitudes = np.where(highest_order >= ORDERS, nodule.amplitudes, 0.0)
    waves = np.cos(ORDERS[:, None] * turned + np.asarray(nodule.phases)[:, None])
    return base * np.maximum(1 + (amplitudes[:, None] * waves).sum(axis=0), 0.3)


def distances(maps: Maps, nodule: Nodule, centre: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Return about the signed distances in mm to the tissue's border and to the reference outline.

    Args:
        maps: the grid on which.
        nodule: whose contour.
        centre: (lateral, depth) in mm.
    """
    across, along = maps.grid.lateral - centre[0], maps.grid.depth - centre[1]
    radius, angle = np.sqrt(across**2 + along**2), np.arctan2(along, across)
    border = outline_radius(nodule, highest_order=int(ORDERS[-1]))
    return radius - np.interp(angle, _ANGLES, border), radius - np.interp(angle, _ANGLES, outline_radius(nodule))


def paint_nodule(
    maps: Maps, nodule: Nodule, *, centre: tuple[float, float], gland_db: float, rng: np.random.Generator
) -> None:
    """Paint a nodule into the maps and mark its outline (and fluid) as the reference.

    Args:
        maps: changed in place.
        nodule: what to paint.
        centre: (lateral, depth) in mm.
        gland_db: echo level of the gland around.
        rng: texture, place of fluid and calcification.
    """
    reach = float(outline_radius(nodule, highest_order=int(ORDERS[-1])).max()) + nodule.halo_mm + 2
    maps = maps.near(centre, (reach, reach))
    border, outline = distances(maps, nodule, centre)
    maps.nodule |= outline <= 0
    if nodule.halo_mm:
        rim = inside(border - nodule.halo_mm, softness_mm=0.4)
        maps.paint(rim, gland_db + nodule.halo_db, attenuation=GLAND_ATTENUATION)
    maps.paint(
        inside(border, softness_mm=nodule.softness_mm),
        _solid(maps, nodule, gland_db, rng),
        attenuation=GLAND_ATTENUATION,
    )
    if nodule.kind in ("cystic", "mixed", "spongiform"):
        fluid = _fluid(maps, nodule, border, centre, rng)
        softness = 0.35 if nodule.kind != "spongiform" else 0.5
        level = FLUID_DB if nodule.kind != "spongiform" else -15.0
        echo = gland_db + level + 2.0 * maps.grid.noise(rng, rows_mm=2.0, columns_mm=3.0)
        maps.paint(inside(fluid, softness_mm=softness), echo, attenuation=FLUID_ATTENUATION)
        if nodule.kind != "spongiform":
            maps.cyst |= (fluid <= 0) & maps.nodule
            maps.wall(fluid, rng.uniform(0.6, 1.4))
    maps.wall(border, rng.uniform(0.0, 0.5), power=4)
    if nodule.kind == "cystic" or nodule.halo_mm:
        maps.edge_shadow(border, loss=0.8)
    _calcify(maps, nodule, border, centre, rng)


def _solid(maps: Maps, nodule: Nodule, gland_db: float, rng: np.random.Generator) -> np.ndarray:
    coarse = maps.grid.noise(rng, rows_mm=max(1.2, nodule.radius_mm / 3), columns_mm=max(1.5, nodule.radius_mm / 2.5))
    fine = maps.grid.noise(rng, rows_mm=0.6, columns_mm=0.9)
    return gland_db + nodule.contrast_db + nodule.variation_db * (0.8 * coarse + 0.6 * fine)


def _fluid(
    maps: Maps, nodule: Nodule, border: np.ndarray, centre: tuple[float, float], rng: np.random.Generator
) -> np.ndarray:
    """Return about the signed distance in mm to the fluid, which stays ``wall`` inside the border."""
    wall = 0.5 if nodule.kind == "cystic" else 0.7
    if nodule.kind == "cystic":
        bud = rng.uniform(0, 2 * np.pi)
        reach = nodule.radius_mm * (0.85 if rng.random() < 0.5 else 3.0)
        at = (centre[0] + reach * np.cos(bud), centre[1] + reach * np.sin(bud))
        growth = ellipse(maps.grid.lateral, maps.grid.depth, centre=at, half=(0.45 * nodule.radius_mm,) * 2)
        return np.maximum(border + wall, -growth)
    size = max(nodule.radius_mm / 2.2, 1.5) if nodule.kind == "mixed" else 1.0
    field = maps.grid.noise(rng, rows_mm=size, columns_mm=1.2 * size)
    within = border < -wall
    level = np.quantile(field[within], 1 - nodule.fluid) if within.any() else np.inf
    return np.maximum(border + wall, (level - field) * size * 0.7)


def _calcify(
    maps: Maps, nodule: Nodule, border: np.ndarray, centre: tuple[float, float], rng: np.random.Generator
) -> None:
    """Add bright foci without shadow (micro), a plate with shadow (macro) or a shell with shadow (rim)."""
    if nodule.calcification == "rim":
        shell = maps.grid.wave(rng, columns_mm=2.5) > -0.3
        top = np.where((maps.grid.depth < centre[1]) & shell, border, 9.0)
        maps.wall(top, 6.0, width_mm=0.25, power=1)
        maps.attenuation += 6.0 * inside(np.abs(top) - 0.3)
        return
    count, largest = {"none": (0, 0.0), "micro": (int(rng.integers(4, 12)), 0.22), "macro": (1, 0.0)}[
        nodule.calcification
    ]
    for _ in range(count):
        turn, reach = rng.uniform(0, 2 * np.pi), 0.75 * nodule.radius_mm * np.sqrt(rng.random())
        at = (centre[0] + reach * np.cos(turn), centre[1] + reach * np.sin(turn) / np.sqrt(nodule.aspect))
        half = (rng.uniform(0.12, largest), 0.12) if largest else (rng.uniform(1.0, 2.2), rng.uniform(0.35, 0.6))
        spot = maps.near(at, (half[0] + 1.5, half[1] + 1.5))
        focus = ellipse(spot.grid.lateral, spot.grid.depth, centre=at, half=half)
        spot.paint(inside(focus), 14.0, attenuation=rng.uniform(7, 16) if not largest else 2.0)
        if not largest:
            spot.wall(focus, np.where(spot.grid.depth < at[1], 5.0, 0.0), width_mm=0.25, power=1)
