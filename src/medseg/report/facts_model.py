"""What a run's folder says about its model, training and results, one fact a function; None where it says nothing."""

from medseg.report.facts_data import SIDES, call_text, grouped
from medseg.report.protocol import UNKNOWN, selection_facts
from medseg.report.run_facts import Fact, RunFacts
from medseg.report.run_results import attributes, interval_text, measured, results, worst_cases
from medseg.stats.bootstrap import ENOUGH_PATIENTS

TRAINING_PARTS = ("loss", "optimizer", "scheduler", "transfer")


def kind(run: RunFacts) -> Fact | None:
    """Return whether the system is a deep network or a classical one."""
    said = {"deep": "deep learning", "classical": "machine learning without gradients"}.get(str(run.get("model.kind")))
    return Fact(f"segmentation by {said}", "run.json: model.kind") if said else None


def model(run: RunFacts) -> Fact | None:
    """Return system, design, size and operations."""
    found = run.get("model")
    if not found:
        return None
    parameters = found.get("parameters")
    parts = [
        str(found.get("system") or run.get("choices.net") or ""),
        f"{parameters:,} parameters" if parameters is not None else "",
        f"{found['gflops']:.3g} GFLOP per image" if found.get("gflops") is not None else "",
        f"design: {found['design']}" if found.get("design") else "",
        f"reading: {found['reading']}" if found.get("reading") else "",
        call_text(run.set_to("net")) if run.set_to("net") else "",
    ]
    return Fact("; ".join(part for part in parts if part), "run.json: model; config.yaml: net")


def software(run: RunFacts) -> Fact | None:
    """Return Python, the packages and the commit."""
    if run.versions is None:
        return None
    packages = run.versions.get("packages") or {}
    names = [
        f"Python {run.versions.get('python', 'unknown')}",
        *(f"{name} {packages[name]}" for name in sorted(packages)),
    ]
    return Fact(", ".join(names), "versions.json: packages")


def commit(run: RunFacts) -> Fact | None:
    """Return the commit of the code; None where it was not under version control."""
    git = (run.versions or {}).get("git") or {}
    if not git.get("commit"):
        return None
    changed = " with uncommitted changes" if git.get("dirty") else ""
    return Fact(f"commit {git['commit']}{changed}", "versions.json: git")


def initialisation(run: RunFacts) -> Fact | None:
    """Return where the weights start from; None where the config does not say."""
    if run.config is None:
        return None
    if run.get("model.kind") == "classical":
        return Fact("fitted to the training side without gradients", "run.json: model.kind")
    found = {
        "transfer.weights": run.set_to("transfer.weights"),
        "net.encoder_weights": run.set_to("net.encoder_weights"),
    }
    given = [f"{name}={call_text(value)}" for name, value in found.items() if value]
    text = "; ".join(given) or f"random, seed {run.get('seed')}"
    return Fact(text, "config.yaml: transfer, net; run.json: seed")


def training(run: RunFacts) -> Fact | None:
    """Return loss, optimizer, schedule, batch, epochs, augmentation, precision and seed."""
    if run.config is None:
        return None
    parts = [f"{name} {call_text(run.set_to(name))}" for name in TRAINING_PARTS[:3] if run.set_to(name)]
    limits = {
        "batch size": run.set_to("data.batch_size"),
        "epochs": run.get("epochs"),
        "of at most": run.set_to("trainer.max_epochs"),
        "augmentation": run.get("choices.augment"),
        "precision": run.set_to("trainer.precision"),
        "seed": run.get("seed"),
    }
    parts += [f"{name} {value}" for name, value in limits.items() if value is not None]
    return Fact("; ".join(parts), "config.yaml; run.json: epochs, seed")


def hyperparameters(run: RunFacts) -> Fact | None:
    """Return every option chosen; the values are in the config file."""
    chosen = run.get("choices")
    if not chosen or run.config is None:
        return None
    options = ", ".join(f"{group}={chosen[group]}" for group in sorted(chosen))
    return Fact(f"all values in config.yaml; options: {options}", "config.yaml; run.json: choices")


def selection(run: RunFacts) -> Fact | None:
    """Return what chose the weights that were scored."""
    found = selection_facts(run.record, run.config or {})
    if not found:
        return None
    side = {"val": "validation", "none": "no"}.get(str(found["side"]), str(found["side"]))
    return Fact(
        f"{found.get('rule', 'rule not recorded')} ({side} side)", "run.json: selection; config.yaml: callbacks"
    )


def ensemble(run: RunFacts) -> Fact | None:
    """Return whether several networks were averaged; None without a record of the network."""
    if not run.get("model"):
        return None
    said = run.get("ensemble")
    return Fact(f"ensemble: {call_text(said)}" if said else "none: the scores are of one network", "run.json")


def metrics(run: RunFacts) -> Fact | None:
    """Return the measured columns and what empty masks count as."""
    if run.scores is None:
        return None
    names = ", ".join(measured(run.scores))
    policy = "Dice 1 where both masks are empty; a distance with exactly one empty mask counts as the diagonal"
    return Fact(f"per case and class: {names}; {policy}", "scores.csv")


def uncertainty(run: RunFacts) -> Fact | None:
    """Return how intervals are made."""
    if run.scores is None:
        return None
    return Fact(
        "95 % BCa bootstrap intervals over patients, 10 000 resamples, one training", "computed from scores.csv"
    )


def performance(run: RunFacts) -> Fact | None:
    """Return every metric as the mean over patients with its interval."""
    if run.scores is None:
        return None
    texts = [f"{found.name} {interval_text(found.over_patients)}" for found in results(run.scores)]
    return Fact("; ".join(texts), "computed from scores.csv, means over patients")


def strata(run: RunFacts) -> Fact | None:
    """Return by what the results are divided in the model card; None where nothing divides them."""
    names = list(attributes(run)[0])
    return Fact(f"Dice by {', '.join(names)}, in the model card", "cases.csv and scores.csv") if names else None


def internal(run: RunFacts) -> Fact | None:
    """Return which side was scored."""
    if run.scores is None:
        return None
    side = ", ".join(sorted(run.scores["split_side"].unique()))
    patients = run.scores["patient"].nunique()
    return Fact(f"{side} side: {run.scores['case'].nunique()} cases of {patients} patients", "scores.csv")


def external(run: RunFacts) -> Fact | None:
    """Return the other datasets that the run was evaluated on; None if there were none."""
    own = str(run.get("data.name"))
    scored = [(name, *name.rpartition("-")[::2]) for name in run.evaluations]
    names = [name for name, data, side in scored if side in SIDES and data != own]
    return Fact(f"scored on {', '.join(names)}", "evaluations/") if names else None


def failures(run: RunFacts) -> Fact | None:
    """Return missed references, false alarms and the worst cases."""
    if run.scores is None:
        return None
    empty, absent = run.scores["empty_reference"] == 1, run.scores["empty_prediction"] == 1
    missed, alarms = int((~empty & absent).sum()), int((empty & ~absent).sum())
    worst = ", ".join(f"{case} {value:.3f}" for case, value in worst_cases(run.scores))
    of_present, of_empty = int((~empty).sum()), int(empty.sum())
    text = f"{missed} of {of_present} references missed, {alarms} of {of_empty} empty ones with a prediction"
    return Fact(f"{text}{_lesions(run)}; lowest Dice: {worst}", "scores.csv")


def _lesions(run: RunFacts) -> str:
    """Return how many lesions were found, over all cases; empty where they were not counted."""
    counted = run.scores
    if counted is None or counted["reference_lesions"].isna().all():
        return ""
    found, present, false = (
        int(counted[name].sum()) for name in ("detected_lesions", "reference_lesions", "false_lesions")
    )
    return f"; {found} of {present} lesions detected, {false} false ones"


def limits(run: RunFacts) -> list[str]:
    """Return what weakens the numbers, as far as the folder shows it, a sentence each."""
    git = (run.versions or {}).get("git") or {}
    patients = run.get("data.patients.test")
    few = run.scores is not None and run.scores["patient"].nunique() < ENOUGH_PATIENTS
    found = [
        ("The images are SYNTHETIC.", bool(run.get("data.synthetic"))),
        ("The split is LEAKY: patients or twins of one picture are on several sides.", bool(run.get("split.leaky"))),
        ("Patient ids are not known; one patient may be on two sides.", grouped(run) == UNKNOWN and bool(patients)),
        (f"Fewer than {ENOUGH_PATIENTS} patients were scored: intervals are unreliable.", few),
        ("The network is interactive: it needs marks, which were simulated from the truth.", _interactive(run)),
        ("No leak audit lies in the folder.", run.audit is None),
        ("The code had uncommitted changes.", bool(git.get("dirty"))),
        ("The code was not under version control.", run.versions is not None and not git.get("commit")),
        (f"The run is not finished (status {run.get('status')}).", run.get("status") != "finished"),
    ]
    return [
        *(text for text, holds in found if holds),
        f"One training (seed {run.get('seed')}): how far trainings scatter is not shown.",
    ]


def _interactive(run: RunFacts) -> bool:
    return bool(run.get("model.interactive"))


def flags(run: RunFacts) -> Fact | None:
    """Return the limits as one text."""
    return Fact(" ".join(limits(run)), "run.json, audit.json, versions.json, scores.csv")
