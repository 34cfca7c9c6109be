"""What a run's folder says about its cost and its use, and every fact by its name."""

from collections.abc import Callable

from medseg.report import facts_model
from medseg.report.facts_data import DATA_FACTS, data_access
from medseg.report.facts_model import commit, software
from medseg.report.run_facts import Fact, RunFacts

LOADING = ("from medseg.runs import load_run", "run = load_run({folder!r})", "net, data = run.net, run.data()")
"""How a run is loaded again."""


def interaction(run: RunFacts) -> Fact | None:
    """Return what a user gives beside the image; None where it is not recorded."""
    if run.get("model.interactive") is None:
        return None
    said = str(run.get("model.interaction") or "")
    if run.get("model.interactive"):
        return Fact(f"interactive: {said or 'marks'}", "run.json: model.interaction")
    return Fact("automatic: nothing beside the image", "run.json: model.interactive")


def protocol(run: RunFacts) -> Fact | None:
    """Return the name and key of the run, under which its config is found again."""
    if run.config is None:
        return None
    return Fact(f"the resolved config of run {run.get('name')}, key {run.get('key')}", "config.yaml; run.json: key")


def weights(run: RunFacts) -> Fact | None:
    """Return the digest of the weights; None without them."""
    return Fact(f"weights.pt, SHA-256 {run.weights}", "weights.pt") if run.weights else None


def availability(run: RunFacts) -> Fact | None:
    """Return what is in the folder: commit, weights, access to the data; None if nothing of it is."""
    found = [fact for fact in (commit(run), weights(run), data_access(run)) if fact is not None]
    if not found:
        return None
    return Fact("; ".join(fact.text for fact in found), "; ".join(fact.where for fact in found))


def loading(run: RunFacts) -> Fact | None:
    """Return how the network is loaded and scored again; None without weights or config."""
    if not run.weights or run.config is None:
        return None
    return Fact(
        "medseg evaluate run=FOLDER repeats the scores; medseg predict run=FOLDER applies it", "weights.pt, config.yaml"
    )


def runs(run: RunFacts) -> Fact | None:
    """Return that this folder is one training, and of which study."""
    study = run.get("study")
    text = f"one training, seed {run.get('seed')}"
    return Fact(f"{text}, of study {study}" if study else text, "run.json: seed, study")


def runtime(run: RunFacts) -> Fact | None:
    """Return the time of the fit and of an image; None where neither was measured."""
    fit, image = run.get("cost.fit_seconds"), run.get("cost.ms_per_image")
    parts = [f"fit {fit:.0f} s"] if fit is not None else []
    parts += [f"{image:.1f} ms per image"] if image is not None else []
    device = run.get("cost.device")
    return Fact(f"{', '.join(parts)} on {device or 'an unknown device'}", "run.json: cost") if parts else None


def memory(run: RunFacts) -> Fact | None:
    """Return the peak memory of the training."""
    peak = run.get("cost.peak_memory_mb")
    return Fact(f"peak {peak:.0f} MB in training", "run.json: cost.peak_memory_mb") if peak is not None else None


def machine(run: RunFacts) -> Fact | None:
    """Return what of the machine decides numbers, with the versions."""
    torch = (run.versions or {}).get("torch") or {}
    if not torch:
        return None
    parts = [
        str(torch.get("device") or ""),
        f"CUDA {torch['cuda']}" if torch.get("cuda") else "no CUDA",
        f"CPU capability {torch.get('cpu_capability')}",
        f"{torch.get('threads')} thread(s)",
        str((run.versions or {}).get("system") or ""),
    ]
    packages = software(run)
    said = ", ".join(part for part in parts if part)
    return Fact(f"{said}; {packages.text}" if packages else said, "versions.json")


_OF_THE_MODEL = (
    *("kind", "model", "software", "commit", "initialisation", "training", "hyperparameters", "selection", "ensemble"),
    *("metrics", "uncertainty", "performance", "strata", "internal", "external", "failures", "flags"),
)
FACTS: dict[str, Callable[[RunFacts], Fact | None]] = {
    **DATA_FACTS,
    **{name: getattr(facts_model, name) for name in _OF_THE_MODEL},
    **{
        function.__name__: function
        for function in (interaction, protocol, weights, availability, loading, runs, runtime, memory, machine)
    },
}
"""Every fact that a checklist may ask for, by its name."""
