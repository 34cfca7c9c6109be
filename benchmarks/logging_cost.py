"""What it costs to write metrics down: the run's journal, the batched MLflow mirror, one MLflow call per metric.

A training with five metrics a step and an epoch of a hundred steps pays, per step, one journal row (if it logs every
step) and a hundredth of a request to MLflow. Together they have to stay below 0.1 ms.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from medseg.journal import Journal
from medseg.tracking import MLflowTracker

METRICS = {f"train/metric{index}": 0.5 for index in range(5)}
STEPS_PER_EPOCH = 100
GOAL, LIMIT = 0.1e-3, 2e-3
REPEATS = 15


def median_seconds(action: Callable[[], object], repeats: int = REPEATS) -> float:
    """Return the median wall time of an action; the first call is not counted."""
    action()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> int:
    """Print microseconds per metric; the exit code is 1 when a step pays more than the limit."""
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder) / "metrics.jsonl")
        rows = [journal.log(METRICS, epoch=0, step=0)]
        tracker = MLflowTracker(Path(folder) / "mlartifacts")
        start = time.perf_counter()
        run_id = tracker.start("bench", {}, {})
        print(f"{'new store and run':34} {time.perf_counter() - start:10.1f} s, once")
        if run_id is None:
            return 1
        epochs = iter(range(10**9))

        def epoch_of_rows() -> None:
            for step in range(1000):
                journal.log(METRICS, epoch=0, step=step)

        def send(count: int) -> None:
            tracker.metrics([{**rows[0], "epoch": next(epochs)} for _ in range(count)])

        def one_by_one() -> None:
            for name, value in METRICS.items():
                tracker._client().log_metric(run_id, name, value, step=next(epochs))

        costs = {
            "journal, a row of 5": median_seconds(epoch_of_rows) / 5000,
            "MLflow, one request of 5": median_seconds(lambda: send(1)) / 5,
            "MLflow, one request of 1000": median_seconds(lambda: send(200)) / 1000,
            "MLflow, a request per metric": median_seconds(one_by_one) / 5,
        }
        for name, seconds in costs.items():
            print(f"{name:34} {1e6 * seconds:10.1f} us per metric")
        step = 5 * (costs["journal, a row of 5"] + costs["MLflow, one request of 5"] / STEPS_PER_EPOCH)
        print(f"{'a step with 5 metrics':34} {1e3 * step:10.3f} ms (goal {1e3 * GOAL:.1f}, limit {1e3 * LIMIT:.0f})")
        print(f"{'the same by one request per metric':34} {5e3 * costs['MLflow, a request per metric']:10.3f} ms")
        journal.close()
        return int(step > LIMIT or not tracker.healthy)


if __name__ == "__main__":
    sys.exit(main())
