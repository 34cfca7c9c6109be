"""Where the spread of a comparison comes from: patients, trainings, or the rest.

The model of a value y of method m, training t = (method, seed[, fold]) and patient p is

    y = method_m + (fold_f) + patient_p + training_t + residual,

methods fixed, everything else random: ``dice ~ method + (1 | patient) + (1 | method:seed)``. Hagmann et al. (ICLR 2023,
arXiv 2302.04054) read trainings this way; Searle, Casella, McCulloch, "Variance Components" (1992), chapter 4, has the
estimators. An interaction of method and patient is part of the residual.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medseg.errors import ScoreError

ANOVA, REML = "ANOVA", "REML"
MOST_ROWS = 2000
"""Beyond this many values the restricted likelihood takes too long."""

SMALLEST = 1e-4
"""Where the search starts, as a share of the residual, for a component whose moment is not positive."""

Floats = NDArray[np.float64]
Components = dict[str, float]


@dataclass(frozen=True)
class VarianceShares:
    """Variance components and their shares.

    Attributes:
        patient: share of the spread between patients.
        training: share of the spread between trainings of one method: seed, order of the batches, device.
        residual: share of the rest, interactions of method and patient included.
        method: share of the methods' fixed effects: the marginal R2 of Nakagawa and Schielzeth (2013).
        fold: share of the folds; None with one fixed test set.
        variances: the same as variances, in squared units of the metric.
        estimator: ``ANOVA`` (moments of the balanced design) or ``REML`` (restricted likelihood).
        notes: what was cut or could not be told.
    """

    patient: float
    training: float
    residual: float
    method: float
    fold: float | None
    variances: Mapping[str, float]
    estimator: str
    notes: tuple[str, ...] = ()


def why_not(values: Floats, folds: NDArray[np.int64]) -> str:
    """Return why the variance components of (M, S, P) values cannot be estimated; empty if they can."""
    _, seeds, patients = values.shape
    if seeds < 2:
        return "Variance shares: not estimable from one seed, which cannot be told from its method."
    if patients <= len(np.unique(folds)):
        return "Variance shares: not estimable with one patient in every fold."
    if np.ptp(values) == 0:
        return "Variance shares: not estimable, all values are equal."
    return ""


def variance_shares(values: Floats, folds: NDArray[np.int64], *, estimator: str | None = None) -> VarianceShares | None:
    """Return the variance shares, or None where they are not estimable (see :func:`why_not`).

    Args:
        values: (M, S, P) finite values.
        folds: (P,) test fold of each patient.
        estimator: ``ANOVA`` or ``REML``; None means moments, which in this balanced design are the restricted
            likelihood's own answer as long as none is negative; else ``REML`` up to ``MOST_ROWS`` values, if it
            converges.

    Raises:
        ScoreError: values that are not finite, or ``REML`` was asked for and did not converge.
    """
    if not np.isfinite(values).all():
        raise ScoreError("variance shares: a value is not finite; penalise or leave out undefined values first.")
    if why_not(values, folds):
        return None
    numbers = np.unique(folds, return_inverse=True)[1]
    if estimator == REML:
        found = reml(values, numbers)
        if found is None:
            raise ScoreError("variance shares: the restricted likelihood did not converge; use the moments.")
        return _shares(found, values, REML)
    moments = anova(values, numbers)
    negative = [name for name, variance in moments.items() if variance < 0]
    if estimator is None and negative and values.size <= MOST_ROWS:
        found = reml(values, numbers)
        if found is not None:
            return _shares(found, values, REML)
    return _shares(moments, values, ANOVA, negative)


def anova(values: Floats, folds: NDArray[np.int64]) -> Components:
    """Return the variance components by equating mean squares with their expectations; they may be negative.

    Within a fold of P_f patients every one of the T = M S trainings meets every patient, so that with c the residual
    variance E[MS patients] = c + T patient, E[MS residual] = c and E[MS trainings in methods] = c + mean(P_f) training;
    the means of folds vary by fold + patient / P_f + training / T + c / (T P_f). Trainings are held against those of
    their own method and fold only, so that a method that suits one fold does not count as luck of its trainings.

    Args:
        values: (M, S, P), M >= 1, S >= 2.
        folds: (P,) numbers from 0 without gaps.
    """
    methods, seeds, _ = values.shape
    parts = [values[:, :, folds == fold] for fold in range(int(folds.max()) + 1)]
    sizes = np.array([part.shape[2] for part in parts])
    trainings, count = methods * seeds, len(parts)
    squares = np.array([_squares(part) for part in parts]).sum(axis=0)
    residual = squares[2] / ((trainings - 1) * (sizes - 1).sum())
    patient = (squares[0] / (sizes - 1).sum() - residual) / trainings
    training = (squares[1] / (count * methods * (seeds - 1)) - residual) / sizes.mean()
    found = {"patient": float(patient), "training": float(training), "residual": float(residual)}
    if count > 1:
        means = np.array([part.mean() for part in parts])
        harmonic = float(np.mean(1 / sizes))
        sampling = patient * harmonic + training / trainings + residual * harmonic / trainings
        found["fold"] = float(means.var(ddof=1) - sampling)
    return found


def _squares(part: Floats) -> tuple[float, float, float]:
    """Return the sums of squares of patients, of trainings within methods, and of what is left, of one fold."""
    methods, seeds, patients = part.shape
    table = part.reshape(methods * seeds, patients)
    of_training, of_patient, mean = table.mean(axis=1), table.mean(axis=0), table.mean()
    of_method = part.mean(axis=(1, 2))
    rest = table - of_training[:, None] - of_patient[None, :] + mean
    between = ((of_training.reshape(methods, seeds) - of_method[:, None]) ** 2).sum()
    return (
        float(methods * seeds * ((of_patient - mean) ** 2).sum()),
        float(patients * between),
        float((rest**2).sum()),
    )


def reml(values: Floats, folds: NDArray[np.int64]) -> Components | None:
    """Return the components of the restricted likelihood (statsmodels), or None if it does not converge.

    Args:
        values: (M, S, P).
        folds: (P,) numbers from 0 without gaps.
    """
    import pandas as pd
    import statsmodels.formula.api as formulas
    from statsmodels.regression.mixed_linear_model import MixedLMParams

    methods, seeds, patients = np.indices(values.shape).reshape(3, -1)
    fold = folds[patients]
    scale, moments = float(values.std()), anova(values, folds)
    frame = pd.DataFrame(
        {
            "value": values.ravel() / scale,
            "method": methods,
            "patient": patients,
            "training": (methods * values.shape[1] + seeds) * (fold.max() + 1) + fold,
            "fold": fold,
        }
    )
    random = ["patient", "training", *(["fold"] if fold.max() else [])]
    start = MixedLMParams.from_components(
        fe_params=np.zeros(values.shape[0]),
        cov_re=np.zeros((0, 0)),
        vcomp=np.array([max(moments[name] / moments["residual"], SMALLEST) for name in sorted(random)]),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # boundary and gradient remarks; ``converged`` is what counts
        model = formulas.mixedlm(
            "value ~ C(method)",
            frame,
            groups=np.ones(len(frame)),
            re_formula="0",
            vc_formula={name: f"0 + C({name})" for name in random},
        )
        try:
            # lbfgs was seen to stop early and to say that it had converged.
            result = model.fit(reml=True, method=["bfgs", "cg", "powell"], start_params=start)
        except np.linalg.LinAlgError:
            return None
    if not result.converged:
        return None
    found = dict(zip(model.exog_vc.names, (float(variance) * scale**2 for variance in result.vcomp), strict=True))
    return found | {"residual": float(result.scale) * scale**2}


def _shares(found: Components, values: Floats, estimator: str, negative: list[str] | None = None) -> VarianceShares:
    """Return the shares; a negative moment is cut to 0 and said, and methods count by the variance of their means."""
    kept = {name: max(0.0, variance) for name, variance in found.items()}
    kept["method"] = float(values.mean(axis=(1, 2)).var())
    total = sum(kept.values())
    notes = tuple(f"The estimate for {name} was below 0 and is counted as 0." for name in negative or ())
    return VarianceShares(
        patient=kept["patient"] / total,
        training=kept["training"] / total,
        residual=kept["residual"] / total,
        method=kept["method"] / total,
        fold=kept["fold"] / total if "fold" in kept else None,
        variances=kept,
        estimator=estimator,
        notes=notes,
    )
