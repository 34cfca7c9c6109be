"""What is random about a patient and about one image of that patient, drawn before anything is painted."""

from dataclasses import dataclass, replace

import numpy as np

NODULE_KINDS = {"hypo": 0.36, "iso": 0.18, "hyper": 0.08, "cystic": 0.12, "mixed": 0.17, "spongiform": 0.09}
"""Kinds of nodule and how often each occurs."""

ORDERS = np.arange(2, 14)
"""Fourier orders of a nodule's contour."""

OUTLINE_ORDER = 5
"""Highest Fourier order that the reference outline follows; a human outline is smoother than the border."""

_CONTRAST_DB = {
    "hypo": (-8.5, -4.5), "iso": (-2.5, 0.0), "hyper": (3.2, 5.2),
    "cystic": (-5.0, -2.0), "mixed": (-6.5, -3.0), "spongiform": (-5.0, -2.0),
}  # fmt: skip
_HALO_CHANCE = {"hypo": 0.25, "iso": 1.0, "hyper": 0.6, "cystic": 0.0, "mixed": 0.6, "spongiform": 0.7}
_CALCIFICATIONS = {"none": 0.60, "micro": 0.20, "macro": 0.14, "rim": 0.06}


@dataclass(frozen=True)
class Nodule:
    """A nodule in mm and dB.

    Attributes:
        kind: one of ``NODULE_KINDS``.
        radius_mm: radius of the circle of equal area.
        aspect: width over height.
        tilt: rotation in radians.
        place: position in the lobe, (-1..1 towards the trachea, 0..1 from the front wall to the back wall).
        amplitudes: relative Fourier amplitudes of the contour, one per entry of ``ORDERS``.
        phases: their phases in radians.
        contrast_db: echo level of the solid part relative to the gland.
        variation_db: standard deviation of the echo level within the solid part.
        softness_mm: width of the transition at the border.
        halo_mm: width of the dark rim outside the border, 0 for none.
        halo_db: echo level of the rim relative to the gland.
        fluid: share of the area that is fluid, for the kinds with fluid.
        calcification: ``none``, ``micro``, ``macro`` or ``rim``.
    """

    kind: str
    radius_mm: float
    aspect: float
    tilt: float
    place: tuple[float, float]
    amplitudes: tuple[float, ...]
    phases: tuple[float, ...]
    contrast_db: float
    variation_db: float
    softness_mm: float
    halo_mm: float
    halo_db: float
    fluid: float
    calcification: str


@dataclass(frozen=True)
class Patient:
    """The anatomy that all images of one patient share, in mm.

    Attributes:
        side: +1 where the trachea lies to the right of the lobe on the screen, -1 to the left.
        lobe: (width, depth, length) half axes of the lobe.
        cover: depth of the lobe's front wall below the skin.
        fat: share of the cover that is fat; the rest is strap muscle.
        isthmus: thickness of the bridge over the trachea.
        trachea: radius.
        carotid: radius.
        jugular: half axes of the vein, zero height where it is pressed shut.
        gland_db: echo level of the gland.
        gland_variation_db: slow variation of that level.
        spine: distance of the bone behind the lobe's back wall.
        nodules: the nodule that every image shows, and sometimes a second one.
    """

    side: int
    lobe: tuple[float, float, float]
    cover: float
    fat: float
    isthmus: float
    trachea: float
    carotid: float
    jugular: tuple[float, float]
    gland_db: float
    gland_variation_db: float
    spine: float
    nodules: tuple[Nodule, ...]


@dataclass(frozen=True)
class View:
    """One position of the probe and setting of the machine.

    Attributes:
        longitudinal: along the neck; otherwise across it.
        offset_mm: lateral position of the lobe's centre on the screen.
        slope: rise of the layers per mm to the right (the probe is held askew).
        depth_mm: depth shown.
        gain_db: gain relative to the scanner's preset.
        tgc_db: (near, far) error of the depth compensation.
        contact: (left, right) share of the probe without contact.
        nodules: the patient's nodules as this plane cuts them.
    """

    longitudinal: bool
    offset_mm: float
    slope: float
    depth_mm: float
    gain_db: float
    tgc_db: tuple[float, float]
    contact: tuple[float, float]
    nodules: tuple[Nodule, ...]


def _pick(rng: np.random.Generator, shares: dict[str, float]) -> str:
    return str(rng.choice(list(shares), p=np.array(list(shares.values())) / sum(shares.values())))


def draw_nodule(rng: np.random.Generator, *, kind: str | None = None, radius_mm: float | None = None) -> Nodule:
    """Return a random nodule.

    The median radius of 6.8 mm and its spread give area shares close to those of DDTI (Pedraza et al. 2015,
    doi:10.1117/12.2073532).

    Args:
        rng: source of randomness.
        kind: one of ``NODULE_KINDS``; drawn by default.
        radius_mm: drawn by default.
    """
    drawn_kind, drawn_radius = _pick(rng, NODULE_KINDS), 6.8 * np.exp(0.42 * rng.standard_normal())
    kind = drawn_kind if kind is None else kind
    radius = float(np.clip(drawn_radius, 3.2, 16.0)) if radius_mm is None else radius_mm
    lobulated = rng.random() < (0.45 if kind in ("hypo", "mixed") else 0.12)
    coarse, fine = (0.10, 0.015) if kind == "cystic" else (0.15, 0.15 if lobulated else 0.04)
    decay = np.where(ORDERS <= OUTLINE_ORDER, coarse, fine) / ORDERS
    taller = kind == "hypo" and rng.random() < 0.25
    halo = rng.random() < _HALO_CHANCE[kind]
    return Nodule(
        kind=kind,
        radius_mm=radius,
        aspect=float(rng.uniform(0.75, 1.0) if taller else rng.uniform(1.0, 1.6)),
        tilt=float(rng.normal(0, 0.2)),
        place=(float(rng.uniform(-0.6, 0.6)), float(rng.beta(1.6, 1.6))),
        amplitudes=tuple(float(value) for value in decay * np.abs(rng.standard_normal(len(ORDERS)))),
        phases=tuple(float(value) for value in rng.uniform(0, 2 * np.pi, len(ORDERS))),
        contrast_db=float(rng.uniform(*_CONTRAST_DB[kind])),
        variation_db=float(rng.uniform(1.0, 3.2)),
        softness_mm=float(rng.uniform(0.3, 0.6 if halo else 0.9)),
        halo_mm=float(rng.uniform(0.45, 1.0)) if halo else 0.0,
        halo_db=float(rng.uniform(-13, -9)),
        fluid=float(rng.uniform(0.8, 0.95) if kind == "cystic" else rng.uniform(0.15, 0.5)),
        calcification=_pick(rng, _CALCIFICATIONS) if kind in ("hypo", "iso", "mixed") else "none",
    )


def draw_patient(rng: np.random.Generator) -> Patient:
    """Return a random patient; one in ten has a second, smaller nodule."""
    first = draw_nodule(rng)
    second = draw_nodule(rng, radius_mm=float(rng.uniform(0.35, 0.6)) * first.radius_mm)
    towards = -0.9 if first.place[0] > 0 else 0.9
    second = replace(second, place=(towards, second.place[1]))
    several = rng.random() < 1 / 10 and first.radius_mm < 8
    return Patient(
        side=int(rng.choice((-1, 1))),
        lobe=(float(rng.uniform(8.5, 12.5)), float(rng.uniform(6.5, 9.5)), float(rng.uniform(18, 25))),
        cover=float(rng.uniform(5.5, 9.5)),
        fat=float(rng.uniform(0.25, 0.55)),
        isthmus=float(rng.uniform(2.0, 4.5)),
        trachea=float(rng.uniform(7.5, 9.5)),
        carotid=float(rng.uniform(2.8, 3.8)),
        jugular=(float(rng.uniform(3.0, 6.0)), float(max(0.0, rng.uniform(-1.0, 3.2)))),
        gland_db=float(rng.normal(0, 1.2)),
        gland_variation_db=float(rng.uniform(0.6, 2.2)),
        spine=float(rng.uniform(6, 12)),
        nodules=(first, second) if several else (first,),
    )


def draw_view(rng: np.random.Generator, patient: Patient, *, empty: bool = False) -> View:
    """Return a random view of a patient; with ``empty`` the plane misses every nodule."""
    longitudinal = rng.random() < 0.3
    turned = tuple(_cut(rng, nodule, longitudinal) for nodule in patient.nodules)
    largest = max(nodule.radius_mm for nodule in turned)
    needed = patient.cover + max(2 * patient.lobe[1], 2 * largest) + rng.uniform(9, 20)
    return View(
        longitudinal=bool(longitudinal),
        offset_mm=float(rng.normal(0, 2.5)),
        slope=float(rng.normal(0, 0.035)),
        depth_mm=float(np.clip(5 * np.round(needed / 5), 30, 55)),
        gain_db=float(rng.normal(0, 2.2)),
        tgc_db=(float(rng.normal(1.5, 1.5)), float(rng.normal(-6.5, 3.0))),
        contact=(_lifted(rng), _lifted(rng)),
        nodules=() if empty else turned,
    )


def _lifted(rng: np.random.Generator) -> float:
    return float(rng.uniform(0.03, 0.22)) if rng.random() < 0.15 else 0.0


def _cut(rng: np.random.Generator, nodule: Nodule, longitudinal: bool) -> Nodule:
    """Return the nodule as a plane beside its centre cuts it: smaller, of other contour, longer along the neck."""
    beside = min(abs(float(rng.normal(0, 0.3))), 0.75)
    drift = rng.normal(0, 0.25, len(ORDERS))
    stretch = 1.15 if longitudinal else 1.0
    return replace(
        nodule,
        radius_mm=nodule.radius_mm * float(np.sqrt(1 - beside**2)) * float(np.sqrt(stretch)),
        aspect=nodule.aspect * stretch,
        tilt=nodule.tilt + float(rng.normal(0, 0.12)),
        phases=tuple(phase + float(change) for phase, change in zip(nodule.phases, drift, strict=True)),
    )
