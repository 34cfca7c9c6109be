"""What Lightning does at every step and need not: a lighter module and a profiler that measures nothing."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch.profilers import PassThroughProfiler
from torch import Tensor

from medseg.types import Batch


class Unprofiled(PassThroughProfiler):
    """Measures nothing, and spares each of about a hundred calls a step the generator that would measure nothing."""

    _nothing = nullcontext()

    def profile(self, action_name: str) -> AbstractContextManager[None]:
        """Return a context that does nothing."""
        return self._nothing


class ThriftyModule(LightningModule):
    """A Lightning module whose steps are spared what costs time and does nothing for ours."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "_current_fx_name":
            # Lightning sets this one name about fifty times a step; torch would look each time whether it is a layer.
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    def setup(self, stage: str) -> None:
        """Take out the profiler that measures nothing; one that the user asked for stays."""
        if type(self.trainer.profiler) is PassThroughProfiler:  # type: ignore[attr-defined]
            self.trainer.profiler = Unprofiled()  # type: ignore[attr-defined]

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Move the tensors only: Lightning's own walk through a batch refuses frozen dataclasses such as Geometry."""
        wait = device.type != "cuda"
        return {  # type: ignore[return-value]
            name: value.to(device, non_blocking=not wait) if isinstance(value, Tensor) else value
            for name, value in batch.items()
        }
