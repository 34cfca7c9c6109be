"""``medseg compare``: from run folders to files, and each fault in one line."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest
import yaml

from fake_runs import fake_cell, fake_plan, fake_run
from medseg import cli, ledger
from medseg.commands import compare
from medseg.commands.compared_runs import method_names
from medseg.commands.members import divided, find_folders, find_runs
from medseg.errors import ConfigError, RunError, ScoreError
from medseg.report.cells import PlannedCell, write_plan
from medseg.tracking import CsvTracker

ONE_SEED = "allow_one_seed=true"
METHODS = (("unet", 0.3), ("mgunet", 0.1))


def made(
    outputs: Path, net: str = "unet", seed: int = 0, *, patients: int = 30, settings: str = "", **options: object
) -> Path:
    """A finished run with a config; ``settings`` is yaml that is added to it."""
    cell = fake_cell(net, seed=seed)
    if settings:
        tail = "-".join(character for character in settings if character.isalnum())[:30]
        cell = PlannedCell(cell.name, cell.panel, cell.note, cell.choices, f"{cell.folder}-{tail}")
    folder = fake_run(outputs, cell, patients=patients, **{"missed": 0.2, "images": 1, **options})  # type: ignore[arg-type]
    config = {"seed": seed, "net": {"widths": [8, 16]}, "data": {"seed": seed}, "folder": str(folder), "name": None}
    config |= {"trainer": {"max_epochs": 8, "default_root_dir": str(folder)}, **(yaml.safe_load(settings) or {})}
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    changed(folder, key=f"{abs(hash(folder.name)):010x}"[:10], sweep="sweep-1" if seed < 2 else None)
    return folder


def changed(folder: Path, **entries: object) -> None:
    """Change entries of a run's record."""
    path = folder / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}), encoding="utf-8")


def run(outputs: Path, *arguments: object) -> Path:
    """Run the command without MLflow and return the folder it wrote."""
    quick = ("tracking=csv", "resamples=200", f"paths.outputs={outputs}")
    compare.main([*map(str, arguments), *quick])
    (folder,) = (outputs / "compare").iterdir()
    return folder


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    """Two seeds of two methods, the second clearly better."""
    return [made(tmp_path, net, seed, missed=missed) for net, missed in METHODS for seed in range(2)]


def test_runs_become_files_a_printed_claim_and_an_entry_of_the_ledger(two, tmp_path, capsys) -> None:
    two += [made(tmp_path, net, seed, missed=missed) for net, missed in METHODS for seed in range(2, 5)]
    folder = run(tmp_path, *two)
    printed = capsys.readouterr().out
    assert "MGU-Net outperforms U-Net" in printed
    assert "SYNTHETIC" in printed.splitlines()[0]
    assert str(folder / "comparison.md") in printed
    written = [*(f"comparison.{kind}" for kind in ("csv", "html", "json", "md", "tex")), "plots"]
    assert sorted(path.name for path in folder.iterdir()) == written
    assert "MGU-Net outperforms U-Net" in (folder / "comparison.html").read_text()
    content = json.loads((folder / "comparison.json").read_text())
    frame = pd.read_csv(two[2] / "scores.csv")
    by_patient = frame.groupby("patient")["dice"].mean()
    place = content["evidence"]["methods"].index("MGU-Net")
    assert content["evidence"]["values"][place][0] == pytest.approx(by_patient.tolist())
    (entry,) = ledger.read(ledger.path_in(tmp_path))
    assert (entry["action"], entry["side"], entry["metric"]) == ("compare", "test", "dice")
    assert entry["runs"] == sorted(json.loads((path / "run.json").read_text())["key"] for path in two)


def contents(folder: Path) -> dict[Path, bytes]:
    """Return all files but the page, which quotes the growing ledger."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.suffix != ".html"}


def test_the_same_runs_in_another_order_give_the_same_bytes(two, tmp_path) -> None:
    folder = run(tmp_path, *two)
    before = contents(folder)
    assert any(path.suffix == ".svg" for path in before)
    assert run(tmp_path, *two[::-1]) == folder
    assert contents(folder) == before


def test_one_seed_is_refused_or_labelled_and_never_outperforms(tmp_path, capsys) -> None:
    runs = [made(tmp_path), made(tmp_path, "mgunet", missed=0.05)]
    with pytest.raises(ScoreError, match=r"one seed only \(0\): .* allow_one_seed=true"):
        run(tmp_path, *runs)
    assert not ledger.path_in(tmp_path).exists()
    run(tmp_path, *runs, ONE_SEED)
    printed = capsys.readouterr().out
    assert "ONE SEED" in printed
    assert "outperforms U-Net" not in printed


def test_a_sweep_a_study_a_glob_and_a_folder_of_runs_are_found(two, tmp_path, monkeypatch) -> None:
    def seeds() -> int:
        (folder,) = (tmp_path / "compare").iterdir()
        return len(json.loads((folder / "comparison.json").read_text())["evidence"]["seeds"])

    for net, missed in METHODS:
        made(tmp_path, net, 2, missed=missed)
    run(tmp_path, "--sweep", "sweep-1", "name=x")
    assert seeds() == 2
    cells = [fake_cell(net, seed=seed) for net in ("unet", "mgunet") for seed in range(3)]
    write_plan(tmp_path / "table1" / "cells.json", fake_plan(cells, seeds=range(3)))
    run(tmp_path, "--study=table1", "panel=A", "name=x")
    assert seeds() == 3
    run(tmp_path, "table1/*-s[02]", "name=x")
    assert seeds() == 2
    monkeypatch.chdir(tmp_path)
    run(tmp_path, "runs/table1", "name=x")
    assert seeds() == 3
    assert len(ledger.read(ledger.path_in(tmp_path))) == 4


def test_settings_choose_among_the_runs_of_a_study_and_of_a_sweep(two, tmp_path) -> None:
    def found(*arguments: str) -> list[str]:
        given = divided([*arguments, "metric=iou"], "compare")
        assert given.overrides == ["metric=iou"]
        places = find_runs(given.named, "compare", outputs=tmp_path, runs=tmp_path / "runs")
        return [place.name for place in places]

    cells = [fake_cell(net, seed=seed) for net in ("unet", "mgunet") for seed in range(2)]
    write_plan(tmp_path / "table1" / "cells.json", fake_plan(cells))
    assert found("--study=table1", "net=mgunet", "split=ratio") == ["A-mgunet-ratio-s0", "A-mgunet-ratio-s1"]
    assert len(found("--study", "table1", "net=unet,mgunet")) == 4
    sweep = ("--sweep", "sweep-1")
    assert found(*sweep, "net=unet", "trainer.max_epochs=8") == ["A-unet-ratio-s0", "A-unet-ratio-s1"]
    with pytest.raises(ConfigError, match="--sweep sweep-1: no run with trainer.max_epochs=9; .* is 8 there"):
        found(*sweep, "trainer.max_epochs=9")
    changed(two[0], choices={"net": "vnet"})
    with pytest.raises(ConfigError, match="no run has all of net=vnet data=phantom; leave one of them out"):
        found(*sweep, "net=vnet", "data=phantom")


def test_places_that_are_no_runs_are_refused(two, tmp_path) -> None:
    tracker = CsvTracker()
    with pytest.raises(RunError, match="nowhere: no run there"):
        find_folders(["nowhere"], tmp_path / "runs", tracker)
    with pytest.raises(RunError, match="MLflow's ids need MLflow"):
        find_folders(["0" * 32], tmp_path / "runs", tracker)
    with pytest.raises(RunError, match="known sweeps: sweep-1"):
        run(tmp_path, "--sweep", "other")
    with pytest.raises(ConfigError, match="panel=Z"):
        run(tmp_path, two[0], two[2], "panel=Z")


def test_a_run_given_by_two_names_counts_once(two, tmp_path) -> None:
    assert find_folders([str(two[0]), "table1/A-unet-ratio-s0"], tmp_path / "runs", CsvTracker()) == [two[0]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "medseg compare needs one of"),
        (["--sweep", "a", "--study", "b"], "needs one of"),
        (["--verbose"], "no flag --verbose"),
        (["x", "metric=hd_voxel"], "needs rope="),
        (["x", "name=a/b"], "a plain name"),
        (["x", "metrics=dice"], "metrics"),
    ],
)
def test_a_wrong_command_line_is_refused(arguments: Sequence[str], message: str, tmp_path) -> None:
    with pytest.raises(ConfigError, match=message):
        run(tmp_path, *arguments)


def test_a_flag_without_its_value_is_refused() -> None:
    with pytest.raises(ConfigError, match="--sweep needs a value"):
        divided(["metric=dice", "--sweep"], "compare")


def test_an_unfinished_run_is_refused(two, tmp_path) -> None:
    (two[0] / "DONE").unlink()
    with pytest.raises(RunError, match=r"A-unet-ratio-s0: not finished \(status finished\)"):
        run(tmp_path, *two)


def test_a_study_with_an_open_cell_is_refused(two, tmp_path) -> None:
    cells = [fake_cell(net) for net in ("unet", "dmunet")]
    write_plan(tmp_path / "table1" / "cells.json", fake_plan(cells))
    with pytest.raises(RunError, match=r"1 of 2 cells are not finished \(first: A net=dmunet seed=0\)"):
        run(tmp_path, "--study", "table1")
    with pytest.raises(
        ConfigError, match=r"--study table1 \(phantom-quick\): no run with net=vnet; net is unet, dmunet"
    ):
        run(tmp_path, "--study", "table1", "net=vnet")


def test_a_damaged_table_is_refused_with_file_and_line(two, tmp_path) -> None:
    path = two[1] / "scores.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:4], lines[4][: len(lines[4]) // 2]]) + "\n")
    with pytest.raises(ScoreError, match=r"A-unet-ratio-s1/scores\.csv, line 5"):
        run(tmp_path, *two)


def test_runs_on_other_patients_and_other_data_are_refused(two, tmp_path) -> None:
    other = made(tmp_path, "dmunet", patients=28)
    with pytest.raises(ScoreError, match=r"different test sets: .* 28 patients, .* 30; 2 only for 'U-Net' seed 0"):
        run(tmp_path, two[0], other)
    changed(two[2], data={"name": "ddti", "digest": "e" * 64, "synthetic": False})
    with pytest.raises(ScoreError, match="different datasets: .*A-unet-ratio-s0.*phantom"):
        run(tmp_path, two[0], two[2])


def test_unpaired_seeds_are_refused_or_left_out(two, tmp_path, capsys) -> None:
    with pytest.raises(ScoreError, match="'MGU-Net' lacks 1"):
        run(tmp_path, *two[:3])
    run(tmp_path, *two[:3], "seeds=common", ONE_SEED)
    assert "Left out: seeds 1 (1 runs)" in " ".join(capsys.readouterr().out.split())


def test_leaky_runs_are_allowed_and_labelled_everywhere(tmp_path, capsys) -> None:
    folder = run(tmp_path, made(tmp_path, leaky=True), made(tmp_path, "mgunet", leaky=True), ONE_SEED)
    assert "LEAKY" in capsys.readouterr().out
    for kind in ("md", "tex"):
        text = (folder / f"comparison.{kind}").read_text()
        assert text.count("SYNTHETIC, LEAKY SPLIT, ONE SEED") == 3, kind


def test_a_table_that_contradicts_its_record_about_leaks_is_refused(two, tmp_path) -> None:
    record = json.loads((two[0] / "run.json").read_text())
    changed(two[0], split={**record["split"], "leaky": True})
    with pytest.raises(RunError, match="run.json says leaky=True"):
        run(tmp_path, *two)


def test_evaluations_of_runs_can_be_compared_and_validation_sides_need_a_yes(two, tmp_path, capsys) -> None:
    places = []
    for folder in (two[0], two[2]):
        place = folder / "evaluations" / "phantom-val"
        place.mkdir(parents=True)
        table = (folder / "scores.csv").read_text().replace(",test,", ",val,")
        (place / "scores.csv").write_text(table)
        places.append(place)
    with pytest.raises(ScoreError, match="phantom-val: scores of the val side"):
        run(tmp_path, *places)
    run(tmp_path, *places, "allow_selection_side=true", ONE_SEED)
    assert "SELECTION SIDE" in capsys.readouterr().out
    assert ledger.read(ledger.path_in(tmp_path))[0]["side"] == "val"


def test_a_refined_run_can_be_compared_with_itself_as_it_was(two, tmp_path) -> None:
    place = two[0] / "evaluations" / "refined"
    place.mkdir(parents=True)
    (place / "scores.csv").write_text((two[0] / "scores.csv").read_text())
    record = json.loads((run(tmp_path, two[0], place, ONE_SEED) / "comparison.json").read_text())
    (pair,) = record["pairs"]
    assert {pair["first"], pair["second"]} == {"U-Net", "U-Net refinement=chosen on validation"}
    assert pair["difference"]["mean"] == 0


def test_methods_are_named_by_what_differs() -> None:
    base = {"net": "unet", "net.widths": "[8, 16]", "loss": "dice_ce", "loss.weight": "1", "optimizer.lr": "0.001"}
    wide = {**base, "net.widths": "[16, 32]"}
    focal = {**base, "loss": "focal", "loss.weight": "2"}
    assert method_names([base, base]) == ["U-Net", "U-Net"]
    assert method_names([base, wide]) == ["U-Net net.widths=[8, 16]", "U-Net net.widths=[16, 32]"]
    assert method_names([base, focal]) == ["U-Net loss=dice_ce", "U-Net loss=focal"]
    other = {**base, "net": "mgunet", "net.widths": "[4]"}
    assert method_names([base, other, base]) == ["U-Net", "MGU-Net", "U-Net"]


def test_seed_fold_and_machine_make_no_other_method(tmp_path) -> None:
    here = "split: {fold: 1}\nthreads: 4\ntrainer: {max_epochs: 8, accelerator: gpu, default_root_dir: /a}\n"
    coarse = "preprocess: {boxes: runs/single/unet-ddti-ratio-s0-0123456789/boxes.csv}"
    other = "preprocess: {boxes: runs/single/unet-ddti-ratio-s1-abcdefabcd-2/boxes.csv}"
    from medseg.commands.compared_runs import read_runs

    first, second, third, fourth = (
        found.settings
        for found in read_runs(
            [
                made(tmp_path),
                made(tmp_path, settings=here, seed=1),
                made(tmp_path, settings=coarse),
                made(tmp_path, settings=other, seed=1),
            ]
        )
    )
    assert first == second
    assert third == fourth != first


def test_ids_of_mlflow_lead_to_their_folders(two, tmp_path, monkeypatch) -> None:
    from medseg import tracking

    class Tracker:
        uri, experiment = "sqlite:///x.db", "medseg"

    asked = []

    def find_runs(uri: str, experiment: str, query: str) -> pd.DataFrame:
        asked.append((uri, experiment, query))
        return pd.DataFrame({"folder": [str(two[0])]}) if "a" * 32 in query else pd.DataFrame({"folder": []})

    monkeypatch.setattr(tracking, "find_runs", find_runs)
    assert find_folders(["a" * 32], tmp_path / "runs", Tracker()) == [two[0]]
    assert asked == [("sqlite:///x.db", "medseg", f"attributes.run_id = '{'a' * 32}'")]
    with pytest.raises(RunError, match="knows no folder of this run"):
        find_folders(["b" * 32], tmp_path / "runs", Tracker())


def test_the_help_needs_no_runs(capsys) -> None:
    assert cli.main(["compare", "--help"]) == 0
    assert "medseg compare RUN" in capsys.readouterr().out


@pytest.mark.slow
def test_a_comparison_needs_no_torch(two, tmp_path) -> None:
    code = (
        "import sys\nfrom medseg.cli import main\n"
        f"done = main(['compare', *{[str(path) for path in two]!r}, 'tracking=csv', 'resamples=200', "
        f"'paths.outputs={tmp_path}'])\n"
        "print('DONE', done, sorted({'torch', 'lightning', 'mlflow'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "DONE 0 []", found.stderr
