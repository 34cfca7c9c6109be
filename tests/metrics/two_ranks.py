"""One rank of a real gloo group; started as a process of its own: ``python two_ranks.py RANK WORLD FOLDER``.

Scores its share of nine fixed cases in several scenarios and writes what `CaseScores` gathered there.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch import distributed

from medseg.metrics.epoch import CaseScores

CLASSES, CASES = 3, 7
SCENARIOS = {  # indices of each rank
    "uneven": ([0, 2, 4, 6], [1, 3, 5]),
    "padded": ([0, 2, 4, 6], [1, 3, 5, 0]),
    "idle": ([0, 1, 2, 3, 4, 5, 6], []),
}


def case(index):
    """Return prediction and truth of one case; the shape differs from case to case, masks may be empty."""
    draw = np.random.default_rng(index)
    shape = (12 + index, 15)
    truth = draw.integers(0, CLASSES, shape).astype(np.uint8) * (draw.random(shape) < 0.5)
    prediction = np.where(draw.random(shape) < 0.7, truth, draw.integers(0, CLASSES, shape)).astype(np.uint8)
    return (prediction * (index != 2), truth * (index not in (2, 5)))


def scored(indices, *, native):
    """Return the record of some cases, one by one on their native grid or as batches of two of one size."""
    scores = CaseScores(CLASSES, measure=native)
    for index in indices if native else []:
        scores.update(*case(index), index=index, spacing=(1.0, 0.5 + index))
    for start in range(0, 0 if native else len(indices), 2):
        part = indices[start : start + 2]
        maps = [[torch.from_numpy(array[:12]).long() for array in case(index)] for index in part]
        labels, mask = (torch.stack(side) for side in zip(*maps, strict=True))
        scores.update_batch(labels, mask, torch.tensor(part))
    return scores


def write(path, scores):
    """Gather twice (as a table, as a headline) and write both; every rank must come here."""
    rows = scores.gathered()
    again = scores.compute()
    measured = np.empty(0) if rows.measured is None else rows.measured
    parts = {"index": rows.index, "counts": rows.counts, "measured": measured, "diagonals": rows.diagonals}
    np.savez(path, **parts, tolerances=rows.tolerances)
    path.with_suffix(".json").write_text(json.dumps(again))


def main(rank, world, folder):
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
    for name, shares in SCENARIOS.items():
        for native in (True, False):
            write(folder / f"{name}-{'native' if native else 'batch'}-{rank}.npz", scored(shares[rank], native=native))
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
