"""The phantom's images: the speckle has the known statistics, and the truth is what is drawn."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from medseg.data.phantom import neck
from medseg.data.phantom.maps import Maps
from medseg.data.phantom.nodule import paint_nodule
from medseg.data.phantom.patient import NODULE_KINDS, ORDERS, Nodule
from medseg.data.phantom.physics import compress, convolve, envelope, lateral_sigma_mm, loss_db, white
from medseg.data.phantom.scanner import LINEAR_A, LINEAR_B, SCANNERS, Scanner
from medseg.data.phantom.simulate import patient_of, simulate
from medseg.data.phantom.texture import Grid, smooth_noise
from medseg.rng import generator

GRID = Grid.below_probe((300, 280), pixel_mm=0.13)
CENTRE = (0.0, 18.0)
KINDS = sorted(NODULE_KINDS)


def plain(scanner: Scanner) -> Scanner:
    """Return the scanner without depth compensation, for tissue without attenuation."""
    return replace(scanner, compensation=0.0)


def disc(kind: str, **changes: object) -> Nodule:
    """Return a round nodule of radius 6 mm without halo or calcification."""
    level = {"hypo": -6.0, "iso": 0.0, "hyper": 4.0, "cystic": -3.0, "mixed": -4.0, "spongiform": -3.0}[kind]
    still = (0.0,) * len(ORDERS)
    nodule = Nodule(kind, 6.0, 1.0, 0.0, (0.0, 0.0), still, still, level, 0.5, 0.3, 0.0, -10.0, 0.45, "none")
    return replace(nodule, **changes)


def painted(nodule: Nodule, *, seed: int = 0) -> Maps:
    maps = Maps.homogeneous(GRID, attenuation=0.45)
    paint_nodule(maps, nodule, centre=CENTRE, gland_db=0.0, rng=generator(seed, "nodule"))
    return maps


def power_db(amplitude: np.ndarray, where: np.ndarray) -> float:
    return float(10 * np.log10((amplitude[np.broadcast_to(where, amplitude.shape)] ** 2).mean()))


def echo(maps: Maps) -> np.ndarray:
    return envelope(maps, replace(LINEAR_A, compensation=0.45), rng=generator(1, "echo"), noise=False)


def behind(*, beside: bool) -> np.ndarray:
    """Return the pixels 8 to 14 mm behind the centre, in its shadow or 10 mm beside it."""
    deep = (GRID.depth > CENTRE[1] + 8) & (GRID.depth < CENTRE[1] + 14)
    return deep & ((np.abs(GRID.lateral) > 9) if beside else (np.abs(GRID.lateral) < 0.8))


@pytest.mark.parametrize("scanner", SCANNERS, ids=lambda scanner: scanner.name)
def test_homogeneous_tissue_has_fully_developed_speckle(scanner: Scanner) -> None:
    maps = Maps.homogeneous(Grid.below_probe((400, 400), pixel_mm=0.13))
    amplitude = envelope(maps, plain(scanner), rng=generator(0, "speckle"), looks=1, noise=False)[20:-20, 20:-20]
    assert amplitude.mean() / amplitude.std() == pytest.approx(1.91, abs=0.1)
    assert (amplitude**2).mean() == pytest.approx(1.0, abs=0.06)
    median_over_mean = np.sqrt(2 * np.log(2)) / np.sqrt(np.pi / 2)  # of a Rayleigh distribution
    assert np.median(amplitude) / amplitude.mean() == pytest.approx(median_over_mean, abs=0.02)


def test_averaging_two_looks_raises_the_speckle_ratio_by_the_square_root_of_two() -> None:
    maps = Maps.homogeneous(Grid.below_probe((400, 400), pixel_mm=0.13))
    amplitude = envelope(maps, plain(LINEAR_A), rng=generator(0, "looks"), looks=2, noise=False)[20:-20, 20:-20]
    assert amplitude.mean() / amplitude.std() == pytest.approx(1.91 * np.sqrt(2), abs=0.15)


@pytest.mark.parametrize("scanner", SCANNERS, ids=lambda scanner: scanner.name)
def test_the_beam_is_narrowest_in_its_focus(scanner: Scanner) -> None:
    focus, zone = scanner.focus_mm, scanner.focal_zone_mm
    at_focus = lateral_sigma_mm(scanner, focus)
    assert lateral_sigma_mm(scanner, focus + zone) == pytest.approx(at_focus * np.sqrt(2))
    assert lateral_sigma_mm(scanner, 1.0) > at_focus < lateral_sigma_mm(scanner, 45.0)


def test_speckle_measured_in_the_echo_widens_away_from_the_focus() -> None:
    grid = Grid.below_probe((380, 400), pixel_mm=0.13)
    echoes = convolve(white(generator(0, "width"), grid.shape), grid, LINEAR_A)

    def neighbours_alike(depth_mm: float) -> float:
        rows = echoes[np.abs(grid.depth[:, 0] - depth_mm) < 2]
        return float(np.abs((rows[:, 4:] * rows[:, :-4].conj()).mean()) / (np.abs(rows) ** 2).mean())

    assert neighbours_alike(4) > neighbours_alike(LINEAR_A.focus_mm) + 0.05
    assert neighbours_alike(46) > neighbours_alike(LINEAR_A.focus_mm) + 0.05


def test_a_point_is_spread_to_the_pulse_and_the_beam() -> None:
    grid = Grid.below_probe((301, 281), pixel_mm=0.05)
    field = np.zeros(grid.shape, complex)
    field[150, 140] = 1.0
    spread = np.abs(convolve(field, grid, LINEAR_A)) ** 2  # the square of a Gaussian has sigma / sqrt(2)
    assert spread.sum() == pytest.approx(1.0, rel=0.01)
    across, along = spread.sum(axis=0), spread.sum(axis=1)
    lateral = np.sqrt((across * (np.arange(281) - 140) ** 2).sum() / across.sum()) * 0.05 * np.sqrt(2)
    axial = np.sqrt((along * (np.arange(301) - 150) ** 2).sum() / along.sum()) * 0.05 * np.sqrt(2)
    assert lateral == pytest.approx(float(lateral_sigma_mm(LINEAR_A, grid.depth[150, 0])), rel=0.02)
    half_pulse = LINEAR_A.cycles * 1.54 / LINEAR_A.frequency_mhz / 2
    assert axial * 2.3548 == pytest.approx(half_pulse, rel=0.03)


def test_even_attenuation_adds_up_there_and_back() -> None:
    maps = Maps.homogeneous(Grid.below_probe((100, 50), pixel_mm=0.2), attenuation=0.5)
    assert loss_db(maps, LINEAR_A)[-1] == pytest.approx(2 * 9.0 * 0.5 * 2.0)  # 9 MHz, 2 cm


def test_compression_maps_the_dynamic_range_to_black_and_white() -> None:
    scanner = replace(LINEAR_A, gain_db=0.0, gamma=1.0, black=5)
    level = np.array([[-90.0, 0.0, 32.5, 65.0, 120.0]])
    assert compress(10 ** (level / 20), scanner).tolist() == [[5, 5, 130, 255, 255]]


def test_smooth_noise_has_unit_variance_and_the_asked_length() -> None:
    field = smooth_noise(generator(0, "noise"), (400, 400), lengths=(4.0, 12.0))
    assert field.std() == pytest.approx(1.0, abs=0.1)
    assert np.abs(np.diff(field, axis=0)).mean() > 2 * np.abs(np.diff(field, axis=1)).mean()


def test_the_outline_of_a_disc_is_the_disc() -> None:
    distance = np.hypot(GRID.lateral - CENTRE[0], GRID.depth - CENTRE[1])
    np.testing.assert_array_equal(painted(disc("hypo")).nodule, distance <= 6.0)


def test_the_outline_smooths_the_border_and_keeps_to_it() -> None:
    rough = disc("hypo", amplitudes=(0.0,) * 6 + (0.06,) * 6, phases=tuple(np.linspace(0, 6, 12)))
    np.testing.assert_array_equal(painted(rough).nodule, painted(disc("hypo")).nodule)  # orders above 5 are left out
    assert not np.array_equal(painted(rough).echo_db < -3, painted(disc("hypo")).echo_db < -3)


def test_the_halo_lies_outside_the_outline() -> None:
    maps = painted(disc("iso", halo_mm=0.8))
    dark = maps.echo_db < -5
    assert dark.any()
    assert not (dark & maps.nodule & ndimage.binary_erosion(maps.nodule, iterations=2)).any()


@pytest.mark.parametrize("kind", KINDS)
def test_the_contrast_of_each_kind_has_its_sign(kind: str) -> None:
    maps = painted(disc(kind))
    amplitude = echo(maps)
    ring = ndimage.binary_dilation(maps.nodule, iterations=20) & ~ndimage.binary_dilation(maps.nodule, iterations=6)
    ring &= np.abs(GRID.depth - CENTRE[1]) < 4  # neither above nor below, where enhancement counts
    inner = ndimage.binary_erosion(maps.nodule, iterations=4)
    contrast = 20 * np.log10(np.median(amplitude[inner]) / np.median(amplitude[ring]))  # walls may be bright
    low, high = {"hyper": (2.0, 8.0), "iso": (-1.5, 1.5), "cystic": (-40.0, -8.0)}.get(kind, (-20.0, -2.0))
    assert low < contrast < high


def test_fluid_is_dark_and_tissue_behind_it_bright() -> None:
    maps = painted(disc("cystic"))
    assert maps.cyst.sum() > 0.5 * maps.nodule.sum()
    assert not (maps.cyst & ~maps.nodule).any()
    amplitude = echo(maps)
    assert power_db(amplitude, ndimage.binary_erosion(maps.cyst, iterations=5)) < -15
    assert power_db(amplitude, behind(beside=False)) > power_db(amplitude, behind(beside=True)) + 3


def test_a_calcified_plate_is_bright_and_shades_what_is_behind() -> None:
    clear, calcified = painted(disc("hypo")), painted(disc("hypo", calcification="macro"))
    columns = (loss_db(calcified, LINEAR_A) - loss_db(clear, LINEAR_A))[-1] > 10
    assert 5 < columns.sum() < 60
    shadow = columns[None, :] & (GRID.depth > CENTRE[1] + 8)
    light = ~ndimage.binary_dilation(columns, iterations=20)[None, :] & (GRID.depth > CENTRE[1] + 8)
    amplitude = echo(calcified)
    assert power_db(amplitude, shadow) < power_db(amplitude, light) - 8
    assert 20 * np.log10(amplitude[calcified.nodule].max()) > 15


def test_blood_is_dark_and_enhances_and_air_shades() -> None:
    maps = Maps.homogeneous(GRID, attenuation=0.45)
    neck.paint_vessel(maps, neck.Vessel((-9.0, 15.0), (3.5, 3.5), 2.0), generator(0, "vessel"))
    neck.paint_trachea(maps, centre=(9.0, 16.0), radius=7.0, rng=generator(0, "trachea"))
    amplitude = echo(maps)

    def level(lateral: float, depth: float) -> float:
        return power_db(amplitude, (np.abs(GRID.lateral - lateral) < 1.5) & (np.abs(GRID.depth - depth) < 1.5))

    assert level(-9, 15) < level(-1, 15) - 8
    assert level(-9, 24) > level(-1, 24) + 1
    assert level(9, 30) < level(-1, 30) - 12


def test_images_of_a_patient_share_the_anatomy_and_differ_in_view() -> None:
    assert patient_of(3, 5) == patient_of(3, 5) != patient_of(3, 6)
    views = [simulate(3, patient=5, image=image, scanner=LINEAR_A, size=(120, 114)).view for image in range(3)]
    assert len({view.nodules[0].radius_mm for view in views}) == 3
    assert len({view.nodules[0].kind for view in views}) == 1


def test_scanners_differ_measurably() -> None:
    spread = {}
    for scanner in SCANNERS:
        image = simulate(0, patient=2, image=0, scanner=scanner, size=(360, 340)).image[40:280, 80:260].astype(float)
        fine = image - ndimage.gaussian_filter(image, 6)
        spread[scanner.name] = (fine[:, 3:] * fine[:, :-3]).mean() / (fine**2).mean()  # likeness 3 columns apart
    assert spread["linear_b"] > spread["linear_a"] + 0.05
    assert LINEAR_A.frequency_mhz > LINEAR_B.frequency_mhz


def test_area_shares_resemble_a_clinical_collection() -> None:
    pictures = [simulate(0, patient=patient, image=0, scanner=LINEAR_A, size=(96, 96)) for patient in range(60)]
    shares = [(picture.nodule > 0).mean() for picture in pictures]
    assert 0.045 < np.median(shares) < 0.11  # DDTI: 0.075
    assert 0.005 < np.min(shares) < 0.03
    assert 0.15 < np.max(shares) < 0.45
