"""``medseg refine`` from a trained run to its table, and what it refuses."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fakes import write_dataset
from medseg import ledger
from medseg.cli import main as medseg
from medseg.commands.configuration import compose
from medseg.commands.refine import main
from medseg.errors import ConfigError, RunError
from medseg.stats.table import read_scores
from medseg.targets import check_targets
from settings import TINY

Train = Callable[..., Path]
QUICK = ("resamples=200",)


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    """Train a network for a moment; returns its folder."""
    monkeypatch.setenv("MEDSEG_OUTPUTS", str(tmp_path / "outputs"))
    dataset = write_dataset(tmp_path / "set", patients=12, images_per_patient=2, folds=3)

    def train(net: str, *overrides: str) -> Path:
        settings = [text for text in TINY if net in ("unet", "mgunet") or not text.startswith("net.")]
        assert medseg(["train", *settings, f"data.source.root={dataset}", f"net={net}", *overrides]) == 0
        return sorted((tmp_path / "outputs" / "runs" / "single").glob(f"{net}-*"))[-1]

    return train


@pytest.mark.parametrize(
    "option",
    ["default", "with_crf", "none", "threshold", "fill_holes", "remove_small", "largest_component", "dense_crf"],
)
def test_every_list_of_steps_is_built_by_its_config(option: str) -> None:
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    node = OmegaConf.to_container(compose("refine", ["run=x", f"postprocess={option}"]).postprocess)
    check_targets(node)
    steps = list(instantiate(node, _convert_="all").values())
    names = [step.name for step in steps]
    wanted = ["dense_crf", "threshold", "fill_holes", "remove_small", "largest_component"]
    assert names == {"default": wanted[1:], "with_crf": wanted, "none": []}.get(option, [option])
    assert all(len(step.candidates()) > 1 for step in steps)


@pytest.mark.parametrize(("option", "views"), [("none", 1), ("flips", 2), ("flips_rotations", 8), ("scales", 6)])
def test_every_option_of_views_is_built_by_its_config(option: str, views: int) -> None:
    from hydra.utils import instantiate

    node = compose("refine", ["run=x", f"tta={option}"]).tta
    assert len(instantiate(node).changes) == views


@pytest.mark.slow
def test_a_run_is_refined_on_validation_and_judged_once_on_test(
    trained: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained("unet", "trainer.max_epochs=10", "optimizer.lr=0.02")
    main([f"run={run}", "postprocess=with_crf", "rule=mean", *QUICK])
    folder = run / "evaluations" / "refined"
    record = json.loads((folder / "refinement.json").read_text())
    assert [step["step"] for step in record["steps"]][:3] == ["tta", "dense_crf", "threshold"]
    assert record["chosen_on"]["side"] == "val"
    kept = [step for step in record["steps"] if step["kept"]]
    assert len(record["kept"]["steps"]) + (record["kept"]["tta"] is not None) == len(kept)
    assert all(step["candidates"][step["best"]]["gain"]["mean"] > 0 for step in kept)
    # The first line of the table is the run itself, the last one what stands in the new score table.
    raw, refined = (read_scores(path / "scores.csv") for path in (run, folder))
    means = {name: frame.groupby("patient")["dice"].mean().mean() for name, frame in (("raw", raw), ("new", refined))}
    rows = record["test"]
    assert rows[0]["test_mean"] == pytest.approx(means["raw"], abs=1e-9)
    assert rows[-1]["test_mean"] == pytest.approx(means["new"], abs=1e-9)
    assert rows[-1]["test"]["mean"] == pytest.approx(means["new"] - means["raw"], abs=1e-9)
    assert all(row["test"] is None for row in rows[1:] if not row["kept"])
    assert set(raw["case"]) == set(refined["case"])
    assert len(list((folder / "predictions").iterdir())) == len(refined)
    for name in ("overlays.png", "reliability.csv", "cases.csv", "refinement.md"):
        assert (folder / name).stat().st_size > 100
    long = pd.read_csv(folder / "refinement.csv")
    assert np.isclose(long.loc[long["row"] == "raw", "value"], means["raw"]).any()
    accesses = ledger.read(ledger.path_in(tmp_path / "outputs"))
    assert [entry["action"] for entry in accesses].count("refine") == 1
    assert "all kept" in capsys.readouterr().out
    # Chosen again without the slow step: the same seed gives the same.
    main([f"run={run}", "tta=none", "rule=mean", *QUICK])
    first = (folder / "refinement.json").read_text()
    main([f"run={run}", "tta=none", "rule=mean", *QUICK])
    assert (folder / "refinement.json").read_text() == first


@pytest.mark.slow
def test_the_marks_of_an_interactive_run_are_flipped_along_and_scaling_is_refused(trained: Train) -> None:
    run = trained("mgunet", "trainer.max_epochs=1")
    main([f"run={run}", "postprocess=none", "tta=flips", *QUICK])
    record = json.loads((run / "evaluations" / "refined" / "refinement.json").read_text())
    raw = read_scores(run / "scores.csv").groupby("patient")["dice"].mean().mean()
    assert record["test"][0]["test_mean"] == pytest.approx(raw, abs=1e-9)
    with pytest.raises(ConfigError, match="scaling blurs the marks of an interactive network"):
        main([f"run={run}", "tta=scales"])


@pytest.mark.slow
def test_a_run_without_validation_is_refused_with_the_way_out(trained: Train) -> None:
    run = trained("unet", "split.val_fraction=0", "monitor=train/loss", "callbacks=last", "trainer.max_epochs=1")
    with pytest.raises(
        ConfigError, match=r"has no case, and steps are chosen on validation only; .*val_fraction=0\.15"
    ):
        main([f"run={run}"])
    assert not (run / "evaluations").exists()
    with pytest.raises(ConfigError, match="metric=hd95"):
        main([f"run={run}", "metric=hd95"])


def test_what_is_no_run_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDSEG_OUTPUTS", str(tmp_path / "outputs"))
    with pytest.raises(RunError, match=r"no run\.json there"):
        main([f"run={tmp_path}"])
