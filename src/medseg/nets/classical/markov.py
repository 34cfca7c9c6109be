"""A Potts model on the pixel grid: its energy, and two ways to a labelling of low energy."""

import numpy as np

STEPS = 1024
"""Whole numbers that the price of a pair is cut into where flows are counted."""


def disagreements(labels: np.ndarray, count: int) -> np.ndarray:
    """Return how many of its (up to) four neighbours have another label than k, for each k: (count, H, W) float32."""
    alike = labels[None] == np.arange(count)[:, None, None]
    padded = np.pad(alike.astype(np.float32), ((0, 0), (1, 1), (1, 1)))
    same = padded[:, :-2, 1:-1] + padded[:, 2:, 1:-1] + padded[:, 1:-1, :-2] + padded[:, 1:-1, 2:]
    return same.sum(axis=0, keepdims=True) - same


def potts_energy(labels: np.ndarray, unary: np.ndarray, beta: float) -> float:
    """Return sum_i unary_i(l_i) + beta sum_{i~j} [l_i != l_j] over pairs of four-neighbours, each counted once.

    Args:
        labels: (H, W) int.
        unary: (K, H, W), -log p(x_i, k).
        beta: price of a pair that differs.
    """
    own = np.take_along_axis(unary, labels[None], axis=0).sum(dtype=np.float64)
    pairs = (labels[1:] != labels[:-1]).sum() + (labels[:, 1:] != labels[:, :-1]).sum()
    return float(own + beta * pairs)


def iterated_conditional_modes(unary: np.ndarray, beta: float, *, sweeps: int = 30) -> np.ndarray:
    """Return labels (H, W) int64 of a local minimum of the Potts energy (Besag 1986).

    It starts at the pixelwise minimum of ``unary`` and gives every pixel the label of least energy under its
    neighbours. The white and the black fields of a chessboard take turns: fields of one colour are no neighbours, so
    the energy never increases. A pixel changes only where it gains.

    Args:
        unary: (K, H, W), -log p(x_i, k).
        beta: price of a pair that differs, at least 0.
        sweeps: most of them; stops before when nothing changes.
    """
    labels = unary.argmin(axis=0)
    if beta == 0:
        return labels
    colour = np.indices(labels.shape).sum(axis=0) % 2
    for _ in range(sweeps):
        before = labels.copy()
        for turn in (0, 1):
            energy = unary + beta * disagreements(labels, len(unary))
            best = energy.argmin(axis=0)
            gain = np.take_along_axis(energy, labels[None], 0)[0] - np.take_along_axis(energy, best[None], 0)[0]
            labels = np.where((colour == turn) & (gain > 0), best, labels)
        if np.array_equal(labels, before):
            break
    return labels


def graph_cut(unary: np.ndarray, beta: float, *, rounds: int = 10) -> np.ndarray:
    """Return labels (H, W) int64 of low Potts energy by minimum cuts (Boykov, Veksler and Zabih, TPAMI 23(11), 2001).

    Two labels: the lowest energy there is. More: alpha-expansion from where iterated conditional modes end, so that it
    never ends higher than they; each expansion offers one label to all pixels at once and is kept if the energy falls.
    Prices are rounded to ``beta / 1024`` (coarser above some 100,000 pixels), for the flow is counted in whole numbers.

    Args:
        unary: (K, H, W), -log p(x_i, k).
        beta: price of a pair that differs, at least 0.
        rounds: most rounds over all labels.
    """
    if beta == 0:
        return unary.argmin(axis=0)
    if len(unary) == 2:
        return expansion(np.zeros(unary.shape[1:], dtype=np.int64), unary, beta, label=1)
    labels = iterated_conditional_modes(unary, beta)
    lowest = potts_energy(labels, unary, beta)
    for _ in range(rounds):
        before = lowest
        for label in range(len(unary)):
            offered = expansion(labels, unary, beta, label=label)
            energy = potts_energy(offered, unary, beta)
            if energy < lowest:
                labels, lowest = offered, energy
        if lowest == before:
            break
    return labels


def expansion(labels: np.ndarray, unary: np.ndarray, beta: float, *, label: int) -> np.ndarray:
    """Return the labelling of least energy where every pixel keeps its label or takes the offered one, (H, W) int64.

    The minimum cut of the graph of Kolmogorov and Zabih (TPAMI 26(2), 2004). With x = 1 for "takes it" and prices A, B,
    C, D of (0, 0), (0, 1), (1, 0), (1, 1), a pair costs A + (C - A) x_i + (D - C) x_j + (B + C - A - D)(1 - x_i) x_j.

    Args:
        labels: (H, W) int.
        unary: (K, H, W), -log p(x_i, k).
        beta: price of a pair that differs, above 0.
        label: the one that is offered.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import breadth_first_order, maximum_flow

    gain = (np.take_along_axis(unary, labels[None], axis=0)[0] - unary[label]).ravel() / beta
    index, other = np.arange(labels.size).reshape(labels.shape), (labels != label).ravel()
    left = np.concatenate([index[:, :-1].ravel(), index[:-1].ravel()])
    right = np.concatenate([index[:, 1:].ravel(), index[1:].ravel()])
    differ = (labels.ravel()[left] != labels.ravel()[right]).astype(np.int64)
    # In units of beta: A = differ, B (the right takes it) = other[left], C = other[right], D = 0.
    np.subtract.at(gain, left, other[right] - differ)
    np.add.at(gain, right, other[right])
    between = other[left].astype(np.int64) + other[right] - differ
    # A pixel has four neighbours at prices of at most 2: what wants more than all of them has its way at 9 as well.
    unit = max(1, min(STEPS, (2**31 - 1) // (9 * labels.size)))
    pull = np.round(gain.clip(-9, 9) * unit).astype(np.int64)
    source, sink = labels.size, labels.size + 1
    takes, keeps = np.flatnonzero(pull > 0), np.flatnonzero(pull < 0)
    # On the source's side: those who take it. (1 - x_left) x_right is cut from the right to the left.
    starts = np.concatenate([right, np.full(len(takes), source), keeps])
    ends = np.concatenate([left, takes, np.full(len(keeps), sink)])
    room = np.concatenate([between * unit, pull[takes], -pull[keeps]]).astype(np.int32)
    graph = csr_array((room, (starts, ends)), shape=(labels.size + 2, labels.size + 2))
    left_over = csr_array(graph - maximum_flow(graph, source, sink).flow)
    left_over.eliminate_zeros()
    reached = breadth_first_order(left_over, source, return_predecessors=False)
    taken = np.zeros(labels.size + 2, dtype=bool)
    taken[reached] = True
    return np.where(taken[: labels.size].reshape(labels.shape), label, labels)
