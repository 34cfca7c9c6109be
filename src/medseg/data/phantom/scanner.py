"""Two machines: what makes the images of one hospital differ from those of another."""

from dataclasses import dataclass

from medseg.errors import ConfigError


@dataclass(frozen=True)
class Scanner:
    """A linear probe, its machine and its export screen.

    Attributes:
        name: as configurations and the manifest name it.
        frequency_mhz: centre frequency.
        cycles: length of the pulse in periods (full width at half maximum).
        aperture_ratio: depth of focus over aperture; the width of the beam in its focus in wavelengths.
        focus_mm: depth of the focus.
        focal_zone_mm: distance from the focus at which the beam is wider by the square root of 2.
        probe_mm: width of the field of view.
        looks: frames averaged before display (persistence).
        gain_db: level of a normal gland at the focus above the bottom of the dynamic range.
        dynamic_range_db: range of levels between black and white.
        gamma: exponent of the grey map after log compression.
        compensation: attenuation the depth compensation assumes, dB / (cm MHz).
        noise_db: electronic noise at the surface relative to a normal gland.
        text_side: ``right`` or ``left``: where the settings are written.
        ticks: ``dots`` or ``lines``: depth marks.
        grey_bar: height of the grey wedge as a share of the screen, 0 for none.
        black: grey level of the scan where nothing echoes.
        ground: grey level of the empty screen.
        ink: grey level of the text.
    """

    name: str
    frequency_mhz: float
    cycles: float
    aperture_ratio: float
    focus_mm: float
    focal_zone_mm: float
    probe_mm: float
    looks: int
    gain_db: float
    dynamic_range_db: float
    gamma: float
    compensation: float
    noise_db: float
    text_side: str
    ticks: str
    grey_bar: float
    black: int
    ground: int
    ink: int

    @property
    def wavelength_mm(self) -> float:
        """Wavelength at 1540 m/s."""
        return 1.54 / self.frequency_mhz


LINEAR_A = Scanner(
    name="linear_a",
    frequency_mhz=9.0,
    cycles=2.2,
    aperture_ratio=2.8,
    focus_mm=18.0,
    focal_zone_mm=16.0,
    probe_mm=38.0,
    looks=2,
    gain_db=38.8,
    dynamic_range_db=65.0,
    gamma=1.7,
    compensation=0.5,
    noise_db=-49.0,
    text_side="right",
    ticks="dots",
    grey_bar=0.2,
    black=9,
    ground=0,
    ink=235,
)
"""A crisp machine: high frequency, short pulse, soft grey map."""

LINEAR_B = Scanner(
    name="linear_b",
    frequency_mhz=7.0,
    cycles=2.2,
    aperture_ratio=2.8,
    focus_mm=24.0,
    focal_zone_mm=14.0,
    probe_mm=44.0,
    looks=2,
    gain_db=37.2,
    dynamic_range_db=58.0,
    gamma=1.9,
    compensation=0.46,
    noise_db=-46.0,
    text_side="left",
    ticks="lines",
    grey_bar=0.0,
    black=7,
    ground=8,
    ink=190,
)
"""An older machine: lower frequency, broader speckle, harder contrast, more noise at depth."""

SCANNERS = (LINEAR_A, LINEAR_B)


def scanner_named(name: str) -> Scanner:
    """Return the scanner of a name.

    Raises:
        ConfigError: there is none of that name.
    """
    for scanner in SCANNERS:
        if scanner.name == name:
            return scanner
    known = ", ".join(scanner.name for scanner in SCANNERS)
    raise ConfigError(f"data.source.scanners: '{name}' is no scanner of the phantom; choose from {known}.")
