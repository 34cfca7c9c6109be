"""Cases measured in worker threads while the network goes on with the next ones."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from threading import BoundedSemaphore
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from medseg.errors import ScoreError
from medseg.metrics.case import CaseMeasures, measure_case
from medseg.metrics.epoch import CaseScores

Result = TypeVar("Result")


class Measuring(Generic[Result]):
    """A small pool of threads with a short queue; NumPy, OpenCV and SciPy leave the interpreter free meanwhile.

    Results come back in the order in which the cases were handed in, whichever was ready first. Memory is bounded: one
    case more than there are threads is held at a time, the next one waits. A failure is raised with its case's name
    where its result would come back.

    Args:
        workers: number of threads; as many as torch computes with if not given, so that the setting ``threads`` and
            several processes on one machine count here too.
    """

    def __init__(self, workers: int | None = None) -> None:
        self.workers = max(1, torch.get_num_threads() if workers is None else workers)
        self._pool = ThreadPoolExecutor(self.workers, thread_name_prefix="measuring")
        self._free = BoundedSemaphore(self.workers + 1)
        self._handed_in: deque[tuple[str, Future[Result]]] = deque()

    def submit(self, case: str, measure: Callable[[], Result]) -> None:
        """Hand in one case; wait if too many are under way.

        Args:
            case: its name, for messages.
            measure: returns what is kept of it.
        """
        self._free.acquire()
        future = self._pool.submit(measure)
        future.add_done_callback(lambda _: self._free.release())
        self._handed_in.append((case, future))

    def ready(self) -> Iterator[Result]:
        """Yield the results that are there and whose turn it is; wait for none."""
        while self._handed_in and self._handed_in[0][1].done():
            yield self._next()

    def results(self) -> Iterator[Result]:
        """Yield all results that have not come back yet, waiting for them."""
        while self._handed_in:
            yield self._next()

    def close(self) -> None:
        """Stop: what waits is dropped, what runs ends first."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._handed_in.clear()

    def _next(self) -> Result:
        case, future = self._handed_in.popleft()
        error = future.exception()
        if error is None:
            return future.result()
        self.close()
        if isinstance(error, ScoreError):
            raise ScoreError(f"case '{case}': {error}") from error
        error.add_note(f"while case '{case}' was measured")
        raise error


def gives_probabilities(net: nn.Module) -> bool:
    """Return whether the softmax of a network's logits is a probability: by its own word, else if it has parameters.

    Systems without parameters answer with hard labels, written as logits of +-10; a softmax of those would be a
    certainty that nobody claimed. One of them that does estimate probabilities says ``probabilistic = True``, a network
    whose logits are none ``probabilistic = False``.
    """
    said = getattr(net, "probabilistic", None)
    return any(True for _ in net.parameters()) if said is None else bool(said)


class NativeScoring:
    """The cases of a test on their native grid: labels at once, measurements when they are ready.

    Args:
        scores: where the measurements go, in the order of the cases.
        probabilities: whether the logits' softmax is to be judged.
        tolerance: of ``nsd_voxel``.
    """

    def __init__(self, scores: CaseScores, *, probabilities: bool, tolerance: float) -> None:
        self.scores, self.probabilities, self.tolerance = scores, probabilities, tolerance
        self._measuring: Measuring[tuple[int, CaseMeasures]] = Measuring()

    def case(
        self,
        logits: Tensor,
        truth: np.ndarray,
        *,
        case: str,
        index: int,
        spacing: Sequence[float],
        annotated: np.ndarray | None = None,
    ) -> np.ndarray:
        """Return the label map (*S) uint8 of native logits (K, *S) and hand the case over to be measured.

        Of a case that annotates some classes only, (K,) bool, the others are not measured.

        Raises:
            ScoreError: a logit is NaN, or an earlier case could not be measured.
        """
        if bool(torch.isnan(logits).any()):
            raise ScoreError(
                f"case '{case}': the network's output is not a number (NaN), which is no prediction; look at its "
                "weights, or use trainer.precision=32-true."
            )
        labels = logits.max(0).indices.to(torch.uint8).cpu().numpy()
        probabilities = logits.softmax(0)[1:].cpu().numpy() if self.probabilities else None
        measure = partial(
            measure_case, labels, truth, num_classes=len(logits), spacing=spacing, tolerance=self.tolerance,
            probabilities=probabilities, annotated=annotated,
        )  # fmt: skip
        self._record(self._measuring.ready())
        self._measuring.submit(case, partial(_numbered, index, measure))
        return labels

    def finish(self) -> None:
        """Wait for what is still being measured and record it."""
        self._record(self._measuring.results())

    def close(self) -> None:
        """Finish, and end the threads."""
        self.finish()
        self._measuring.close()

    def _record(self, found: Iterator[tuple[int, CaseMeasures]]) -> None:
        for index, measures in found:
            self.scores.record(index, measures)


def _numbered(index: int, measure: Callable[[], Any]) -> tuple[int, Any]:
    return index, measure()
