"""``medseg ensemble``: the mean of several runs' probabilities on their common test side, as a run of its own."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from medseg import ledger, runs
from medseg.commands.configuration import choices, freeze, run_hydra
from medseg.commands.members import Named, divided, find_runs
from medseg.errors import ConfigError, RunError
from medseg.selection import check_side
from medseg.whole import write_whole

if TYPE_CHECKING:
    from medseg.data.datamodule import SegmentationData
    from medseg.evaluation.ensemble import Member
    from medseg.evaluation.gains import Judge
    from medseg.evaluation.probabilities import Predicted, Scorer

FOLDER = "ensembles"


def main(arguments: Sequence[str]) -> None:
    """Run ``medseg ensemble`` with runs, ``--sweep ID`` or ``--study NAME`` as in ``medseg compare``, and overrides."""
    given = divided(arguments, "ensemble")
    run_hydra("ensemble", partial(ensemble, given.named), [*given.flags, *given.overrides])


@dataclass(frozen=True)
class Loaded:
    """A member, ready to predict."""

    member: "Member"
    module: Any
    data: "SegmentationData"
    device: str

    def predicted(self, side: str) -> Iterator["Predicted"]:
        """Yield what it says about a side's cases."""
        from medseg.evaluation.probabilities import predicted

        return predicted(self.module, self.data, side, device=self.device)


@dataclass(frozen=True)
class Outcome:
    """The metric of each test case, of every member (M, N) and of the ensemble (N,), and the cases' patients."""

    members: np.ndarray
    ensemble: np.ndarray
    patients: Sequence[str]


def ensemble(named: Named, composed: DictConfig) -> Path:
    """Write scores, predictions, overlays, disagreement and record to a folder that reads like a run's."""
    from medseg.evaluation.ensemble import WEIGHTS, Member, check_members
    from medseg.evaluation.gains import Judge

    config = freeze(composed, choices(composed))
    if config.weights not in WEIGHTS:
        raise ConfigError(f"weights={config.weights}: choose one of {', '.join(WEIGHTS)}.")
    judge = Judge(config.metric, "mean", config.seed, config.resamples)
    folders = _finished(named, config)
    members = [Member(folder, runs.read_record(folder), _split(folder)) for folder in folders]
    check_members(members)
    loaded = [_load(member, config) for member in members]
    for one in loaded:
        check_side(one.member.record, one.member.split, "test", allow=False, patients=one.data.patients())
    weights = _weights(loaded, config.weights, judge)
    record = _record(members, weights, config)
    folder = Path(config.paths.outputs) / FOLDER / str(record["name"])
    _open(folder, config, members, record["choices"])
    ledger.append(ledger.path_in(config.paths.outputs), ledger.access("ensemble", [m.record for m in members]))
    outcome = _score(loaded, weights, judge, folder, str(record["name"]), leaky=bool(record["split"]["leaky"]))
    _close(folder, record)
    _publish(loaded, weights, outcome, judge, folder, str(record["name"]))
    return folder


def _finished(named: Named, config: DictConfig) -> list[Path]:
    """Return the folders of the runs that are named, all of them finished."""
    outputs, root = Path(config.paths.outputs), Path(config.paths.runs)
    folders = find_runs(named, "ensemble", outputs=outputs, runs=root)
    for folder in folders:
        state = runs.read_record(folder).get("status")
        if not runs.is_finished(folder):
            raise RunError(f"{folder}: the run is not finished (status {state}); let it finish, or leave it out.")
    return folders


def _split(folder: Path) -> Any:
    from medseg.data.splits import read_split

    return read_split(folder / "split.json")


def _load(member: "Member", config: DictConfig) -> Loaded:
    run = runs.load_run(member.folder, trusted=tuple(config.trusted_targets))
    return Loaded(member, run.module(), run.data(), config.device)


def _weights(loaded: Sequence[Loaded], scheme: str, judge: "Judge") -> list[float]:
    """Return the weights of the members, their sum 1."""
    from rich.progress import track

    from medseg.evaluation.ensemble import validation_weight

    if scheme == "equal":
        return [1 / len(loaded)] * len(loaded)
    raw = []
    for one in loaded:
        cases = one.data.cases("val")
        items = track(one.predicted("val") if cases else (), "validation", total=len(cases), transient=True)
        raw.append(validation_weight(items, judge=judge, source=str(one.member.folder)))
    return [weight / sum(raw) for weight in raw]


def _record(members: Sequence["Member"], weights: Sequence[float], config: DictConfig) -> dict[str, Any]:
    from medseg.evaluation.ensemble_record import common_split, ensemble_record

    keys = sorted(str(member.record["key"]) for member in members)
    key = hashlib.sha256(json.dumps([keys, config.weights, config.metric]).encode()).hexdigest()[:10]
    nets = "+".join(dict.fromkeys(str(member.record["choices"].get("net", "run")) for member in members))
    data = members[0].record["data"]["name"]
    name = config.name or f"{nets}-{data}-ensemble{len(members)}-{key}"
    split = common_split(members)
    return ensemble_record(members, weights, name=name, key=key, split=split, scheme=config.weights)


def _open(folder: Path, config: DictConfig, members: Sequence["Member"], chosen: dict[str, str]) -> None:
    """Make the folder and write what is known before anything is predicted.

    ``config.yaml`` is what the members' configs have in common, for whatever asks which method a run is.
    """
    from medseg.evaluation.ensemble_record import common_config, common_split

    (folder / "predictions").mkdir(parents=True, exist_ok=True)
    (folder / "DONE").unlink(missing_ok=True)
    shared = common_config([runs.load_config(member.folder) for member in members])
    OmegaConf.save(OmegaConf.create({**shared, "choices": chosen}), folder / "config.yaml")
    asked = {**OmegaConf.to_container(config), "runs": [str(member.folder) for member in members]}  # type: ignore[dict-item]
    OmegaConf.save(OmegaConf.create(asked), folder / "ensemble.yaml")
    common_split(members).write(folder / "split.json")
    runs.write_json(folder / "versions.json", runs.provenance())


def _score(
    loaded: Sequence[Loaded], weights: Sequence[float], judge: "Judge", folder: Path, name: str, *, leaky: bool
) -> Outcome:
    """Predict the test side with all members, case by case; write every table, prediction and picture."""
    from rich.progress import track

    from medseg.evaluation.ensemble import averaged, pairwise_dice
    from medseg.evaluation.postprocess.contract import labels_of
    from medseg.evaluation.probabilities import Scorer, all_give_probabilities

    data = loaded[0].data
    if leaky and not data.split.leaky:
        data.declare_leaky()
    scorer = Scorer(data, "test", probabilities=all_give_probabilities([one.module.net for one in loaded]))
    found = averaged([one.predicted("test") for one in loaded], weights=weights)
    values, own, patients, disagreement = [], [], [], []
    for one in track(found, "test", total=len(data.cases("test")), transient=True):
        item, classes = one.item, data.card.num_classes
        labels = labels_of(item.mean)
        judged = partial(judge.value, truth=item.truth, classes=classes, annotated=item.annotated)
        own.append([judged(member) for member in one.labels])
        values.append(judged(labels))
        patients.append(item.case.patient)
        disagreement.append((item.case, pairwise_dice(one.labels, classes=classes)))
        scorer.add(item, item.mean, labels)
        data.save_prediction(folder / "predictions", item.case.id, labels)
    _write_tables(scorer, disagreement, len(loaded), folder, name)
    return Outcome(np.array(own).T, np.array(values), patients)


def _write_tables(
    scorer: "Scorer", disagreement: Sequence[tuple[Any, np.ndarray]], members: int, folder: Path, name: str
) -> None:
    """Write ``scores.csv`` and what lies beside it, ``disagreement.csv`` and ``overlays.png``."""
    import pandas as pd

    from medseg.evaluation.pictures import draw_overlays
    from medseg.evaluation.score import write_tables

    data = scorer.data
    scores, reliability = scorer.tables()
    write_tables(folder, scores, reliability, data.cases("test"))
    rows = [
        {
            "case": case.id,
            "patient": case.patient,
            "class_index": label,
            "class_name": data.card.classes[label],
            "members": members,
            "pairwise_dice": value,
        }
        for case, agreement in disagreement
        for label, value in enumerate(agreement, start=1)
    ]
    quality = scores[["case", "class_index", "dice"]].rename(columns={"dice": "ensemble_dice"})
    frame = pd.DataFrame(rows).merge(quality, on=["case", "class_index"], how="left", validate="one_to_one")
    frame.to_csv(folder / "disagreement.csv", index=False, na_rep="nan", lineterminator="\n")
    draw_overlays(folder, data, scores, name)


def _close(folder: Path, record: dict[str, Any]) -> None:
    """Write the record and, last of all, the marker of a finished run."""
    from medseg.stats.aggregate import headline
    from medseg.stats.table import read_scores

    summary = {f"test/{name}": value for name, value in headline(read_scores(folder / "scores.csv")).items()}
    runs.write_json(folder / "run.json", {**record, "summary": summary})
    write_whole(folder / "DONE", str(record["key"]) + "\n")


def _publish(
    loaded: Sequence[Loaded], weights: Sequence[float], outcome: Outcome, judge: "Judge", folder: Path, name: str
) -> None:
    """Write the members beside the ensemble as Markdown and CSV, and print them."""
    from medseg.commands.show import show, show_lines
    from medseg.evaluation.gains import patient_mean
    from medseg.evaluation.pictures import flags
    from medseg.report.gain_table import MemberRow, ensemble_table
    from medseg.report.tables import long_text, markdown

    rows: list[MemberRow] = []
    for one, weight, values in zip(loaded, weights, outcome.members, strict=True):
        gain = judge.gain(values, outcome.ensemble, outcome.patients).record()
        rows.append(MemberRow(str(one.member.record["name"]), weight, patient_mean(values, outcome.patients), gain))
    caption = [
        *(f"{flag}." for flag in flags(loaded[0].data)),
        f"{len(set(outcome.patients))} test patients, {len(outcome.patients)} cases; gains are paired, the unit is the "
        "patient.",
    ]
    mean = patient_mean(outcome.ensemble, outcome.patients)
    table = ensemble_table(rows, mean, title=name, metric=judge.metric, caption=caption)
    write_whole(folder / "members.md", markdown(table))
    write_whole(folder / "members.csv", long_text([table]))
    show(table)
    show_lines(folder / file for file in ("run.json", "scores.csv", "disagreement.csv"))
