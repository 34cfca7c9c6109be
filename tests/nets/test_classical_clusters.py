"""Clusterings minimise what they say they minimise; a Markov random field only ever lowers its energy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.errors import ConfigError, DataError
from medseg.nets.classical.fuzzy import fuzzy_c_means, memberships, spread_start, squared_distances
from medseg.nets.classical.fuzzy_cmeans import FuzzyCMeans
from medseg.nets.classical.kmeans import KMeans
from medseg.nets.classical.markov import disagreements, expansion, graph_cut, iterated_conditional_modes, potts_energy
from medseg.nets.classical.mixture import GaussianMixtureMRF, fitted_mixture, mixture_log_densities, refitted

SYSTEMS = [KMeans, FuzzyCMeans, GaussianMixtureMRF]


def points(seed: int, features: int = 2) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.normal(middle, 0.5, (60, features)) for middle in (-2.0, 0.5, 3.0)])


def scene() -> tuple[np.ndarray, np.ndarray]:
    """Two classes and a background of three greys, with noise: (40, 44, 1) float32 and its mask."""
    mask = np.zeros((40, 44), np.uint8)
    mask[5:25, 5:20], mask[20:36, 26:40] = 1, 2
    noise = 0.2 * np.random.default_rng(0).standard_normal(mask.shape)
    return (np.array([0.0, -3.0, 3.0])[mask] + noise).astype(np.float32)[..., None], mask


@given(seed=st.integers(0, 2000), m=st.floats(1.1, 4.0), clusters=st.integers(2, 5))
@settings(max_examples=30, deadline=None, derandomize=True)
def test_memberships_are_shares_and_the_objective_never_increases(seed: int, m: float, clusters: int) -> None:
    data = points(seed)
    found = fuzzy_c_means(data, np.ones(len(data)), clusters=clusters, m=m)
    share = memberships(data, found.centres, m=m)
    np.testing.assert_allclose(share.sum(axis=1), 1, atol=1e-12)
    assert share.min() >= 0
    assert share.max() <= 1
    fall = np.diff(found.objectives)
    assert (fall <= 1e-9 * found.objectives[0]).all()


def test_memberships_are_the_published_formula_and_certain_on_a_centre() -> None:
    centres = np.array([[0.0], [1.0], [4.0]])
    distance = np.abs(np.array([0.3]) - centres[:, 0])
    wanted = [1 / sum((one / other) ** (2 / (2.5 - 1)) for other in distance) for one in distance]
    np.testing.assert_allclose(memberships(np.array([[0.3]]), centres, m=2.5)[0], wanted)
    np.testing.assert_allclose(memberships(np.array([[1.0]]), centres, m=2.0)[0], [0, 1, 0], atol=1e-9)


def test_little_fuzziness_is_k_means() -> None:
    from sklearn.cluster import KMeans as Lloyd

    data = points(3)
    centres = fuzzy_c_means(data, np.ones(len(data)), clusters=3, m=1.02).centres
    hard = Lloyd(3, init=spread_start(data, np.ones(len(data)), 3), n_init=1).fit(data)
    ours = squared_distances(data, centres).argmin(axis=1)
    theirs = squared_distances(data, hard.cluster_centers_[np.argsort(hard.cluster_centers_.mean(1))]).argmin(axis=1)
    assert (ours == theirs).mean() > 0.99


def test_a_histogram_gives_the_centres_of_its_pixels() -> None:
    grey = np.random.default_rng(5).choice([10.0, 11.0, 60.0, 64.0, 130.0], 4000, p=[0.3, 0.2, 0.2, 0.2, 0.1])
    values, counts = np.unique(grey, return_counts=True)
    one_by_one = fuzzy_c_means(grey[:, None], np.ones(len(grey)), clusters=3).centres
    np.testing.assert_allclose(fuzzy_c_means(values[:, None], counts, clusters=3).centres, one_by_one, atol=1e-3)


def test_the_mixtures_likelihood_never_decreases_with_more_steps() -> None:
    data = points(7)
    likelihoods = []
    for steps in range(1, 12):
        log = mixture_log_densities(data, fitted_mixture(data, 3, seed=0, iterations=steps))
        likelihoods.append(np.logaddexp.reduce(log, axis=1).mean())
    assert np.diff(likelihoods).min() > -1e-3  # the ridge on the covariances may cost that much
    assert likelihoods[-1] > likelihoods[0] - 1e-3


def test_densities_are_those_of_a_normal_distribution() -> None:
    from scipy.stats import multivariate_normal

    data = points(8)
    model = fitted_mixture(data, 3, seed=0)
    for place, (weight, mean, covariance) in enumerate(
        zip(model["weights"], model["means"], model["covariances"], strict=True)
    ):
        wanted = np.log(weight) + multivariate_normal(mean, covariance).logpdf(data)
        np.testing.assert_allclose(mixture_log_densities(data, model)[:, place], wanted, rtol=1e-8)


def test_a_diagonal_mixture_is_one_of_independent_channels() -> None:
    from scipy.stats import norm

    rng = np.random.default_rng(11)
    tilted = np.concatenate([rng.normal(0, 1, (200, 1)) * [[1.0, 0.9]] + rng.normal(0, 0.1, (200, 2)), points(8) + 6])
    full, diag = (fitted_mixture(tilted, 3, seed=0, covariance=kind) for kind in ("full", "diag"))
    assert np.abs(full["covariances"][:, 0, 1]).max() > 0.1
    assert (diag["covariances"][:, [0, 1], [1, 0]] == 0).all()
    for place, (weight, mean, covariance) in enumerate(
        zip(diag["weights"], diag["means"], diag["covariances"], strict=True)
    ):
        wanted = np.log(weight) + norm(mean, np.sqrt(np.diag(covariance))).logpdf(tilted).sum(axis=1)
        np.testing.assert_allclose(mixture_log_densities(tilted, diag)[:, place], wanted, rtol=1e-8)
    values = tilted.reshape(20, -1, 2)
    unary = -mixture_log_densities(tilted, diag).T.reshape(3, *values.shape[:2])
    again = refitted(values, unary, unary.argmin(axis=0), 0.5, covariance="diag")
    assert (again["covariances"][:, [0, 1], [1, 0]] == 0).all()
    assert (np.abs(refitted(values, unary, unary.argmin(axis=0), 0.5)["covariances"][:, 0, 1]) > 0).all()


def test_a_system_of_independent_channels_tells_its_classes_after_refits_too() -> None:
    image, mask = scene()
    coloured = np.concatenate([image, -image], axis=-1)
    net = GaussianMixtureMRF(in_channels=2, num_classes=3, clusters=3, covariance="diag", refits=2)
    net.fit([coloured], [mask])
    assert (net(torch.from_numpy(coloured).movedim(-1, 0)[None]).argmax(1)[0].numpy() == mask).mean() > 0.99
    assert (net.known("covariances")[:, 0, 1] == 0).all()


def test_without_neighbourhood_it_is_the_pixelwise_best() -> None:
    unary = np.random.default_rng(0).random((3, 20, 21))
    assert np.array_equal(iterated_conditional_modes(unary, 0.0), unary.argmin(axis=0))
    image, mask = scene()
    net = GaussianMixtureMRF(in_channels=1, num_classes=3, clusters=3, beta=0.0)
    net.fit([image], [mask])
    model = {name: net.known(name) for name in ("weights", "means", "covariances")}
    best = mixture_log_densities(image.reshape(-1, 1).astype(np.float64), model).argmax(axis=1).reshape(mask.shape)
    labels = net(torch.from_numpy(image).movedim(-1, 0)[None]).argmax(1)[0].numpy()
    assert np.array_equal(labels, net.known("classes")[best])


@given(seed=st.integers(0, 3000), beta=st.floats(0.0, 3.0), labels=st.integers(2, 4))
@settings(max_examples=30, deadline=None, derandomize=True)
def test_no_sweep_raises_the_energy(seed: int, beta: float, labels: int) -> None:
    unary = np.random.default_rng(seed).random((labels, 15, 17)) * 2
    energies = [
        potts_energy(iterated_conditional_modes(unary, beta, sweeps=sweeps), unary, beta) for sweeps in range(8)
    ]
    assert (np.diff(energies) <= 1e-9).all()
    assert energies[0] == pytest.approx(potts_energy(unary.argmin(axis=0), unary, beta))


def test_the_end_is_a_local_minimum_and_neighbours_are_counted_right() -> None:
    unary = np.random.default_rng(4).random((3, 9, 8))
    labels = iterated_conditional_modes(unary, 0.4)
    lowest = potts_energy(labels, unary, 0.4)
    for place in np.ndindex(labels.shape):
        for label in range(3):
            other = labels.copy()
            other[place] = label
            assert potts_energy(other, unary, 0.4) >= lowest - 1e-9
    # Every differing pair is seen from both of its ends.
    own = np.take_along_axis(disagreements(labels, 3), labels[None], 0).sum()
    assert own / 2 == potts_energy(labels, np.zeros((3, 9, 8)), 1.0)


def test_strong_neighbourhood_leaves_one_label_of_scattered_noise() -> None:
    """Of scattered noise only: a local minimum may keep a solid block whose pixels all want to stay."""
    unary = np.random.default_rng(6).normal(0, 0.2, (2, 30, 30))
    unary[1] += 0.55
    assert (unary.argmin(axis=0) == 1).sum() >= 10
    assert not iterated_conditional_modes(unary, 50.0).any()


@given(seed=st.integers(0, 3000), beta=st.floats(0.05, 3.0))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_a_cut_between_two_labels_has_the_least_energy_of_all_labellings(seed: int, beta: float) -> None:
    unary = np.random.default_rng(seed).random((2, 3, 4)) * 3
    every = [np.array(one).reshape(3, 4) for one in np.ndindex(*[2] * 12)]
    lowest = min(potts_energy(one, unary, beta) for one in every)
    assert potts_energy(graph_cut(unary, beta), unary, beta) == pytest.approx(lowest, abs=12 * beta / 1024)


@given(seed=st.integers(0, 3000), beta=st.floats(0.05, 3.0), label=st.integers(0, 2))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_an_expansion_is_the_best_choice_between_keeping_and_taking(seed: int, beta: float, label: int) -> None:
    rng = np.random.default_rng(seed)
    unary, labels = rng.random((3, 3, 3)) * 3, rng.integers(0, 3, (3, 3))
    choices = [np.where(np.array(one).reshape(3, 3), label, labels) for one in np.ndindex(*[2] * 9)]
    lowest = min(potts_energy(one, unary, beta) for one in choices)
    found = expansion(labels, unary, beta, label=label)
    assert ((found == labels) | (found == label)).all()
    assert potts_energy(found, unary, beta) == pytest.approx(lowest, abs=9 * beta / 1024)


@given(seed=st.integers(0, 3000), beta=st.floats(0.0, 3.0), labels=st.integers(2, 4))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_cuts_end_no_higher_than_conditional_modes(seed: int, beta: float, labels: int) -> None:
    unary = np.random.default_rng(seed).random((labels, 12, 13)) * 2
    local = potts_energy(iterated_conditional_modes(unary, beta), unary, beta)
    assert potts_energy(graph_cut(unary, beta), unary, beta) <= local + 156 * beta / 1024


def test_a_strong_neighbourhood_leaves_one_label_to_a_cut_also_of_a_solid_block() -> None:
    unary = np.random.default_rng(6).normal(0, 0.2, (2, 30, 30))
    unary[1] += 0.55
    unary[1, 4:10, 4:10] -= 5.0
    assert iterated_conditional_modes(unary, 50.0).any()
    assert not graph_cut(unary, 50.0).any()
    outlier = unary.copy()
    outlier[0, 20, 20] += 1e9  # one pixel far outside every cluster: prices stay countable, and it has its way
    assert graph_cut(outlier, 50.0).sum() == 1


def test_refits_without_neighbourhood_are_steps_of_plain_em() -> None:
    from sklearn.mixture import GaussianMixture

    values = points(9, 2).reshape(12, 15, 2)
    flat = values.reshape(-1, 2)
    model = fitted_mixture(flat, 3, seed=0, iterations=1)
    unary = -mixture_log_densities(flat, model).T.reshape(3, 12, 15)
    ours = refitted(values, unary, unary.argmin(axis=0), 0.0)
    theirs = GaussianMixture(
        3, reg_covar=1e-3 * flat.var(axis=0).mean(), max_iter=1, weights_init=model["weights"],
        means_init=model["means"], precisions_init=np.linalg.inv(model["covariances"]),
    )  # fmt: skip
    with pytest.warns(UserWarning, match="did not converge"):
        theirs.fit(flat)
    np.testing.assert_allclose(ours["means"], theirs.means_, rtol=1e-6)
    np.testing.assert_allclose(ours["weights"], theirs.weights_, rtol=1e-6)
    np.testing.assert_allclose(ours["covariances"], theirs.covariances_, rtol=1e-6, atol=1e-9)


def test_refits_follow_an_image_whose_greys_have_moved() -> None:
    image, mask = scene()
    moved = image + 1.4
    right = []
    for refits, minimiser in ((0, "icm"), (8, "icm"), (8, "graph_cut")):
        net = GaussianMixtureMRF(in_channels=1, num_classes=3, clusters=3, beta=0.5, refits=refits, minimiser=minimiser)
        net.fit([image], [mask])
        right.append((net(torch.from_numpy(moved).movedim(-1, 0)[None]).argmax(1)[0].numpy() == mask).mean())
    assert right[0] < 0.9 < 0.99 < min(right[1:])


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("scope", ["training", "image"])
def test_clusters_find_their_classes(system: type, scope: str) -> None:
    image, mask = scene()
    net = system(in_channels=1, num_classes=3, clusters=3, sigma=0.0, scope=scope)
    net.fit([image, image + 0.1], [mask, mask])
    labels = net(torch.from_numpy(image).movedim(-1, 0)[None]).argmax(1)[0].numpy()
    assert (labels == mask).mean() > 0.99


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_same_seed_gives_the_same_clusters_and_ignored_pixels_give_none(system: type) -> None:
    image, mask = scene()
    spoilt, holes = image.copy(), mask.copy()
    spoilt[:3], holes[:3] = 99.0, 255
    nets = [system(in_channels=1, num_classes=3, clusters=3, sigma=0.0, samples=500) for _ in range(3)]
    for net, (one, other) in zip(nets, [(image, mask), (image, mask), (spoilt, holes)], strict=True):
        net.fit([one], [other])
    name = nets[0].arrays[0]
    assert torch.equal(getattr(nets[0], name), getattr(nets[1], name))
    assert float(getattr(nets[2], name).max()) < 5


def test_memberships_become_class_probabilities() -> None:
    image, mask = scene()
    net = FuzzyCMeans(in_channels=1, num_classes=3, clusters=4, sigma=0.0)
    net.fit([image], [mask])
    logits = net(torch.from_numpy(image).movedim(-1, 0)[None])
    torch.testing.assert_close(logits.exp().sum(1), torch.ones(1, *mask.shape), atol=1e-4, rtol=0)


def test_the_neighbourhood_of_fuzzy_c_means_quiets_noise() -> None:
    image, mask = scene()
    noisy = image + 1.5 * np.random.default_rng(1).standard_normal(image.shape).astype(np.float32)
    right = []
    for alpha in (0.0, 4.0):
        net = FuzzyCMeans(in_channels=1, num_classes=3, clusters=3, alpha=alpha)
        net.fit([noisy], [mask])
        right.append((net(torch.from_numpy(noisy).movedim(-1, 0)[None]).argmax(1)[0].numpy() == mask).mean())
    assert right[1] > right[0] + 0.1


def test_faults_are_named() -> None:
    with pytest.raises(ConfigError, match=r"net\.clusters=2 is less than the 3 classes"):
        KMeans(in_channels=1, num_classes=3, clusters=2)
    with pytest.raises(ConfigError, match=r"net\.clusters=1 is less"):
        KMeans(in_channels=1, num_classes=2, candidates={"clusters": [3, 1]})
    with pytest.raises(ConfigError, match=r"net\.m=1\.0 must be above 1"):
        FuzzyCMeans(in_channels=1, num_classes=2, m=1.0)
    with pytest.raises(ConfigError, match=r"net\.beta=-1\.0 rewards"):
        GaussianMixtureMRF(in_channels=1, num_classes=2, beta=-1.0)
    with pytest.raises(ConfigError, match=r"net\.refits=-2 counts rounds"):
        GaussianMixtureMRF(in_channels=1, num_classes=2, refits=-2)
    with pytest.raises(ConfigError, match=r"net\.covariance='tied' is unknown; choose one of full, diag"):
        GaussianMixtureMRF(in_channels=1, num_classes=2, covariance="tied")
    with pytest.raises(ConfigError, match=r"net\.minimiser='cuts'"):
        GaussianMixtureMRF(in_channels=1, num_classes=2, minimiser="cuts")
    with pytest.raises(DataError, match=r"fewer than 3 different values; lower net\.clusters"):
        KMeans(in_channels=1, num_classes=2).fit([np.zeros((5, 5, 1), np.float32)], [np.eye(5, dtype=np.uint8)])
