"""Gaussian mixture with a Markov random field."""

from collections.abc import Mapping, Sequence

import numpy as np

from medseg.errors import ConfigError
from medseg.nets.classical.clusters import Clustering, Model
from medseg.nets.classical.markov import iterated_conditional_modes


class GaussianMixtureMRF(Clustering):
    """Gaussian mixture by EM, then a Potts model whose energy iterated conditional modes lower.

    A pixel's price for cluster k is -log(w_k N(x; mean_k, covariance_k)); neighbours that differ cost ``beta`` each.
    ``beta`` is 0 for the mixture alone. The answer is a labelling without probabilities.

    Args:
        in_channels: image channels C.
        num_classes: classes K.
        clusters: at least K.
        beta: price of a pair of neighbours that differ.
        sigma: pixels of the Gaussian before; 0 none.
        scope: mixture of the ``training`` side, or of each ``image``.
        samples: most pixels that the mixture is fitted to.
        seed: of the pixels and the start.
        candidates: values of ``clusters``, ``sigma`` and ``beta`` that ``tune`` tries.

    Raises:
        ConfigError: ``beta`` < 0; else as in :class:`Clustering`.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        clusters: int = 3,
        beta: float = 1.0,
        sigma: float = 0.0,
        scope: str = "training",
        samples: int = 20000,
        seed: int = 0,
        candidates: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        super().__init__(
            in_channels=in_channels, num_classes=num_classes, scope=scope, samples=samples, seed=seed,
            arrays=("means", "covariances", "weights"),
            settings={"clusters": clusters, "sigma": sigma, "beta": beta}, candidates=candidates,
        )  # fmt: skip
        if min([beta, *self.candidates.get("beta", [])]) < 0:
            raise ConfigError(f"net.beta={beta} rewards neighbours that differ; give 0 or more.")

    def model_of(self, values: np.ndarray) -> Model:
        """Return weights, means and covariances of points (N, F), darkest first."""
        return fitted_mixture(values, self.count, seed=self.seed)

    def scores_of(self, values: np.ndarray, model: Model) -> np.ndarray:
        """Return 1 for the cluster that the Potts model gives a pixel, else 0, (clusters, H, W)."""
        points = values.reshape(-1, values.shape[-1])
        unary = -mixture_log_densities(points, model).T.reshape(-1, *values.shape[:2])
        labels = iterated_conditional_modes(unary, self.setting("beta"))
        return (labels[None] == np.arange(len(unary))[:, None, None]).astype(np.float32)


def fitted_mixture(values: np.ndarray, clusters: int, *, seed: int, iterations: int = 200) -> Model:
    """Return ``weights`` (k,), ``means`` (k, F) and ``covariances`` (k, F, F) of points (N, F), darkest first.

    The covariances get a thousandth of the mean variance on their diagonal, because a screen's black frame has none.
    """
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    ridge = max(1e-3 * float(values.var(axis=0).mean()), 1e-9)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a mixture of 200 steps is good enough
        found = GaussianMixture(clusters, reg_covar=ridge, max_iter=iterations, random_state=seed).fit(values)
    order = np.argsort(found.means_.mean(axis=1), kind="stable")
    return {"weights": found.weights_[order], "means": found.means_[order], "covariances": found.covariances_[order]}


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
