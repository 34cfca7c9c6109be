"""What a run writes down, in the order in which it comes to be known: the folder first, the tracker after."""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from pandas import DataFrame

from medseg import ledger, runs
from medseg.commands.assembly import Parts
from medseg.commands.forward_cost import forward_cost, interaction_of, kind_of
from medseg.commands.systems import system_in
from medseg.evaluation.pictures import draw_curves, draw_overlays
from medseg.evaluation.score import reliability_side, score_side, write_tables
from medseg.journal import read_journal
from medseg.mirror import mirror_run, start_run
from medseg.selection import selection_of
from medseg.stats.aggregate import headline
from medseg.training.cost import PeakMemory, parameter_counts
from medseg.types import offers
from medseg.whole import write_whole


class Recording:
    """The record of one run; only the first process writes.

    Args:
        config: frozen.
        folder: the run's.
        parts: of the run.
    """

    def __init__(self, config: DictConfig, folder: Path, parts: Parts) -> None:
        self.config: dict[str, Any] = OmegaConf.to_container(config)  # type: ignore[assignment]
        self.folder, self.parts = folder, parts
        self.writes = parts.trainer.is_global_zero
        self.memory = PeakMemory()
        self.started = time.perf_counter()
        self.record = self._first_record()

    def _first_record(self) -> dict[str, Any]:
        config, data, net = self.config, self.parts.data, self.parts.module.net
        parameters, trainable = parameter_counts(net)
        card = data.card
        system = system_in(config)
        return {
            "name": runs.run_name(config),
            "key": runs.run_key(config),
            "status": "running",
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "seed": config["seed"],
            **{name: config[name] for name in ("study", "panel", "preset")},
            "sweep": sweep_id(),
            "choices": config["choices"],
            "data": {**data.summary(), "unit": card.unit, "classes": list(card.classes)},
            "split": {
                "name": data.split.name,
                "hash": data.split.hash,
                "leaky": data.split.leaky,
                "seed": data.split.seed,
            },
            "selection": selection_of(config, net, split=data.split, patients=data.patients()),
            # Names what a step took from elsewhere, such as the coarse run of a cascade.
            "preprocess": data.preprocess.recipe,
            "model": {
                "parameters": parameters,
                "trainable_parameters": trainable,
                "kind": kind_of(net),
                "system": system.name,
                "design": system.design,
                "interactive": offers(net, "prompt"),
                "interaction": interaction_of(net),
                "reading": getattr(net, "READING", ""),
            },
            "mlflow": None,
        }

    def start(self) -> None:
        """Write the config, the split and the first record; open the tracker's run."""
        self.memory.start()
        if not self.writes:
            return
        before = runs.read_record(self.folder) if (self.folder / "run.json").exists() else {}
        self.record["started"] = before.get("started", self.record["started"])
        self._earlier_seconds = self._spent_before(before)
        OmegaConf.save(OmegaConf.create(self.config), self.folder / "config.yaml")
        self.parts.data.split.write(self.folder / "split.json")
        runs.write_json(self.folder / "versions.json", runs.provenance())
        self.record["mlflow"] = before.get("mlflow")
        self._write()
        start_run(self.folder, self.parts.tracker)
        self.record["mlflow"] = self.parts.tracker.link()
        self._write()

    def _spent_before(self, before: dict[str, Any]) -> float:
        """Return the seconds of training that an interrupted start of this run has spent on epochs that are kept."""
        path = self.folder / "metrics.jsonl"
        rows = read_journal(path) if path.exists() else []
        epochs = sum(float(row["metrics"].get("system/epoch_seconds", 0.0)) for row in rows)
        return max(epochs, float(before.get("cost", {}).get("fit_seconds", 0.0)))

    def fitted(self) -> None:
        """Note what the training cost, and what an image costs now."""
        trainer = self.parts.trainer
        seconds = self._earlier_seconds + time.perf_counter() - self.started if self.writes else 0.0
        memory = self.memory.megabytes()
        # Not before: a classical baseline has no forward pass until it is fitted.
        gflops, milliseconds = forward_cost(self.parts)
        self.record["model"] |= {"gflops": gflops, "input_size": list(self.parts.data.input_size())}
        self.record["epochs"] = trainer.current_epoch
        self.record["cost"] = {
            "fit_seconds": round(seconds, 3),
            "ms_per_image": round(milliseconds, 3),
            "peak_memory_mb": round(memory, 1),
            "device": trainer.strategy.root_device.type,
            "threads": torch.get_num_threads(),
            "processes": trainer.world_size,
        }
        if self.writes:
            self._write()

    def score(self) -> None:
        """Score the test side on the native grid and draw curves and overlays; all processes take part."""
        if self.writes:  # noted before anything is looked at
            entry = ledger.access("train-score", [self.record])
            self.record["ledger"] = ledger.append(ledger.path_in(self.config["paths"]["outputs"]), entry)
        scores = score_side(
            self.parts.trainer, self.parts.module, self.parts.data, "test", predictions=self.folder / "predictions"
        )
        if not self.writes:
            return
        reliability = reliability_side(self.parts.module, self.parts.data, "test")
        write_tables(self.folder, scores, reliability, self.parts.data.cases("test"))
        self.record["summary"] = {f"test/{name}": value for name, value in headline(scores).items()}
        self._draw(scores)

    def _draw(self, scores: DataFrame) -> None:
        label = runs.run_name(self.config)
        draw_curves(self.folder, self.parts.data, label, monitor=self.config["monitor"])
        draw_overlays(self.folder, self.parts.data, scores, label)

    def finish(self, seconds: float) -> None:
        """Mark the run as finished, in the folder first; then send it to the tracker."""
        if not self.writes:
            return
        self.record["cost"]["total_seconds"] = round(seconds, 3)
        self.record["status"] = "finished"
        self._write()
        write_whole(self.folder / "DONE", self.record["key"] + "\n")
        self.parts.journal.close()
        mirror_run(self.folder, self.parts.tracker)

    def failed(self) -> None:
        """Mark the run as failed; what is there stays for a later resume."""
        if not self.writes:
            return
        self.record["status"] = "failed"
        self._write()
        self.parts.journal.close()
        self.parts.tracker.finish("FAILED")

    def _write(self) -> None:
        runs.write_json(self.folder / "run.json", self.record)


def sweep_id() -> str | None:
    """Return what the runs of one ``-m`` start have in common, or None in a single run."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    if not HydraConfig.initialized() or HydraConfig.get().mode != RunMode.MULTIRUN:
        return None
    return Path(HydraConfig.get().sweep.dir).name
