"""What surrounds the gland: skin, fat, strap muscles, vessels, trachea, gullet, deep muscle and bone."""

from dataclasses import dataclass

import numpy as np

from medseg.data.phantom.maps import Maps
from medseg.data.phantom.texture import ellipse, inside, ridge

BLOOD_DB = -25.0
MUSCLE_DB = -7.0
FAT_DB = -6.0
_AIR_ATTENUATION = 6.0


@dataclass(frozen=True)
class Vessel:
    """A vessel's section: centre (lateral, depth), half axes (lateral, depth) in mm, and how bright its wall is."""

    centre: tuple[float, float]
    half: tuple[float, float]
    wall: float


def paint_background(maps: Maps, rng: np.random.Generator) -> None:
    """Fill everything with loose connective tissue: uneven and streaked along the layers."""
    grid = maps.grid
    streaks = grid.noise(rng, rows_mm=0.7, columns_mm=2.5)
    clouds = grid.noise(rng, rows_mm=3.0, columns_mm=5.0)
    maps.echo_db[...] = -2.0 + 3.0 * clouds + 3.2 * streaks
    maps.attenuation[...] = 0.6 * np.exp(0.35 * grid.wave(rng, columns_mm=2.5))
    fascia = grid.noise(rng, rows_mm=0.5, columns_mm=2.5)
    maps.specular += 1.1 * np.maximum(fascia + 0.5 * clouds - 1.4, 0.0)


def fibres(maps: Maps, rng: np.random.Generator, *, level_db: float) -> np.ndarray:
    """Return the echo level of muscle: dark bundles between thin bright lines along the layers."""
    lines = maps.grid.noise(rng, rows_mm=0.45, columns_mm=5.0)
    bundles = maps.grid.noise(rng, rows_mm=1.2, columns_mm=6.0)
    return level_db + 1.5 * bundles + 9.0 * np.maximum(lines - 0.4, 0.0)


def paint_cover(maps: Maps, front: np.ndarray, *, fat: float, rng: np.random.Generator) -> None:
    """Paint skin, fat and strap muscle down to ``front``, the depth (1, columns) in mm of what lies below.

    Args:
        maps: changed in place.
        front: lower face of the muscle.
        fat: share of the layer below the skin that is fat.
        rng: texture and waviness.
    """
    lowest = float(front.max())
    maps = maps.near((0.0, lowest / 2), (100.0, lowest / 2 + 1.5))
    grid = maps.grid
    skin = 1.2 + 0.1 * grid.wave(rng, columns_mm=8.0)
    fat_end = skin + (front - skin) * np.clip(fat + 0.06 * grid.wave(rng, columns_mm=6.0), 0.1, 0.8)
    thick = np.exp(0.35 * grid.wave(rng, columns_mm=2.0))  # uneven cover shades the columns below it
    maps.paint(
        inside(grid.depth - front, softness_mm=0.5), fibres(maps, rng, level_db=MUSCLE_DB), attenuation=0.6 * thick
    )
    septa = grid.noise(rng, rows_mm=0.6, columns_mm=5.0)
    maps.paint(inside(grid.depth - fat_end), FAT_DB + 10.0 * np.maximum(septa - 0.5, 0.0), attenuation=0.5)
    maps.paint(inside(grid.depth - skin), 1.0 + 2.0 * grid.noise(rng, rows_mm=0.5, columns_mm=6.0), attenuation=0.9)
    for depth, strength in ((0.25, 1.8), (skin, 1.3), (fat_end, 1.6), (front - 0.2, 1.4)):
        broken = np.clip(0.7 + 0.5 * grid.wave(rng, columns_mm=2.0), 0.0, None)
        maps.specular += strength * broken * ridge(grid.depth - depth, width_mm=0.13)
    split = fat_end + (front - fat_end) * (0.5 + 0.1 * grid.wave(rng, columns_mm=9.0))
    part = np.clip(0.4 + 0.7 * grid.wave(rng, columns_mm=4.0), 0.0, None)
    maps.specular += part * ridge(grid.depth - split, width_mm=0.15)


def paint_vessel(maps: Maps, vessel: Vessel, rng: np.random.Generator) -> None:
    """Paint blood with a bright wall front and back; blood attenuates little, so tissue behind it is enhanced."""
    maps = maps.near(vessel.centre, (vessel.half[0] + 2, vessel.half[1] + 2))
    wobble = 0.3 * maps.grid.noise(rng, rows_mm=4.0, columns_mm=4.0)
    distance = ellipse(maps.grid.lateral, maps.grid.depth, centre=vessel.centre, half=vessel.half) + wobble
    maps.paint(inside(distance - 0.6, softness_mm=0.6), -1.0, attenuation=0.4)
    clutter = rng.uniform(0, 8) + 3.0 * maps.grid.noise(rng, rows_mm=2.0, columns_mm=3.0)
    maps.paint(inside(distance, softness_mm=0.4), BLOOD_DB + clutter, attenuation=0.1)
    broken = np.clip(0.8 + 0.5 * maps.grid.wave(rng, columns_mm=1.5), 0.0, None)
    maps.wall(distance - 0.1, vessel.wall * broken, width_mm=0.15, power=4)
    maps.edge_shadow(distance, loss=0.7)


def paint_trachea(maps: Maps, *, centre: tuple[float, float], radius: float, rng: np.random.Generator) -> None:
    """Paint the dark cartilage, the bright face of the air below it, its repetitions and the dirty shadow."""
    maps = maps.near(centre, (radius + 2, 80.0))
    grid = maps.grid
    circle = ellipse(grid.lateral, grid.depth, centre=centre, half=(radius, radius))
    distance = np.where(grid.depth < centre[1], circle, np.abs(grid.lateral - centre[0]) - radius)
    maps.paint(inside(distance), -10.0, attenuation=0.8)
    air = distance + rng.uniform(1.2, 1.8)
    maps.wall(distance - 0.1, 0.9, width_mm=0.2)
    front = np.where(grid.depth < centre[1], 1.0, 0.0)
    maps.wall(air, 3.0 * front, width_mm=0.25, power=2)
    air += 0.15 * grid.wave(rng, columns_mm=2.5)
    maps.paint(inside(air), -30.0, attenuation=_AIR_ATTENUATION)
    below = np.maximum(grid.depth - centre[1] + radius, 0.0)
    step = rng.uniform(1.8, 3.0)
    squarely = np.exp(-0.5 * ((grid.lateral - centre[0]) / (0.45 * radius)) ** 2)
    echoes = sum(0.45**count * ridge(air + count * step, width_mm=0.3) for count in range(1, 5))
    dirt = 0.2 * np.exp(-below / 7.0) * inside(air) * (1 + 0.6 * grid.noise(rng, rows_mm=1.0, columns_mm=1.5))
    maps.artefact += np.maximum(dirt, 0.0) * (0.4 + squarely) + 0.7 * echoes * squarely * front * inside(air)


def paint_gullet(maps: Maps, *, centre: tuple[float, float], rng: np.random.Generator) -> None:
    """Paint the oesophagus: a dark muscular ring around bright mucosa, easily taken for a nodule."""
    half = (rng.uniform(3.5, 5.0), rng.uniform(2.4, 3.4))
    maps = maps.near(centre, (half[0] + 2, half[1] + 2))
    distance = ellipse(maps.grid.lateral, maps.grid.depth, centre=centre, half=half)
    maps.paint(inside(distance, softness_mm=0.4), -10.0, attenuation=0.5)
    maps.paint(inside(distance + 0.55 * half[1], softness_mm=0.8), 2.0)
    maps.wall(distance, 0.5)


def paint_deep(
    maps: Maps, *, back: float, centre: float, longitudinal: bool, spine: float, rng: np.random.Generator
) -> None:
    """Paint the long neck muscle behind the lobe and the front of the spine with its shadow.

    Args:
        maps: changed in place.
        back: depth of the lobe's back wall, mm.
        centre: lateral position of the muscle, mm.
        longitudinal: along the neck the muscle is a band.
        spine: distance of the bone behind the lobe, mm.
        rng: texture and waviness.
    """
    maps = maps.near((0.0, back + 40.0), (100.0, 40.0))
    grid = maps.grid
    half = (40.0 if longitudinal else rng.uniform(7.0, 11.0), rng.uniform(2.5, 4.0))
    muscle = ellipse(grid.lateral, grid.depth, centre=(centre, back + half[1] + rng.uniform(0.8, 2.5)), half=half)
    muscle += 0.5 * grid.noise(rng, rows_mm=3.0, columns_mm=3.5)
    maps.paint(inside(muscle, softness_mm=0.6), fibres(maps, rng, level_db=-8.0), attenuation=0.6)
    maps.wall(muscle, 1.3 * np.clip(0.6 + 0.6 * grid.wave(rng, columns_mm=4.0), 0.0, None), width_mm=0.22)
    face = back + spine + 1.2 * grid.wave(rng, columns_mm=9.0)
    broken = np.clip(0.5 + 0.7 * grid.wave(rng, columns_mm=3.5), 0.0, None)
    maps.specular += 1.6 * broken * ridge(grid.depth - face, width_mm=0.35)
    maps.paint(
        inside(face - grid.depth, softness_mm=0.8),
        -6.0 + 3.0 * grid.noise(rng, rows_mm=1.2, columns_mm=4.0),
        attenuation=1.1,
    )
