"""Registration of one volume onto another with SimpleITK: Mattes mutual information, from coarse to fine.

Mutual information (Mattes et al., IEEE TMI 22, 2003) needs no equal intensities, so another modality may be the
reference. One thread and a fixed seed of the sampling: the same files give the same transform.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from medseg.data.volumes.grid import LPS_TO_RAS, Volume
from medseg.data.volumes.itk import itk_image, one_thread
from medseg.errors import ConfigError, DataError

_KINDS = ("rigid", "affine")
_STARTS = ("header", "centre")
_SAMPLES = 20_000
"""Voxels that the optimiser looks at in any case."""


@dataclass(frozen=True, eq=False)
class Registration:
    """A moved volume and how well it lies.

    Attributes:
        volume: the moving volume on the reference's grid, float32 (C, D, H, W), 0 where it says nothing.
        similarity_before: mutual information (nats) of the two as their headers (or centres) place them.
        similarity_after: the same after the registration; larger is better.
        transform: 4 x 4, from a point of the reference to the point of the moving volume, mm in RAS+.
    """

    volume: Volume
    similarity_before: float
    similarity_after: float
    transform: np.ndarray


def register(
    moving: Volume,
    reference: Volume,
    *,
    kind: Literal["rigid", "affine"] = "rigid",
    start: Literal["header", "centre"] = "header",
    bins: int = 32,
    sampling: float = 0.05,
    iterations: int = 100,
    seed: int = 0,
) -> Registration:
    """Register ``moving`` onto ``reference`` and resample it there, linearly.

    A transform is kept only if it raises the similarity; otherwise the volume is resampled as its header says.

    Args:
        moving: (C, D, H, W); channel 0 is compared, all are moved.
        reference: (C, D, H, W); channel 0 is compared.
        kind: ``rigid`` (three angles, three shifts) or ``affine`` (twelve numbers).
        start: where the search begins: the places that the headers state, or both centres on one point.
        bins: of the joint histogram.
        sampling: share of the voxels that the optimiser looks at; the similarities reported are of all voxels.
        iterations: at most, for each resolution level.
        seed: of the sampling.

    Raises:
        ConfigError: ``kind`` or ``start`` is unknown.
        DataError: a volume has no contrast, or the two do not overlap.
    """
    import SimpleITK

    for name, value, known in (("kind", kind, _KINDS), ("start", start, _STARTS)):
        if value not in known:
            raise ConfigError(f"register: {name}='{value}' is unknown; use {' or '.join(known)}.")
    with one_thread():
        fixed, floating = _image(reference, "reference"), _image(moving, "moving volume")
        method = _method(reference, bins=bins, sampling=sampling, iterations=iterations, seed=seed)
        try:
            begin = _beginning(fixed, floating, start)
            before = _similarity(method, fixed, floating, begin)
            found = _search(method, fixed, floating, SimpleITK.Euler3DTransform(begin), kind)
            after = _similarity(method, fixed, floating, found)
        except RuntimeError as error:
            reason = [line.strip() for line in str(error).splitlines() if line.strip()][-1]
            raise DataError(
                f"registration failed ({reason}); if the headers place the volumes far apart, use start=centre."
            ) from None
        if after <= before:
            found, after = begin, before
        return Registration(_moved(moving, reference, fixed, found), before, after, _matrix(found))


def _image(volume: Volume, name: str) -> Any:
    first = volume.values[0]
    if float(first.min()) == float(first.max()):
        raise DataError(f"registration: the {name} has the same value everywhere; choose another channel.")
    return itk_image(first, replace(volume.grid, stored="RAS"))


def _method(reference: Volume, *, bins: int, sampling: float, iterations: int, seed: int) -> Any:
    import SimpleITK

    method = SimpleITK.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(bins)
    method.SetInterpolator(SimpleITK.sitkLinear)
    share = min(1.0, max(sampling, _SAMPLES / reference.values[0].size))
    if share < 1:
        method.SetMetricSamplingStrategy(method.RANDOM)
        method.SetMetricSamplingPercentage(share, seed + 1)  # SimpleITK takes 0 for the time of day
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=max(reference.grid.spacing),
        minStep=1e-3 * min(reference.grid.spacing),
        numberOfIterations=iterations,
        relaxationFactor=0.7,
        gradientMagnitudeTolerance=1e-8,
    )
    method.SetOptimizerScalesFromPhysicalShift()
    # A level keeps at least eight voxels along every axis, or nothing is left to compare.
    levels = [factor for factor in (4, 2) if min(reference.grid.shape) // factor >= 8] + [1]
    method.SetShrinkFactorsPerLevel(levels)
    method.SetSmoothingSigmasPerLevel([factor / 2 if factor > 1 else 0.0 for factor in levels])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOff()
    return method


def _beginning(fixed: Any, floating: Any, start: str) -> Any:
    """Return the rigid transform that the search begins with, turning about the middle of the reference."""
    import SimpleITK

    transform = SimpleITK.Euler3DTransform()
    if start == "centre":
        how = SimpleITK.CenteredTransformInitializerFilter.GEOMETRY
        return SimpleITK.Euler3DTransform(SimpleITK.CenteredTransformInitializer(fixed, floating, transform, how))
    middle = [(side - 1) / 2 for side in fixed.GetSize()]
    transform.SetCenter(fixed.TransformContinuousIndexToPhysicalPoint(middle))
    return transform


def _search(method: Any, fixed: Any, floating: Any, begin: Any, kind: str) -> Any:
    """Return the best transform found; an affine search begins where a rigid one ends, so that it does not get lost."""
    import SimpleITK

    method.SetInitialTransform(begin, inPlace=True)
    method.Execute(fixed, floating)
    if kind == "rigid":
        return begin
    affine = SimpleITK.AffineTransform(3)
    affine.SetCenter(begin.GetCenter())
    affine.SetMatrix(begin.GetMatrix())
    affine.SetTranslation(begin.GetTranslation())
    method.SetInitialTransform(affine, inPlace=True)
    method.Execute(fixed, floating)
    return affine


def _similarity(method: Any, fixed: Any, floating: Any, transform: Any) -> float:
    """Return the mutual information over all voxels of the overlap."""
    method.SetInitialTransform(transform, inPlace=False)
    return -float(method.MetricEvaluate(fixed, floating))


def _moved(moving: Volume, reference: Volume, fixed: Any, transform: Any) -> Volume:
    import SimpleITK

    grid = replace(moving.grid, stored="RAS")
    channels: Sequence[Any] = [itk_image(channel, grid) for channel in moving.values]
    moved = [SimpleITK.Resample(one, fixed, transform, SimpleITK.sitkLinear, 0.0) for one in channels]
    values = np.stack([SimpleITK.GetArrayFromImage(one) for one in moved]).astype(np.float32)
    return Volume(values, reference.grid)


def _matrix(transform: Any) -> np.ndarray:
    """Return an affine transform of LPS points as 4 x 4 of RAS points."""
    origin = np.asarray(transform.TransformPoint((0.0, 0.0, 0.0)))
    matrix = np.eye(4)
    for axis in range(3):
        point = [0.0, 0.0, 0.0]
        point[axis] = 1.0
        matrix[:3, axis] = np.asarray(transform.TransformPoint(point)) - origin
    matrix[:3, 3] = origin
    return LPS_TO_RAS @ matrix @ LPS_TO_RAS
