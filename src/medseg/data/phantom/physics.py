"""From tissue maps to a B-mode picture: scatterers, beam, attenuation, compensation, compression.

The echo of very many scatterers per resolution cell is a circular complex Gaussian number, whose magnitude has a
Rayleigh distribution (mean over standard deviation 1.91; Wagner et al. 1983, doi:10.1109/T-SU.1983.31404). The radio
frequency line is the scatterers convolved with a Gaussian pulse on a carrier; we work with its demodulated form, in
which the carrier turns only the phase of each scatterer and so leaves circular Gaussian scatterers as they are: the
kernel left is the Gaussian itself. Smooth interfaces add a coherent part. Attenuation, shadows and enhancement follow
from the loss summed along straight beams; compensation assumes an even tissue, so a cyst is bright below.
"""

import numpy as np
from scipy.fft import fft, ifft, next_fast_len
from scipy.ndimage import convolve1d, gaussian_filter1d

from medseg.data.phantom.maps import Maps
from medseg.data.phantom.scanner import Scanner
from medseg.data.phantom.texture import Grid

_LARGEST_COMPENSATION_DB = 45.0
_FWHM = 2 * np.sqrt(2 * np.log(2))
_INTERFACE_GAIN = 3.0
"""Amplitude of a specular value of 1 relative to a normal gland."""
_SMOOTH_SHARE = 0.35
"""Share of an interface that is smooth and echoes in phase; the rest is rough and speckles like tissue."""


def axial_sigma_mm(scanner: Scanner) -> float:
    """Return the standard deviation in mm of the pulse along depth (round trip: half its length in tissue)."""
    return scanner.cycles * scanner.wavelength_mm / 2 / _FWHM


def lateral_sigma_mm(scanner: Scanner, depth_mm: np.ndarray | float) -> np.ndarray:
    """Return the standard deviation in mm of the beam across, which grows away from the focus as a Gaussian beam."""
    narrowest = scanner.aperture_ratio * scanner.wavelength_mm / _FWHM
    away = (np.asarray(depth_mm, dtype=np.float64) - scanner.focus_mm) / scanner.focal_zone_mm
    return narrowest * np.sqrt(1 + away**2)


def convolve(field: np.ndarray, grid: Grid, scanner: Scanner) -> np.ndarray:
    """Return complex echoes (rows, columns) convolved with the pulse and with the beam of each depth.

    The kernels have unit energy, so white input keeps its mean power at every depth.
    """
    columns = field.shape[1]
    sigma = lateral_sigma_mm(scanner, grid.depth) / grid.pixel_mm
    length = next_fast_len(columns + int(4 * sigma.max()) + 1)
    frequency = np.fft.fftfreq(length)[None, :]
    transfer = np.exp(-2 * (np.pi * sigma * frequency) ** 2)
    transfer /= np.sqrt((transfer**2).mean(axis=1, keepdims=True))
    spread = ifft(fft(field, length, axis=1, workers=1) * transfer, axis=1, workers=1)[:, :columns]
    return _along_depth(spread, grid, scanner)


def _along_depth(field: np.ndarray, grid: Grid, scanner: Scanner) -> np.ndarray:
    sigma = axial_sigma_mm(scanner) / grid.pixel_mm
    reach = max(1, int(np.ceil(3 * sigma)))
    pulse = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    pulse /= np.sqrt((pulse**2).sum())
    echoes = np.empty_like(field)
    echoes.real = convolve1d(field.real, pulse, axis=0, mode="nearest")
    echoes.imag = convolve1d(field.imag, pulse, axis=0, mode="nearest")
    return echoes


def _coherent_gain(grid: Grid, scanner: Scanner) -> np.ndarray:
    """Return by how much the unit-energy kernels amplify an echo that is in phase all over the beam, (rows, 1)."""
    lateral = lateral_sigma_mm(scanner, grid.depth) / grid.pixel_mm
    axial = max(axial_sigma_mm(scanner) / grid.pixel_mm, 0.3)
    return np.sqrt(2 * np.sqrt(np.pi) * np.maximum(lateral, 0.3)) * np.sqrt(2 * np.sqrt(np.pi) * axial)


def white(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Return circular complex Gaussian numbers of unit mean power: the scatterers of a resolution grid."""
    drawn = np.empty(shape, np.complex128)
    drawn.real = rng.standard_normal(shape, dtype=np.float32)
    drawn.imag = rng.standard_normal(shape, dtype=np.float32)
    drawn *= np.sqrt(0.5)
    return drawn


def loss_db(maps: Maps, scanner: Scanner) -> np.ndarray:
    """Return the attenuation in dB there and back above each pixel, blurred across by the width of the aperture."""
    step = maps.attenuation * (2 * scanner.frequency_mhz * maps.grid.pixel_mm / 10)
    return gaussian_filter1d(np.cumsum(step, axis=0), 0.6 / maps.grid.pixel_mm, axis=1, mode="nearest", truncate=3.0)


def compensation_db(grid: Grid, scanner: Scanner, *, near_db: float = 0.0, far_db: float = 0.0) -> np.ndarray:
    """Return the gain over depth (rows, 1): the assumed even attenuation and the operator's error near and far."""
    even = 2 * scanner.frequency_mhz * scanner.compensation * grid.depth / 10
    share = grid.depth / grid.depth[-1]
    return np.minimum(even, _LARGEST_COMPENSATION_DB) + near_db * (1 - share) + far_db * share


def envelope(
    maps: Maps,
    scanner: Scanner,
    *,
    rng: np.random.Generator,
    tgc_db: tuple[float, float] = (0.0, 0.0),
    looks: int | None = None,
    noise: bool = True,
) -> np.ndarray:
    """Return the detected echo amplitude (rows, columns); a normal gland at full compensation has mean power 1.

    Args:
        maps: what the beam meets.
        scanner: pulse, beam, compensation and noise.
        rng: scatterers and noise.
        tgc_db: error of the compensation (near, far).
        looks: frames averaged, the scanner's by default; 1 gives fully developed speckle.
        noise: whether electronic noise is added; it grows with the compensation.
    """
    gain = compensation_db(maps.grid, scanner, near_db=tgc_db[0], far_db=tgc_db[1])
    balance = gain - loss_db(maps, scanner)
    surviving = 10 ** (np.maximum(balance, -90.0) / 20)
    scatter = surviving * 10 ** (maps.echo_db / 20)
    face = _INTERFACE_GAIN * surviving * maps.specular
    coherent = _SMOOTH_SHARE * face / _coherent_gain(maps.grid, scanner)
    scatter = np.sqrt(scatter**2 + (1 - _SMOOTH_SHARE) * face**2)
    hiss = 10 ** ((scanner.noise_db + gain) / 20) if noise else 0.0
    count = scanner.looks if looks is None else looks
    total = np.zeros(maps.grid.shape)
    scatter += maps.artefact
    for _ in range(count):
        field = white(rng, maps.grid.shape)
        field *= scatter
        field += coherent
        echo = convolve(field, maps.grid, scanner)
        if noise:
            echo += hiss * white(rng, maps.grid.shape)
        total += np.sqrt(echo.real**2 + echo.imag**2)
    return total / count


def compress(amplitude: np.ndarray, scanner: Scanner, *, gain_db: float = 0.0) -> np.ndarray:
    """Return grey levels uint8 (rows, columns): decibels within the dynamic range, then the scanner's grey map."""
    level = 20 * np.log10(np.maximum(amplitude, 1e-9)) + scanner.gain_db + gain_db
    share = np.clip(level / scanner.dynamic_range_db, 0.0, 1.0)
    return np.rint(scanner.black + (255 - scanner.black) * share**scanner.gamma).astype(np.uint8)


def contact_db(grid: Grid, *, left: float, right: float) -> np.ndarray:
    """Return the loss in dB (rows, columns) where the edges of the probe lift off the skin.

    Args:
        grid: the scan grid.
        left: share of the width without contact at the left edge.
        right: the same at the right edge.
    """
    share = (np.arange(grid.shape[1])[None, :] + 0.5) / grid.shape[1]
    lifted = np.maximum(_lift(left - share), _lift(right - (1 - share)))
    return lifted * np.clip(grid.depth / 4.0, 0.0, 1.0) * 22.0


def _lift(beyond: np.ndarray) -> np.ndarray:
    rising = np.clip(beyond / 0.12 + 0.5, 0.0, 1.0)
    return rising * rising * (3 - 2 * rising)
