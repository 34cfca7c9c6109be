"""``medseg refine``: views and post-processing steps that gain on validation, judged once on the test side."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from medseg import ledger, runs
from medseg.commands.compared_runs import REFINED
from medseg.commands.configuration import choices, freeze, run_hydra
from medseg.errors import ConfigError
from medseg.selection import check_side
from medseg.targets import check_targets
from medseg.whole import write_whole

if TYPE_CHECKING:
    from medseg.data.datamodule import SegmentationData
    from medseg.evaluation.gains import Judge
    from medseg.evaluation.postprocess.contract import Step
    from medseg.evaluation.refine import Decision
    from medseg.evaluation.refined import Refinement
    from medseg.evaluation.tta import Tta
    from medseg.report.gain_table import StepRow


def main(arguments: Sequence[str]) -> None:
    """Run ``medseg refine`` with Hydra overrides."""
    run_hydra("refine", refine, arguments)


@dataclass(frozen=True)
class Work:
    """What a refinement works with."""

    run: runs.Run
    module: Any
    data: "SegmentationData"
    judge: "Judge"
    device: str


@dataclass(frozen=True)
class Choice:
    """What validation decided, and the values of its cases before and after."""

    decisions: Sequence["Decision"]
    refinement: "Refinement"
    raw: Sequence[float]
    final: Sequence[float]
    patients: Sequence[str]


def refine(composed: DictConfig) -> Path:
    """Write ``refinement.json``, scores, predictions and overlays below the run's folder; print the gains."""
    from hydra.utils import instantiate

    from medseg.evaluation.gains import Judge

    config = freeze(composed, choices(composed))
    listed, views = OmegaConf.to_container(config.postprocess), OmegaConf.to_container(config.tta)
    trusted = tuple(config.trusted_targets)
    check_targets([listed, views], trusted)
    judge = Judge(config.metric, config.rule, config.seed, config.resamples)
    steps, tta = list(instantiate(listed, _convert_="all").values()), instantiate(views, _convert_="all")
    run = runs.load_run(config.run, trusted=trusted)
    data = run.data()
    _check(run, data, tta)
    work = Work(run, run.module(), data, judge, config.device)
    choice = _choose(work, tta, steps)
    folder = run.folder / "evaluations" / REFINED
    folder.mkdir(parents=True, exist_ok=True)
    record = _record(work, choice)
    runs.write_json(folder / "refinement.json", record)  # what was chosen stands there before a test case is looked at
    ledger.append(ledger.path_in(config.paths.outputs), ledger.access("refine", [run.record]))
    values, patients = _judge_on_test(work, choice.refinement, folder)
    rows = _rows(work.judge, choice, values, patients)
    runs.write_json(folder / "refinement.json", {**record, "test": [asdict(row) for row in rows]})
    _publish(work, rows, folder)
    return folder


def _check(run: runs.Run, data: "SegmentationData", tta: "Tta") -> None:
    """Refuse what cannot be chosen or judged, before anything is predicted."""
    from medseg.data.views import Whole

    if not data.cases("val"):
        raise ConfigError(
            f"{run.folder}: the validation side of split={data.split.name} has no case, and steps are chosen on "
            "validation only; train with one, for instance split.val_fraction=0.15."
        )
    if not data.cases("test"):
        raise ConfigError(f"{run.folder}: the test side of split={data.split.name} has no case to judge the steps on.")
    check_side(run.record, data.split, "test", allow=False, patients=data.patients())
    tta.check(
        data.input_size(),
        whole=isinstance(data.view, Whole),
        interactive=hasattr(run.net, "prompt"),
        source=str(run.folder),
    )


def _choose(work: Work, tta: "Tta", steps: Sequence["Step"]) -> Choice:
    """Predict the validation side once and choose on it."""
    from rich.progress import track

    from medseg.evaluation.probabilities import ProbabilityStore, grey_image, predicted
    from medseg.evaluation.refine import choose_steps, choose_views, keep, values_of
    from medseg.evaluation.refined import Refinement

    cases, several = work.data.cases("val"), len(tta.changes) > 1
    with TemporaryDirectory(prefix="medseg-refine-") as temporary:
        plain = ProbabilityStore(Path(temporary) / "plain")
        mean = ProbabilityStore(Path(temporary) / "mean") if several else None
        items = predicted(work.module, work.data, "val", tta=tta, device=work.device)
        keep(track(items, description="validation: predicting", total=len(cases), transient=True), plain, mean)
        patients = [case.patient for case in plain.cases]
        raw = values_of(plain, judge=work.judge)
        decisions, store = [], plain
        if mean is not None:
            views = choose_views(raw, values_of(mean, judge=work.judge), patients, tta=tta, judge=work.judge)
            decisions, store = [views], mean if views.kept else plain
        decisions += choose_steps(
            store, steps, judge=work.judge, grey=lambda number: grey_image(work.data, cases[number]), progress=_shown
        )
        kept = tuple(d.chosen for d in decisions if d.kept and d.chosen is not None)
        refinement = Refinement(tta if store is mean else None, kept)
        return Choice(decisions, refinement, raw, values_of(store, judge=work.judge), patients)


def _shown(items: Iterable[Any], *, description: str, total: int) -> Iterable[Any]:
    from rich.progress import track

    return track(items, description=description, total=total, transient=True)


def _record(work: Work, choice: Choice) -> dict[str, Any]:
    """Return what ``refinement.json`` says before the test side is looked at."""
    data, judge = work.data, work.judge
    return {
        "run": work.run.record["name"],
        "key": work.run.record["key"],
        "metric": judge.metric,
        "rule": judge.rule,
        "chosen_on": {"side": "val", "cases": len(choice.patients), "patients": len(set(choice.patients))},
        "leaky": data.split.leaky,
        "synthetic": data.card.synthetic,
        "steps": [decision.record() for decision in choice.decisions],
        "kept": choice.refinement.record(),
        "total": judge.gain(choice.raw, choice.final, choice.patients).record(),
    }


def _judge_on_test(work: Work, refinement: "Refinement", folder: Path) -> tuple[list[list[float]], list[str]]:
    """Predict, refine and score the test side; return the metric of each case after each stage, and its patients."""
    from rich.progress import track

    from medseg.evaluation.pictures import draw_overlays
    from medseg.evaluation.postprocess.contract import labels_of
    from medseg.evaluation.probabilities import Scorer, all_give_probabilities, grey_image, predicted
    from medseg.evaluation.refine import stages
    from medseg.evaluation.score import write_tables

    data, scored = work.data, folder / "predictions"
    scored.mkdir(exist_ok=True)
    scorer = Scorer(data, "test", probabilities=all_give_probabilities([work.module.net]))
    values: list[list[float]] = [[] for _ in range(1 + (refinement.tta is not None) + len(refinement.steps))]
    patients = []
    items = predicted(work.module, data, "test", tta=refinement.tta, device=work.device)
    for item in track(items, description="test", total=len(data.cases("test")), transient=True):
        grey = grey_image(data, item.case) if refinement.needs_image else None
        for stage, probabilities in zip(values, stages(item, refinement, grey=grey), strict=True):
            labels = labels_of(probabilities)
            classes = len(probabilities)
            stage.append(work.judge.value(labels, item.truth, classes=classes, annotated=item.annotated))
        scorer.add(item, probabilities, labels)
        data.save_prediction(scored, item.case.id, labels)
        patients.append(item.case.patient)
    scores, reliability = scorer.tables()
    write_tables(folder, scores, reliability, data.cases("test"))
    draw_overlays(folder, data, scores, f"{work.run.record['name']}, refined (test)")
    return values, patients


def _rows(
    judge: "Judge", choice: Choice, values: Sequence[Sequence[float]], patients: Sequence[str]
) -> list["StepRow"]:
    """Return the table: raw, every step with its gain over the kept ones before it, and all kept ones against raw."""
    from medseg.evaluation.gains import patient_mean
    from medseg.report.gain_table import StepRow

    means = [patient_mean(stage, patients) for stage in values]
    rows = [StepRow("raw", "", 0, patient_mean(choice.raw, choice.patients), None, means[0], None)]
    stage = 0
    for decision in choice.decisions:
        chosen = decision.trials[decision.best].parameters
        detail = ", ".join(f"{name}={value}" for name, value in chosen.items() if value is not None)
        validation, tried = decision.gain.record(), len(decision.trials)
        if not decision.kept:
            rows.append(StepRow(decision.name, detail, tried, decision.mean, validation, None, None, kept=False))
            continue
        stage += 1
        gain = judge.gain(values[stage - 1], values[stage], patients).record()
        rows.append(StepRow(decision.name, detail, tried, decision.mean, validation, means[stage], gain))
    validation = judge.gain(choice.raw, choice.final, choice.patients).record()
    test = judge.gain(values[0], values[-1], patients).record()
    final = patient_mean(choice.final, choice.patients)
    return [*rows, StepRow("all kept", "", 0, final, validation, means[-1], test)]


def _publish(work: Work, rows: Sequence["StepRow"], folder: Path) -> None:
    """Write the table as Markdown and CSV and print it."""
    from medseg.commands.show import show, show_lines
    from medseg.evaluation.pictures import flags
    from medseg.report.gain_table import refinement_table
    from medseg.report.tables import long_text, markdown

    data, judge = work.data, work.judge
    patients = {side: len({case.patient for case in data.cases(side)}) for side in ("val", "test")}
    kept_if = "the interval of its gain" if judge.rule == "interval" else "its mean gain"
    caption = [
        *(f"{flag}." for flag in flags(data)),
        f"A step is kept if {kept_if} on validation ({patients['val']} patients) is above 0; the interval of the best "
        "of several candidates is a little too hopeful.",
        f"The test side ({patients['test']} patients) took part in no choice; steps that were not kept never saw it.",
        "Gains are paired, over the kept steps before, the unit is the patient.",
    ]
    title = f"Refinement of {work.run.record['name']}"
    table = refinement_table(rows, title=title, metric=judge.metric, caption=caption)
    write_whole(folder / "refinement.md", markdown(table))
    write_whole(folder / "refinement.csv", long_text([table]))
    show(table)
    show_lines(folder / name for name in ("refinement.json", "scores.csv"))
