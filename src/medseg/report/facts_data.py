"""What a run's folder says about its data, one fact a function; None where it says nothing."""

from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any

from medseg.report.protocol import NO, UNKNOWN, protocol_of
from medseg.report.run_facts import Fact, RunFacts
from medseg.report.run_results import attributes

SIDES = ("train", "val", "test")


def call_text(node: Any) -> str:
    """Return a node of a config in one line: ``AdamW(lr=0.001)`` for what is called, of a path its last part."""
    if isinstance(node, Mapping):
        inner = ", ".join(f"{key}={call_text(value)}" for key, value in node.items() if not str(key).startswith("_"))
        name = str(node.get("_target_", "")).rpartition(".")[2]
        return f"{name}({inner})" if name else f"{{{inner}}}"
    if isinstance(node, list | tuple):
        return f"[{', '.join(call_text(value) for value in node)}]"
    return PurePath(node).name if isinstance(node, str) and PurePath(node).is_absolute() else str(node)


def _card(run: RunFacts, key: str) -> str:
    return str(run.set_to(f"data.card.{key}") or "")


def _about(run: RunFacts, key: str) -> str:
    return str(run.set_to(f"data.about.{key}") or "")


def data_source(run: RunFacts) -> Fact | None:
    """Return name, title, home page and digest of the dataset."""
    name = run.get("data.name")
    if name is None:
        return None
    digest = str(run.get("data.digest") or "")
    parts = [_about(run, "title") or str(name), _about(run, "homepage"), f"digest {digest[:12]}" if digest else ""]
    if run.get("data.synthetic"):
        parts.append("SYNTHETIC images")
    return Fact(", ".join(part for part in parts if part), "run.json: data; config.yaml: data.about")


def citation(run: RunFacts) -> Fact | None:
    """Return how the data are cited."""
    said = _card(run, "citation")
    return Fact(said, "config.yaml: data.card.citation") if said else None


def modality(run: RunFacts) -> Fact | None:
    """Return what made the images."""
    said = _card(run, "modality")
    return Fact(said, "config.yaml: data.card.modality") if said else None


def preprocessing(run: RunFacts) -> Fact | None:
    """Return the recipe and the constants of the normalisation."""
    recipe = run.get("preprocess")
    if recipe is None:
        return None
    mean, deviation = run.set_to("data.mean"), run.set_to("data.std")
    if mean is None:
        return Fact(str(recipe), "run.json: preprocess")
    normalised = f"; intensities less {mean}, divided by {deviation}"
    return Fact(f"{recipe}{normalised}", "run.json: preprocess; config.yaml: data.mean, data.std")


def sampling(run: RunFacts) -> Fact | None:
    """Return which pictures, patches or slices of the training side are seen."""
    target = run.set_to("view._target_")
    return Fact(call_text(run.set_to("view")), "config.yaml: view") if target else None


def missing(run: RunFacts) -> Fact | None:
    """Return what is done about an absent image channel, in words of the policy's name."""
    policy = run.set_to("missing.policy")
    return Fact(f"policy '{policy}' for absent image channels", "config.yaml: missing") if policy else None


def sides_text(run: RunFacts) -> str:
    """Return cases and patients by side; empty where they are not recorded."""
    cases, patients = run.get("data.cases") or {}, run.get("data.patients") or {}
    known = [side for side in SIDES if side in cases]
    return "; ".join(f"{side} {cases[side]} cases of {patients.get(side, 'unknown')} patients" for side in known)


def counts(run: RunFacts) -> Fact | None:
    """Return cases and patients by side."""
    text = sides_text(run)
    return Fact(text, "run.json: data.cases, data.patients") if text else None


def partitions(run: RunFacts) -> Fact | None:
    """Return the split's name, seed and hash with the counts of its sides."""
    split = run.get("split")
    if not split:
        return None
    leaky = "LEAKY " if split.get("leaky") else ""
    identity = f"{leaky}split {split.get('name')}, seed {split.get('seed')}, hash {str(split.get('hash'))[:12]}"
    text = sides_text(run)
    return Fact(f"{identity}: {text}" if text else identity, "run.json: split; split.json")


def grouped(run: RunFacts) -> str:
    """Return ``yes``, ``no`` or ``unknown``: whether the split is by patient."""
    return protocol_of([{**run.record, "config": run.config or {}}]).patient_grouped


def verdict(run: RunFacts) -> str:
    """Return what the leak audit found, in words; empty where there was none."""
    if run.audit is None:
        return ""
    found = (run.audit.get("findings") or {}).get("counts") or {}
    leaks = sum(int(by_severity.get("leak", 0)) for by_severity in found.values())
    audited, scored = (run.audit.get("split") or {}).get("hash"), run.get("split.hash")
    other = "" if audited == scored else ", of ANOTHER split than the run's"
    return f"audit '{run.audit.get('verdict', 'without verdict')}', {leaks} finding(s) across sides{other}"


def disjoint(run: RunFacts) -> Fact | None:
    """Return at which level the sides are disjoint, as declared and as audited."""
    by_patient = grouped(run)
    if by_patient == UNKNOWN:
        said = "image; patient ids are not known, every image counts as a patient" if run.get("split") else ""
    else:
        said = "not disjoint: the split is declared LEAKY" if by_patient == NO else "patient"
    if not said:
        return None
    checked = verdict(run)
    return Fact(f"{said}; {checked}" if checked else said, "run.json: split.leaky; audit.json")


def test_size(run: RunFacts) -> Fact | None:
    """Return cases and patients of the test side."""
    cases, patients = run.get("data.cases.test"), run.get("data.patients.test")
    if cases is None:
        return None
    return Fact(f"{cases} cases of {patients} patients", "run.json: data.cases.test, data.patients.test")


def characteristics(run: RunFacts) -> Fact | None:
    """Return how many scored cases have each value of each attribute; None without attributes."""
    columns, _ = attributes(run)
    if not columns:
        return None
    texts = [
        f"{name}: {', '.join(f'{value} {count}' for value, count in values.value_counts().sort_index().items())}"
        for name, values in columns.items()
    ]
    return Fact(f"scored side, cases by {'; '.join(texts)}", "cases.csv and scores.csv")


def domains(run: RunFacts) -> Fact | None:
    """Return the domains (scanner, site) of the scored cases; None where the data name none."""
    if run.scores is None:
        return None
    found = sorted(name for name in run.scores["domain"].unique() if name)
    return Fact(f"domains of the scored side: {', '.join(found)}", "scores.csv: domain") if found else None


def prevalence(run: RunFacts) -> Fact | None:
    """Return the share of foreground by side."""
    shares = run.get("data.prevalence") or {}
    texts = [f"{side} {100 * shares[side]:.2f} %" for side in SIDES if shares.get(side) is not None]
    return Fact(f"foreground {', '.join(texts)}", "run.json: data.prevalence") if texts else None


def imbalance(run: RunFacts) -> Fact | None:
    """Return the share of foreground and the loss that faces it."""
    share, loss = prevalence(run), run.set_to("loss")
    if share is None or loss is None:
        return share
    return Fact(f"{share.text}; loss {call_text(loss)}", f"{share.where}; config.yaml: loss")


def data_access(run: RunFacts) -> Fact | None:
    """Return access, home page and licence of the data."""
    parts = {"access": _about(run, "access"), "from": _about(run, "homepage"), "licence": _card(run, "licence")}
    texts = [f"{name} {text}" for name, text in parts.items() if text]
    return Fact("; ".join(texts), "config.yaml: data.about, data.card.licence") if texts else None


def inputs(run: RunFacts) -> Fact | None:
    """Return the channels of an image."""
    channels = run.set_to("data.card.in_channels")
    if channels is None:
        return None
    names = run.set_to("data.card.channels") or []
    named = f" ({', '.join(map(str, names))})" if names else ""
    return Fact(f"images of {channels} channel(s){named}", "config.yaml: data.card.in_channels")


def output(run: RunFacts) -> Fact | None:
    """Return the classes of the label map."""
    classes = run.get("data.classes")
    if not classes:
        return None
    return Fact(f"a label map of the classes {', '.join(map(str, classes))}", "run.json: data.classes")


DATA_FACTS: dict[str, Callable[[RunFacts], Fact | None]] = {
    function.__name__: function
    for function in (
        *(data_source, citation, modality, preprocessing, sampling, missing, counts, partitions, disjoint, test_size),
        *(characteristics, domains, prevalence, imbalance, data_access, inputs, output),
    )
}
"""Every fact about the data by its name."""
