"""The maps that anatomy paints and physics reads."""

from dataclasses import dataclass

import numpy as np

from medseg.data.phantom.texture import Grid, facing, ridge


@dataclass
class Maps:
    """What the beam meets, each (rows, columns) on the scan grid.

    Attributes:
        grid: the scan grid.
        echo_db: echogenicity, the mean power of the scatterers relative to a normal gland.
        attenuation: dB / (cm MHz), one way.
        specular: amplitude of smooth interfaces that return a coherent echo.
        artefact: amplitude of echoes that arise by reverberation, behind whatever attenuates there.
        nodule: the reference outline, bool.
        gland: the gland with its nodules, bool.
        cyst: fluid inside nodules, bool.
    """

    grid: Grid
    echo_db: np.ndarray
    attenuation: np.ndarray
    specular: np.ndarray
    artefact: np.ndarray
    nodule: np.ndarray
    gland: np.ndarray
    cyst: np.ndarray

    @classmethod
    def homogeneous(cls, grid: Grid, *, echo_db: float = 0.0, attenuation: float = 0.0) -> "Maps":
        """Return maps of one even tissue without interfaces."""
        return cls(
            grid,
            np.full(grid.shape, echo_db),
            np.full(grid.shape, attenuation),
            *(np.zeros(grid.shape) for _ in range(2)),
            *(np.zeros(grid.shape, bool) for _ in range(3)),
        )

    def near(self, centre: tuple[float, float], reach: tuple[float, float]) -> "Maps":
        """Return the part within ``reach`` of ``centre``, (lateral, depth) in mm; painting it paints these maps."""
        window = self.grid.window(centre=centre, reach=reach)
        layers = (self.echo_db, self.attenuation, self.specular, self.artefact, self.nodule, self.gland, self.cyst)
        return Maps(self.grid.part(window), *(layer[window] for layer in layers))

    def paint(
        self, cover: np.ndarray, echo_db: np.ndarray | float, *, attenuation: np.ndarray | float | None = None
    ) -> None:
        """Replace what is there, interfaces included, by a tissue as far as ``cover`` (0-1) says."""
        self.echo_db += cover * (echo_db - self.echo_db)
        self.specular *= 1 - cover
        if attenuation is not None:
            self.attenuation += cover * (attenuation - self.attenuation)

    def wall(
        self, distance: np.ndarray, strength: np.ndarray | float, *, width_mm: float = 0.2, power: int = 3
    ) -> None:
        """Add a smooth interface along the zero line of a signed distance, strong where it faces the beam."""
        self.specular += (
            strength * ridge(distance, width_mm=width_mm) * facing(distance, self.grid.pixel_mm, power=power)
        )

    def edge_shadow(self, distance: np.ndarray, *, loss: float = 1.0) -> None:
        """Add the loss by refraction along the flanks of a round structure, dB / (cm MHz)."""
        flank = 1 - facing(distance, self.grid.pixel_mm, power=1)
        self.attenuation += loss * ridge(distance, width_mm=0.35) * np.clip(3 * flank - 2, 0.0, 1.0)
