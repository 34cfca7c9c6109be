"""Model and dataset card: every number from the folder, every missing part said to be missing."""

import json
from pathlib import Path

import pytest
from fake_folders import CONFIG, full_folder

from medseg.report.cards import MISSING, dataset_card, model_card
from medseg.report.run_facts import RunFacts, facts_of_data, load_facts
from medseg.report.run_results import attributes, case_dice, results, strata, worst_cases
from medseg.report.tables import Cell, Table
from medseg.stats.table import read_scores


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFacts:
    return load_facts(full_folder(tmp_path_factory.mktemp("outputs")))


@pytest.fixture(scope="module")
def parts(run: RunFacts) -> dict[str, str]:
    """The model card by its headings."""
    return sections(model_card(run, paper="Ronneberger et al., 2015"))


def sections(text: str) -> dict[str, str]:
    parts = text.split("\n## ")[1:]
    return {part.partition("\n")[0]: part for part in parts}


def test_means_are_over_patients_and_over_cases_as_pandas_has_them(run: RunFacts) -> None:
    frame = read_scores(run.folder / "scores.csv")
    found = {one.name: one for one in results(frame)}
    per_patient = frame.groupby("patient")["dice"].mean()
    assert found["Dice"].over_patients.mean == pytest.approx(per_patient.mean())
    assert found["Dice"].over_cases == pytest.approx(frame["dice"].mean())
    assert found["Dice"].over_patients.n_patients == 30
    assert found["Dice"].over_patients.low < per_patient.mean() < found["Dice"].over_patients.high
    dice = case_dice(frame)
    assert dice is not None
    assert dice.mean == pytest.approx(frame["dice"].mean())
    lowest = frame.sort_values(["dice", "case"])["case"].head(5).tolist()
    assert [case for case, _ in worst_cases(frame)] == lowest


def test_strata_divide_the_cases_and_leave_out_what_has_too_many_values(run: RunFacts) -> None:
    columns, many = attributes(run)
    assert (list(columns), many) == (["label", "tirads"], ["machine_number"])
    found = strata(run)
    assert [one.value for one in found] == ["benign", "malignant", "3", "4", "5", "not stated"]
    assert sum(one.cases for one in found if one.attribute == "label") == 60
    frame = read_scores(run.folder / "scores.csv")
    malignant = frame[frame["patient"].str[1:].astype(int) % 3 == 0]
    expected = malignant.groupby("patient")["dice"].mean().mean()
    assert found[1].dice.mean == pytest.approx(expected)
    assert found[1].dice.n_patients == 10


def test_the_model_card_has_its_parts_in_order(run: RunFacts) -> None:
    board = Table("p", "Published numbers on phantom", (Cell("Method"),), ((Cell("A"),),))
    text = model_card(run, paper="Ronneberger et al., 2015", published=board)
    assert list(sections(text)) == [
        *("Model", "Intended use", "Training data", "Training", "Protocol", "Results", "Strata"),
        *("Published numbers on phantom", "Limits", "Ethical notes", "Cost", "Versions", "How to load"),
    ]
    assert "**SYNTHETIC images**" in text.partition("## Model")[0]
    assert MISSING not in text


def test_the_model_card_says_what_the_folder_says(run: RunFacts, parts: dict[str, str]) -> None:
    assert "1,944,322 parameters" in parts["Model"]
    assert "- Source: Ronneberger et al., 2015" in parts["Model"]
    assert "Research only" in parts["Intended use"]
    assert "- metric: per-image mean" in parts["Protocol"]
    assert "Side test: 60 cases of 30 patients, 0 empty references, 0 empty predictions" in parts["Results"]
    assert "| label | malignant | 20 | 10 |" in parts["Strata"]
    assert "interval unreliable: 10 patients" in parts["Strata"]
    assert "Left out for too many values: machine_number." in parts["Strata"]
    assert "One training (seed 0)" in parts["Limits"]
    assert "- Time: fit 90 s on cpu" in parts["Cost"]
    assert "- Code: commit 0123456789abcdef" in parts["Versions"]
    assert f"load_run('{run.folder.name}')" in parts["How to load"]


def test_the_same_folder_gives_the_same_cards_without_a_path(run: RunFacts) -> None:
    text = model_card(run)
    assert text == model_card(load_facts(run.folder))
    assert dataset_card(run) == dataset_card(load_facts(run.folder))
    assert str(run.folder.parent) not in text + dataset_card(run)
    assert "resnet34.pt" in text
    assert "/somewhere" not in text


def test_a_bare_record_makes_a_card_of_missing_parts(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"name": "bare", "status": "running", "seed": 3}), encoding="utf-8")
    run = load_facts(tmp_path)
    parts = sections(model_card(run))
    assert "- Scores: missing: the folder has no scores.csv" in parts["Results"]
    assert "- Weights: missing" in parts["How to load"]
    assert parts["Training data"].count(MISSING) == 7
    data = sections(dataset_card(run))
    assert "- Certificate: missing: the folder has no audit.json" in data["Leak audit"]
    assert f"- name: {MISSING}" in data["Facts"]
    assert "0." not in model_card(run).replace("0.0", "")


def test_a_leaky_run_says_so_above_everything(tmp_path: Path) -> None:
    run = load_facts(full_folder(tmp_path, patients=6, leaky=True, synthetic=False))
    assert "**LEAKY split**" in model_card(run).partition("##")[0]
    assert "**LEAKY split**" in dataset_card(run).partition("##")[0]


def test_missed_nodules_show_as_penalised_distances(tmp_path: Path) -> None:
    folder = full_folder(tmp_path, attributes=False)
    frame = read_scores(folder / "scores.csv")
    frame.loc[0, ["hd_voxel", "hd95_directed_voxel"]] = float("inf")
    found = {one.name: one for one in results(frame)}
    assert found["hd95_directed_voxel"].penalised == 1
    assert found["hd95_directed_voxel"].over_cases == pytest.approx((59 * 4.0 + 90.5) / 60)
    assert "missing: no attribute divides" in sections(model_card(load_facts(folder)))["Strata"]


def test_the_dataset_card_states_the_facts(run: RunFacts) -> None:
    parts = sections(dataset_card(run))
    facts = parts["Facts"]
    for line in (
        *("- name: phantom", "- license: Apache-2.0", "- synthetic: True", "- modality: ultrasound"),
        *("- classes: [background, nodule]", "- label values: {0=0, 255=1}", f"- digest: {'d' * 64}", "- axes: 2"),
        *("- access: bundled", f"- url: {MISSING}", "- published sizes: {cases=360, patients=120}"),
    ):
        assert line in facts
    assert "| train | 70 | 35 | 7.00 |" in parts["Sides"]
    assert "| test | 60 | 30 | 7.10 |" in parts["Sides"]
    assert "- Verdict: audit 'clean', 0 finding(s) across sides" in parts["Leak audit"]
    assert "- Finding: two equal files in train" in parts["Leak audit"]
    assert "64x64 (100), 64x48 (40)" in parts["Image sizes"]
    assert "label: benign 40, malignant 20" in parts["Attributes"]


def test_a_dataset_has_a_card_before_anything_is_trained_on_it() -> None:
    summary = {
        "name": "phantom",
        "synthetic": True,
        "digest": "e" * 64,
        "cases": {"train": 7, "val": 1, "test": 2},
        "patients": {"train": 7, "val": 1, "test": 2},
        "prevalence": {"train": 0.1, "val": None, "test": 0.2},
        "sizes": {"64x64": 10},
        "split": {"name": "ratio", "hash": "h" * 64, "leaky": False, "seed": 0},
    }
    parts = sections(dataset_card(facts_of_data(summary, CONFIG)))
    assert "| val | 1 | 1 | unknown |" in parts["Sides"]
    assert "split ratio, seed 0" in parts["Division"]
    assert "- classes: [background, nodule]" in parts["Facts"]
