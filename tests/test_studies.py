"""Study files: read, checked, expanded; and the command that runs what is not done."""

import itertools
import json
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from medseg.commands import jobs as processes
from medseg.commands import study as command
from medseg.errors import ConfigError, RunError
from medseg.report.cells import Plan, read_plan, state_of, write_plan
from medseg.studies.cells import Cell, expand, merge
from medseg.studies.file import Study, find_study, read_study

TABLE1 = Path(__file__).parents[1] / "experiments" / "table1" / "study.yaml"

SMALL = {
    "name": "small",
    "overrides": ["patience=5"],
    "presets": {"quick": {"seeds": [0], "overrides": ["trainer.max_epochs=2"]}, "full": {"seeds": [0, 1]}},
    "data": {"phantom": {"A": ["split=ratio"], "all": ["threads=1"]}, "ddti": None},
    "sweeps": [
        {
            "name": "nets",
            "panel": "A",
            "sweep": {"net": ["unet", "dmunet"]},
            "presets": {"quick": ["net.widths=[4]"]},
        },
        {"name": "base", "panel": "A", "note": "baseline", "sweep": {"net": ["threshold"], "seed": [0]}},
        {"name": "twins", "panel": "B", "sweep": {"net": ["unet"], "split": ["twins_leaky", "twins_grouped"]}},
    ],
}


def written(folder: Path, content: object) -> Path:
    path = folder / "experiments" / "small" / "study.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


@pytest.fixture
def small(tmp_path: Path) -> Study:
    return read_study(written(tmp_path, SMALL))


def test_a_study_expands_to_one_multirun_per_sweep(small: Study) -> None:
    nets, base, twins = expand(small, preset="quick", data="phantom")
    assert nets.arguments == [
        *("patience=5", "trainer.max_epochs=2", "threads=1", "split=ratio", "net.widths=[4]"),
        *("data=phantom", "study=small", "panel=A", "preset=quick", "net=unet,dmunet", "seed=0"),
    ]
    assert [cell.name for cell in twins.cells] == [
        "B net=unet split=twins_leaky seed=0",
        "B net=unet split=twins_grouped seed=0",
    ]
    assert "split=ratio" not in twins.overrides
    assert base.note == "baseline"


def test_seeds_of_the_preset_or_of_the_command_line_span_cells_unless_the_sweep_fixes_them(small: Study) -> None:
    assert [len(sweep.cells) for sweep in expand(small, preset="full", data="phantom")] == [4, 1, 4]
    assert [len(sweep.cells) for sweep in expand(small, preset="quick", data="phantom", seeds=[3, 4, 5])] == [6, 1, 6]


def test_cells_carry_their_options_and_every_override(small: Study) -> None:
    cell = expand(small, preset="quick", data="phantom")[0].cells[1]
    assert cell.choices["net"] == "dmunet"
    assert cell.choices["data"] == "phantom"
    assert set(expand(small, preset="quick", data="phantom")[0].overrides) < set(cell.overrides)


def test_the_command_line_chooses_cells_by_swept_keys_and_sets_the_others(small: Study) -> None:
    sweeps = expand(small, preset="quick", data="phantom", overrides=["net=unet", "trainer.max_epochs=1"])
    assert [sweep.name for sweep in sweeps] == ["nets", "twins"]
    assert all("trainer.max_epochs=1" in sweep.overrides for sweep in sweeps)
    assert all("trainer.max_epochs=2" not in sweep.overrides for sweep in sweeps)
    (only,) = expand(small, preset="quick", data="phantom", overrides=["panel=B", "split=twins_grouped"])
    assert [cell.choices["split"] for cell in only.cells] == ["twins_grouped"]


def test_a_later_override_replaces_an_earlier_one_in_place() -> None:
    assert merge(["a=1", "b=2"], ["+a=3", "c=4"]) == ("+a=3", "b=2", "c=4")


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"preset": "huge", "data": "phantom"}, "preset=huge: 'small' knows quick, full"),
        ({"preset": "quick", "data": "tn3k"}, "data=tn3k: 'small' knows phantom, ddti"),
        ({"preset": "quick", "data": "ddti", "overrides": ["net=swin"]}, "no cell with net=swin"),
        ({"preset": "quick", "data": "ddti", "overrides": ["seeds"]}, "'seeds' is no override; write key=value"),
    ],
)
def test_what_a_study_does_not_have_is_named(small: Study, chosen: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        expand(small, **chosen)


SWEEP = {"name": "x", "panel": "A", "sweep": {"net": ["unet"]}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sweeps": None}, "sweeps need at least one"),
        ({"sweeps": {"name": "x"}}, r"sweeps: expected a list, found dict .*; write it in brackets, \[\.\.\.\]"),
        ({"colour": 1, 2: 3}, "unknown key '2'; known keys: data"),
        ({"name": ["small"]}, "name: expected a text or a number, found a list; put it in quotes"),
        ({"title": None}, "title: expected a text or a number, found nothing"),
        ({"table": "table2"}, "table=table2: .* knows table1"),
        ({"overrides": "a=1"}, r"overrides: expected a list, found str 'a=1'; write it in brackets"),
        ({"overrides": ["a=1", "b"]}, "overrides: 'b' is no override; write key=value"),
        ({"overrides": [{"a": 1}]}, "overrides: expected a text or a number, found a dict"),
        ({"labels": ["unet"]}, "labels: expected key: value, found list"),
        ({"labels": {"unet": None}}, r"labels\.unet: expected a text or a number, found nothing"),
        ({"presets": {"quick": {}}}, "presets.quick: the key 'seeds' is missing"),
        ({"presets": [1]}, "presets: expected key: value, found list"),
        ({"presets": {"quick": {"seeds": 3}}}, r"presets\.quick\.seeds: expected a list, found int 3"),
        ({"presets": {"quick": {"seeds": []}}}, r"presets\.quick\.seeds: no seed is there; write .* \[0, 1, 2\]"),
        ({"presets": {"quick": {"seeds": ["a"]}}}, r"presets\.quick\.seeds: 'a' is no whole number"),
        ({"presets": {"quick": {"seeds": [0.5]}}}, r"seeds: 0\.5 is no whole number"),
        ({"presets": {"quick": {"seeds": [True]}}}, "seeds: True is no whole number"),
        ({"presets": {"quick": {"seeds": [0], "overrides": "a=1"}}}, r"presets\.quick\.overrides: expected a list"),
        ({"data": ["phantom"]}, "data: expected key: value, found list"),
        ({"data": {"phantom": ["a=1"]}}, r"data\.phantom: expected key: value, found list"),
        ({"data": {"phantom": {"all": "a=1"}}}, r"data\.phantom\.all: expected a list, found str 'a=1'"),
        (
            {"data": {"phantom": {"C": []}}},
            r"data\.phantom: unknown key 'C'; known keys: all, A, B, quick\.all, quick\.A",
        ),
        ({"data": {"phantom": {"quik.all": []}}}, r"data\.phantom: unknown key 'quik\.all'"),
        ({"data": {"phantom": {"quick.C": []}}}, r"data\.phantom: unknown key 'quick\.C'"),
        ({"sweeps": [{"name": "x", "panel": "A"}]}, r"sweeps\[0\]: the key 'sweep' is missing"),
        ({"sweeps": [SWEEP, "x"]}, r"sweeps\[1\]: expected key: value, found str"),
        ({"sweeps": [{**SWEEP, "panel": ["A", "B"]}]}, r"sweeps\[0\]\.panel: expected a text"),
        ({"sweeps": [{**SWEEP, "sweep": ["net"]}]}, r"sweeps\[0\]\.sweep: expected key: value, found list"),
        ({"sweeps": [{**SWEEP, "sweep": {"net": []}}]}, r"sweeps\[0\]\.sweep\.net: no value is there"),
        (
            {"sweeps": [{**SWEEP, "sweep": {"net": [None]}}]},
            r"sweeps\[0\]\.sweep\.net: .* found nothing; put it in quotes",
        ),
        ({"sweeps": [{**SWEEP, "overrides": "a=1"}]}, r"sweeps\[0\]\.overrides: expected a list"),
        ({"sweeps": [{**SWEEP, "presets": ["quick"]}]}, r"sweeps\[0\]\.presets: expected key: value"),
        ({"sweeps": [{**SWEEP, "presets": {"fast": []}}]}, "preset=fast"),
        ({"sweeps": [{**SWEEP, "presets": {"quick": "a=1"}}]}, r"sweeps\[0\]\.presets\.quick: expected a list"),
    ],
)
def test_a_wrong_study_file_is_refused_by_file_and_key_in_one_line(tmp_path: Path, change: dict, message: str) -> None:
    path = written(tmp_path, {**SMALL, **change})
    with pytest.raises(ConfigError, match=message) as caught:
        read_study(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_what_may_be_left_empty_is_nothing(tmp_path: Path) -> None:
    change = {"overrides": None, "labels": None, "data": {"phantom": None, "ddti": {"quick.B": None}}}
    sweeps = [{**SWEEP, "sweep": {"net": "unet"}, "presets": None}, {**SWEEP, "panel": "B", "presets": {"quick": None}}]
    study = read_study(written(tmp_path, {**SMALL, **change, "sweeps": sweeps}))
    assert study.overrides == () and study.labels == {}
    assert study.data == {"phantom": {}, "ddti": {"quick.B": ()}}
    assert [plan.axes for plan in study.sweeps] == [{"net": ("unet",)}] * 2


def test_a_study_file_that_is_no_yaml_is_refused_with_its_line(tmp_path: Path) -> None:
    path = written(tmp_path, SMALL)
    path.write_text("name: x\nsweeps: [\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"not readable as yaml \(line 3\)"):
        read_study(path)
    path.write_bytes(b"name: \xff\xfe")
    with pytest.raises(ConfigError, match=r"not readable as yaml \(line unknown\)"):
        read_study(path)


def test_a_study_is_found_by_name_from_below_and_by_path(tmp_path: Path) -> None:
    path = written(tmp_path, SMALL)
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    assert find_study("small", below) == path
    assert find_study("experiments/small", tmp_path) == path
    assert find_study(str(path), below) == path
    with pytest.raises(ConfigError, match="study=other.*known studies: small"):
        find_study("other", below)


def test_table1_has_the_five_networks_two_baselines_and_both_twin_splits_for_every_dataset() -> None:
    study = read_study(TABLE1)
    assert next(iter(study.data)) == "phantom"
    for preset in study.presets:
        for data in study.data:
            cells = [cell for sweep in expand(study, preset=preset, data=data, seeds=[0]) for cell in sweep.cells]
            of_a = [cell.choices["net"] for cell in cells if cell.panel == "A"]
            assert of_a == ["unet", "mgunet", "jpu_unet", "reagunet", "dmunet", "threshold", "ellipse_marks"]
            assert [cell.choices["split"] for cell in cells if cell.panel == "B"] == ["twins_leaky", "twins_grouped"]
            assert set(of_a) <= set(study.labels)


def test_every_cell_of_table1_composes_and_has_a_folder_of_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MEDSEG_OUTPUTS", str(tmp_path))
    study = read_study(TABLE1)
    for preset, data in itertools.product(study.presets, study.data):
        sweeps = expand(study, preset=preset, data=data, seeds=[0])
        cells = [cell for sweep in sweeps for cell in command.planned(sweep, tmp_path)]
        assert len({cell.folder for cell in cells}) == len(cells)
        assert all(cell.folder.startswith("runs/table1/") for cell in cells)
        assert all(cell.choices["net"] and cell.choices["split"] for cell in cells)


def test_the_folder_of_a_cell_depends_on_its_settings_not_on_where_outputs_lie(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    names = []
    for outputs, extra in (("one", ()), ("two", ()), ("two", ("patience=3",))):
        monkeypatch.setenv("MEDSEG_OUTPUTS", str(tmp_path / outputs))
        folder, chosen = command.located(Cell("A", "", ("data=ddti", "split=manifest_fold", "study=table1", *extra)))
        assert chosen["split"] == "manifest_fold"
        names.append(folder.name)
    assert names[0] == names[1] != names[2]


@pytest.mark.parametrize(("name", "cells"), [("cross_validation", 45), ("nested_cv", 24)])
def test_studies_of_folds_have_their_cells_and_those_compose(
    name: str, cells: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MEDSEG_OUTPUTS", str(tmp_path))
    monkeypatch.setenv("MEDSEG_DATA", str(tmp_path))
    study = read_study(find_study(name, TABLE1.parents[1]))
    for data in study.data:
        (sweep,) = expand(study, preset="quick", data=data)
        assert len(sweep.cells) == cells
        chosen = [sweep.cells[0], sweep.cells[-1]]
        assert len({command.located(cell)[0] for cell in chosen}) == 2
        assert all(cell.choices["split.fold"] in cell.name for cell in chosen)


def test_settings_of_the_command_are_told_from_overrides_of_the_trainings() -> None:
    own, passed = command.divided(
        ["study=table1", "seeds=0,1", "trainer.max_epochs=1", "tracking=csv", "paths.outputs=o", "energy.grid_grams=51"]
    )
    assert own == ["study=table1", "seeds=[0,1]", "tracking=csv", "paths.outputs=o", "energy.grid_grams=51"]
    assert passed == ["trainer.max_epochs=1", "tracking=csv", "paths.outputs=o"]


def test_plans_are_kept_by_data_and_preset_and_the_latest_is_the_default(tmp_path: Path) -> None:
    path = tmp_path / "table1" / "cells.json"
    plans = [Plan("table1", "quick", data, (0,), ("a=1",), ()) for data in ("phantom", "ddti")]
    for plan in plans:
        write_plan(path, plan)
    assert read_plan(path) == plans[1]
    assert read_plan(path, data="phantom") == plans[0]
    with pytest.raises(RunError, match="no plan 'phantom-full', only ddti-quick, phantom-quick"):
        read_plan(path, data="phantom", preset="full")
    with pytest.raises(RunError, match="no plan there; run the study once: medseg study study=other"):
        read_plan(tmp_path / "other" / "cells.json")


TRAINER = """
    import itertools, pathlib, sys
    outputs, broken = pathlib.Path(sys.argv[1]), sys.argv[2]
    (outputs / "started.txt").open("a").write(" ".join(sys.argv[3:]) + "\\n")
    given = dict(text.split("=", 1) for text in sys.argv[3:])
    axes = [given[key].split(",") for key in ("net", "seed")]
    code = 0
    for net, seed in itertools.product(*axes):
        if net == broken:
            code = 2
            continue
        folder = outputs / "runs" / f"{given['panel']}-{net}-{given.get('split', '')}-{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "DONE").touch()
    sys.exit(code)
"""


def stub_jobs(study: Study, outputs: Path) -> list[processes.Job]:
    def locate(cell: Cell) -> tuple[Path, dict[str, str]]:
        chosen = cell.choices
        name = f"{cell.panel}-{chosen['net']}-{chosen.get('split', '')}-{chosen['seed']}"
        return outputs / "runs" / name, chosen

    sweeps = expand(study, preset="full", data="phantom", overrides=["panel=A"])
    return [processes.Job(sweep, command.planned(sweep, outputs, locate)) for sweep in sweeps]


def test_a_failed_sweep_does_not_stop_the_next_and_finished_ones_start_no_process(
    small: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(processes, "PAUSE", 0.02)
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    script = tmp_path / "trainer.py"
    script.write_text(textwrap.dedent(TRAINER), encoding="utf-8")

    def started() -> list[str]:
        return (outputs / "started.txt").read_text().splitlines()

    jobs = stub_jobs(small, outputs)
    processes.run_jobs(jobs, outputs, [sys.executable, str(script), str(outputs), "dmunet"])
    assert [job.finished(outputs) for job in jobs] == [2, 1]
    assert len(started()) == 2
    assert started()[0].endswith("net=unet,dmunet seed=0,1 resume=true")
    assert "sweep 'nets' ended with exit code 2; going on" in capsys.readouterr().out

    processes.run_jobs(jobs, outputs, [sys.executable, str(script), str(outputs), "none"])
    assert [job.finished(outputs) for job in jobs] == [4, 1]
    assert len(started()) == 3
    said = capsys.readouterr().out
    assert "sweep 1 of 2, panel A, nets: 2 of 4 cells done; 2 to go" in said
    assert "5 of 5 cells done" in said

    processes.run_jobs(jobs, outputs, ["this is never run"])
    assert "sweep 1 of 2, panel A, nets: 4 of 4 cells done\n" in capsys.readouterr().out


def test_side_by_side_every_cell_gets_its_turn_and_its_share_of_the_cores(
    small: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(processes, "PAUSE", 0.02)
    monkeypatch.setattr(processes, "usable_cores", lambda: 6)
    outputs, script = tmp_path / "outputs", tmp_path / "trainer.py"
    outputs.mkdir()
    script.write_text("print('medseg: a word')\n" + textwrap.dedent(TRAINER), encoding="utf-8")
    jobs = stub_jobs(small, outputs)
    command_line = [sys.executable, str(script), str(outputs), "dmunet"]
    processes.run_jobs(jobs, outputs, command_line, workers=3, logs=outputs / "logs")
    assert [job.finished(outputs) for job in jobs] == [2, 1]
    started = (outputs / "started.txt").read_text().splitlines()
    assert len(started) > len(jobs)
    assert all(" threads=" in line for line in started)
    said = capsys.readouterr().out
    assert "3 trainings side by side" in said
    assert "ended with exit code 2; going on" in said
    assert "  medseg: a word" in said
    (logged,) = (outputs / "logs").glob("A-base.log")
    assert "a word" in logged.read_text()


@pytest.mark.parametrize("number", [1, 2, 3, 4, 9])
def test_parts_of_a_sweep_are_its_cells_each_once(small: Study, tmp_path: Path, number: int) -> None:
    job = stub_jobs(small, tmp_path)[0]
    divided = processes.parts(job, number)
    assert min(number, len(job.cells)) <= len(divided) <= len(job.cells)
    assert sorted(cell.folder for part in divided for cell in part.cells) == sorted(cell.folder for cell in job.cells)
    for part in divided:
        assert [cell.overrides for cell in part.sweep.cells] == [
            cell.overrides for cell in job.sweep.cells if cell.overrides in {c.overrides for c in part.sweep.cells}
        ]


def test_workers_are_as_many_as_cores_only_where_all_cells_train_on_the_cpu(
    small: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "usable_cores", lambda: 3)
    monkeypatch.setattr(processes, "GIGABYTES", 1e-6)
    cells = [cell for job in stub_jobs(small, tmp_path) for cell in job.cells]
    on = {name: [replace(cell, choices={**cell.choices, "trainer": name}) for cell in cells] for name in ("cpu", "gpu")}
    assert processes.number_of_workers("auto", on["cpu"]) == 3
    assert processes.number_of_workers("auto", on["gpu"]) == processes.number_of_workers("auto", cells) == 1
    assert processes.number_of_workers(5, on["gpu"]) == 5
    monkeypatch.setattr(processes, "GIGABYTES", 1e9)
    assert processes.number_of_workers("auto", on["cpu"]) == 1
    with pytest.raises(ConfigError, match="workers=0"):
        processes.number_of_workers(0, cells)


def test_after_its_turn_an_unfinished_cell_counts_as_failed_even_without_a_trace(small: Study, tmp_path: Path) -> None:
    jobs = stub_jobs(small, tmp_path)
    cells = tuple(cell for job in jobs for cell in job.cells)
    done = tmp_path / cells[0].folder / "DONE"
    done.parent.mkdir(parents=True)
    done.touch()
    assert [state_of(cell, tmp_path) for cell in cells[:2]] == ["finished", "missing"]
    after = command.tried(Plan("small", "full", "phantom", (0, 1), (), cells), tmp_path)
    assert [state_of(cell, tmp_path) for cell in after.cells[:2]] == ["finished", "failed"]
    (tmp_path / cells[1].folder).mkdir()
    (tmp_path / cells[1].folder / "DONE").touch()
    assert state_of(after.cells[1], tmp_path) == "finished"


def test_a_stopped_study_takes_its_training_with_it(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    child = f"import time, pathlib; pathlib.Path({str(marker)!r}).touch(); time.sleep(60)"
    parent = f"""
        import sys
        from medseg.commands import jobs
        jobs.PAUSE = 0.05
        jobs.run_process([sys.executable, "-c", {child!r}], lambda: None)
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(parent)])
    try:
        while not marker.exists():
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 143
    finally:
        process.kill()


def test_a_plan_is_json_that_a_person_can_read(small: Study, tmp_path: Path) -> None:
    jobs = stub_jobs(small, tmp_path)
    path = tmp_path / "cells.json"
    write_plan(path, Plan("small", "full", "phantom", (0, 1), (), tuple(cell for job in jobs for cell in job.cells)))
    cells = json.loads(path.read_text())["plans"]["phantom-full"]["cells"]
    assert cells[0]["folder"] == "runs/A-unet-ratio-0"
    assert len(cells) == 5


def test_a_datasets_settings_can_hold_in_one_preset_only() -> None:
    study = read_study(TABLE1)
    epochs = {
        preset: {
            sweep.name: next(text for text in sweep.overrides if text.startswith("trainer.max_epochs="))
            for sweep in expand(study, preset=preset, data="ddti")
        }
        for preset in ("quick", "full")
    }
    assert epochs["quick"]["networks"] == "trainer.max_epochs=45"
    assert epochs["quick"]["twins"] == "trainer.max_epochs=10"
    assert epochs["full"]["networks"] == epochs["full"]["twins"] == "trainer.max_epochs=100"
