"""Checklists say what the run's folder holds, where it was found, and nothing else."""

import json
import re
from pathlib import Path

import pytest
import yaml
from fake_folders import CONFIG, full_folder

from medseg.errors import RunError, ScoreError
from medseg.report.checklist_items import CLAIM, MICCAI, TRIPOD_AI
from medseg.report.checklists import OPEN, Checklist, Item, checklists, claim, miccai, tripod_ai
from medseg.report.facts_use import FACTS
from medseg.report.run_facts import RunFacts, load_facts
from medseg.report.tables import latex, markdown


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFacts:
    return load_facts(full_folder(tmp_path_factory.mktemp("outputs")))


@pytest.fixture(scope="module")
def lists(run: RunFacts) -> dict[str, Checklist]:
    """All lists of one run by name."""
    return {listed.name: listed for listed in checklists(run)}


def item(listed: Checklist, number: str) -> Item:
    (found,) = [one for one in listed.items if one.number == number]
    return found


def test_the_lists_are_whole_and_their_numbers_unique() -> None:
    assert [one.number for one in CLAIM] == [str(number) for number in range(1, 45)]
    assert {int(re.match(r"\d+", one.number)[0]) for one in TRIPOD_AI} | {2} == set(range(1, 28))
    for listed in (TRIPOD_AI, MICCAI):
        numbers = [one.number for one in listed]
        assert len(set(numbers)) == len(numbers)


def test_every_answer_that_an_item_names_exists_and_every_fact_is_asked_for() -> None:
    asked = {one.answer for one in (*CLAIM, *TRIPOD_AI, *MICCAI) if one.answer}
    assert asked == set(FACTS)


def test_answers_hold_the_values_of_the_folder_and_where_they_stand(lists: dict[str, Checklist]) -> None:
    listed = lists["claim"]
    partitions = item(listed, "19")
    assert partitions.answer.startswith("split ratio, seed 0, hash ratio000")
    assert (
        "train 70 cases of 35 patients; val 10 cases of 5 patients; test 60 cases of 30 patients" in partitions.answer
    )
    assert partitions.where == "run.json: split; split.json"
    assert item(listed, "20").answer == "patient; audit 'clean', 0 finding(s) across sides"
    assert item(listed, "23").answer == "Python 3.11.7, numpy 2.4.6, torch 2.15.0"
    assert item(listed, "26").answer == "the best epoch (validation side)"
    assert (
        "optimizer AdamW(lr=0.001); scheduler one_cycle(warmup=0.15); batch size 8; epochs 8"
        in item(listed, "25").answer
    )
    assert item(listed, "36").answer.startswith("scored side, cases by label: benign 40, malignant 20; tirads: 3 ")
    assert item(listed, "39").answer.startswith("0 of 60 references missed, 0 of 0 empty ones with a prediction")


def test_performance_has_its_interval_and_every_measured_metric(lists: dict[str, Checklist]) -> None:
    answer = item(lists["claim"], "37").answer
    assert re.search(r"Dice 0\.800 \[0\.7\d\d, 0\.8\d\d\]", answer)
    for name in ("IoU", "hd95_directed_voxel", "nsd_voxel", "cldice", "ECE", "Brier"):
        assert f"{name} " in answer


def test_what_no_record_can_know_is_left_to_the_authors(lists: dict[str, Checklist]) -> None:
    listed = lists["claim"]
    for number in ("2", "5", "8", "11", "14", "34", "44"):
        assert item(listed, number).answer == OPEN
        assert item(listed, number).where == ""
    assert item(lists["tripod_ai"], "17").answer == OPEN
    assert item(lists["miccai"], "2.5").answer == OPEN


def test_an_answer_in_part_says_what_is_missing(lists: dict[str, Checklist]) -> None:
    assert item(lists["claim"], "21").answer == f"60 cases of 30 patients ({OPEN}: why this size)"
    assert item(lists["miccai"], "4.8").answer == f"{OPEN}: from the study's comparison"


def test_a_bare_record_answers_little_and_claims_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"name": "bare", "status": "running", "seed": 3}), encoding="utf-8")
    listed = claim(load_facts(tmp_path))
    answered = {one.number: one.answer for one in listed.items if one.fact}
    assert list(answered) == ["40"]
    assert "No leak audit lies in the folder." in answered["40"]
    assert "The run is not finished (status running)." in answered["40"]


def test_a_fact_disappears_with_the_file_that_held_it(tmp_path: Path) -> None:
    folder = full_folder(tmp_path, patients=6)
    assert item(miccai(load_facts(folder)), "1.3").fact
    (folder / "versions.json").unlink()
    (folder / "scores.csv").unlink()
    (folder / "cases.csv").unlink()
    bare = load_facts(folder)
    assert item(miccai(bare), "1.3").answer == OPEN
    assert item(claim(bare), "37").answer == OPEN
    assert item(claim(bare), "36").fact is None


def test_leaks_and_missing_ids_are_said_at_the_level_of_disjointness(tmp_path: Path) -> None:
    leaky = load_facts(full_folder(tmp_path / "a", patients=6, leaky=True))
    assert item(claim(leaky), "20").answer.startswith("not disjoint: the split is declared LEAKY")
    assert "The split is LEAKY" in item(claim(leaky), "40").answer
    folder = full_folder(tmp_path / "b", patients=6, images=1, synthetic=False)
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    record["data"]["patients"] = record["data"]["cases"]
    (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    about = {**CONFIG["data"]["about"], "expected": {"cases": 360, "patients": None}}
    config = {**CONFIG, "data": {**CONFIG["data"], "about": about}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    found = claim(load_facts(folder))
    assert item(found, "20").answer.startswith("image; patient ids are not known")


def test_an_audit_of_another_split_is_not_taken_for_this_one(tmp_path: Path) -> None:
    folder = full_folder(tmp_path, patients=6)
    audit = json.loads((folder / "audit.json").read_text(encoding="utf-8"))
    (folder / "audit.json").write_text(json.dumps({**audit, "split": {"hash": "other"}}), encoding="utf-8")
    assert "of ANOTHER split than the run's" in item(claim(load_facts(folder)), "20").answer


def test_only_other_datasets_count_as_external(tmp_path: Path) -> None:
    folder = full_folder(tmp_path, patients=6)
    for name in ("phantom-val", "refined"):
        (folder / "evaluations" / name).mkdir(parents=True)
        (folder / "evaluations" / name / "scores.csv").touch()
    (folder / "evaluations" / "busi-test").mkdir()
    assert item(claim(load_facts(folder)), "33").answer == OPEN
    (folder / "evaluations" / "busi-test" / "scores.csv").touch()
    assert item(claim(load_facts(folder)), "33").answer == "scored on busi-test"


def test_no_path_of_the_machine_gets_into_an_answer(lists: dict[str, Checklist]) -> None:
    text = "".join(markdown(listed.table) for listed in lists.values())
    assert "resnet34.pt" in text
    assert "/somewhere" not in text


def test_the_same_folder_gives_the_same_bytes_in_both_forms(run: RunFacts, lists: dict[str, Checklist]) -> None:
    again = load_facts(run.folder)
    first, second = list(lists.values()), [claim(again), tripod_ai(again), miccai(again)]
    assert [markdown(listed.table) for listed in first] == [markdown(listed.table) for listed in second]
    for listed in first:
        assert f"{listed.answered} of {len(listed.items)} items are answered" in listed.table.caption[0]
        assert latex(listed.table, label="tab:x").count(r"\\") >= len(listed.items)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("run.json", "{", "run.json: not readable as JSON"),
        ("audit.json", "[1]", "audit.json: holds a list, not keys and values"),
        ("config.yaml", "a: [", "config.yaml: not readable as YAML"),
        ("versions.json", "", "versions.json: not readable as JSON"),
    ],
)
def test_a_damaged_file_is_one_line_that_names_it(name: str, content: str, message: str, tmp_path: Path) -> None:
    folder = full_folder(tmp_path, patients=6)
    (folder / name).write_text(content, encoding="utf-8")
    with pytest.raises(RunError, match=re.escape(message)) as caught:
        load_facts(folder)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_no_run_and_tables_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run.json there; give the folder of a run"):
        load_facts(tmp_path)
    folder = full_folder(tmp_path, patients=6)
    lines = (folder / "cases.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / "cases.csv").write_text("".join(lines[:-1]), encoding="utf-8")
    with pytest.raises(ScoreError, match="cases.csv: scored case 'p05_1' is missing"):
        load_facts(folder)
    (folder / "scores.csv").write_text("case\n1\n", encoding="utf-8")
    with pytest.raises(ScoreError, match="scores.csv"):
        load_facts(folder)
