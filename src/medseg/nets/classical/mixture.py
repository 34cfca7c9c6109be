"""Gaussian mixture with a Markov random field, kept as it is or refitted to each image's labelling."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from medseg.errors import ConfigError
from medseg.nets.adapters import checked_choice
from medseg.nets.classical.clusters import Clustering, Model
from medseg.nets.classical.markov import disagreements, graph_cut, iterated_conditional_modes

COVARIANCES = ("full", "diag")
MINIMISERS: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "icm": iterated_conditional_modes,
    "graph_cut": graph_cut,
}


class GaussianMixtureMRF(Clustering):
    """Gaussian mixture by EM, then a Potts model whose energy iterated conditional modes or minimum cuts lower.

    A pixel's price for cluster k is -log(w_k N(x; mean_k, covariance_k)); neighbours that differ cost ``beta`` each.
    ``beta`` is 0 for the mixture alone. The answer is a labelling without probabilities. With ``refits`` the mixture
    and the labelling of each image improve each other in turn (HMRF-EM: Zhang, Brady and Smith, IEEE TMI 20(1), 2001).

    Args:
        in_channels: image channels C.
        num_classes: classes K.
        clusters: at least K.
        beta: price of a pair of neighbours that differ.
        refits: times that each image's own labelling refits the mixture; 0 keeps it as it is.
        minimiser: ``icm`` (iterated conditional modes) or ``graph_cut``.
        covariance: ``full``, or ``diag``: of each cluster the channels are independent. On one channel the same.
        sigma: pixels of the Gaussian before; 0 none.
        scope: mixture of the ``training`` side, or of each ``image``.
        samples: most pixels that the mixture is fitted to.
        seed: of the pixels and the start.
        candidates: values of ``clusters``, ``sigma``, ``beta`` and ``refits`` that ``tune`` tries.

    Raises:
        ConfigError: ``beta`` or ``refits`` < 0, an unknown minimiser or covariance; else as in :class:`Clustering`.
    """

    READING = "our reading: the mixture by EM, then the Potts model; with refits, its weights stay in the price"

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        clusters: int = 3,
        beta: float = 1.0,
        refits: int = 0,
        minimiser: str = "icm",
        covariance: str = "full",
        sigma: float = 0.0,
        scope: str = "training",
        samples: int = 20000,
        seed: int = 0,
        candidates: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        super().__init__(
            in_channels=in_channels, num_classes=num_classes, scope=scope, samples=samples, seed=seed,
            arrays=("means", "covariances", "weights"),
            settings={"clusters": clusters, "sigma": sigma, "beta": beta, "refits": refits}, candidates=candidates,
        )  # fmt: skip
        self.minimise = MINIMISERS[checked_choice(minimiser, list(MINIMISERS), key="minimiser")]
        self.covariance = checked_choice(covariance, COVARIANCES, key="covariance")
        if min([beta, *self.candidates.get("beta", [])]) < 0:
            raise ConfigError(f"net.beta={beta} rewards neighbours that differ; give 0 or more.")
        if min([refits, *self.candidates.get("refits", [])]) < 0:
            raise ConfigError(f"net.refits={refits} counts rounds; give 0 or more.")

    def model_of(self, values: np.ndarray) -> Model:
        """Return weights, means and covariances of points (N, F), darkest first."""
        return fitted_mixture(values, self.count, seed=self.seed, covariance=self.covariance)

    def scores_of(self, values: np.ndarray, model: Model) -> np.ndarray:
        """Return 1 for the cluster that the Potts model gives a pixel, else 0, (clusters, H, W)."""
        beta = self.setting("beta")
        unary = _unary(values, model)
        labels = self.minimise(unary, beta)
        for _ in range(int(self.setting("refits"))):
            unary = _unary(values, refitted(values, unary, labels, beta, covariance=self.covariance))
            labels = self.minimise(unary, beta)
        return (labels[None] == np.arange(len(unary))[:, None, None]).astype(np.float32)


def _unary(values: np.ndarray, model: Model) -> np.ndarray:
    """Return the price of each cluster at each pixel, (k, H, W), of values (H, W, F)."""
    return -mixture_log_densities(values.reshape(-1, values.shape[-1]), model).T.reshape(-1, *values.shape[:2])


def refitted(
    values: np.ndarray, unary: np.ndarray, labels: np.ndarray, beta: float, *, covariance: str = "full"
) -> Model:
    """Return the mixture that a labelling of the image's own pixels speaks for: one M-step of HMRF-EM.

    A pixel belongs to cluster k in proportion to exp(-unary_k - beta [neighbours of another label than k]). Without a
    neighbourhood (``beta`` 0) that is the posterior of the mixture, and the step one of plain EM. Published without
    weights; here they stay in the price, as they stand in it before (our reading).

    Args:
        values: (H, W, F).
        unary: (k, H, W), -log(w_k N(x; mean_k, covariance_k)).
        labels: (H, W), of low energy under ``unary``.
        beta: price of a pair of neighbours that differ.
        covariance: ``full`` or ``diag``.
    """
    from scipy.special import softmax

    points = values.reshape(-1, values.shape[-1])
    share = softmax(-unary - beta * disagreements(labels, len(unary)), axis=0).reshape(len(unary), -1)
    total = np.maximum(share.sum(axis=1), 1e-12)
    means = share @ points / total[:, None]
    apart = points[None] - means[:, None]
    covariances = np.einsum("kn,knf,kng->kfg", share, apart, apart) / total[:, None, None]
    if covariance == "diag":
        covariances = covariances * np.eye(points.shape[1])
    return {
        "weights": total / len(points),
        "means": means,
        "covariances": covariances + _ridge(points) * np.eye(points.shape[1]),
    }


def _ridge(points: np.ndarray) -> float:
    """Return a thousandth of the mean variance, for the diagonal of covariances: a screen's black frame has none."""
    return max(1e-3 * float(points.var(axis=0).mean()), 1e-9)


def fitted_mixture(
    values: np.ndarray, clusters: int, *, seed: int, iterations: int = 200, covariance: str = "full"
) -> Model:
    """Return ``weights`` (k,), ``means`` (k, F) and ``covariances`` (k, F, F) of points (N, F), darkest first.

    With ``covariance="diag"`` everything beside the diagonals of the covariances is zero.
    """
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a mixture of 200 steps is good enough
        found = GaussianMixture(
            clusters, covariance_type=covariance, reg_covar=_ridge(values), max_iter=iterations, random_state=seed
        ).fit(values)
    order = np.argsort(found.means_.mean(axis=1), kind="stable")
    covariances = found.covariances_[order]
    if covariance == "diag":  # scikit-learn keeps the diagonals (k, F)
        covariances = covariances[:, :, None] * np.eye(values.shape[1])
    return {"weights": found.weights_[order], "means": found.means_[order], "covariances": covariances}


def mixture_log_densities(points: np.ndarray, model: Model) -> np.ndarray:
    """Return log(w_k N(x; mean_k, covariance_k)), (N, k), of points (N, F)."""
    from scipy.linalg import solve_triangular

    columns = []
    for weight, mean, covariance in zip(model["weights"], model["means"], model["covariances"], strict=True):
        root = np.linalg.cholesky(covariance)
        apart = solve_triangular(root, (points - mean).T, lower=True)
        normal = -0.5 * (apart**2).sum(axis=0) - np.log(np.diag(root)).sum() - 0.5 * len(mean) * np.log(2 * np.pi)
        columns.append(np.log(max(float(weight), 1e-300)) + normal)
    return np.stack(columns, axis=1)
