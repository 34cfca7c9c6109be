"""``medseg card``: three files beside a run, or one line that says why not."""

import json
import shutil
from pathlib import Path

import pytest

from fake_folders import full_folder
from medseg.commands import card as command
from medseg.errors import MedsegError, RunError, ScoreError

NAMES = ("model_card.md", "dataset_card.md", "checklists.md")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run's folder; the working directory lies apart from the repository."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MEDSEG_OUTPUTS", str(tmp_path / "outputs"))
    return full_folder(tmp_path / "outputs", patients=6, attributes=False)


def test_the_three_files_lie_in_the_folder_and_are_the_same_when_made_again(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command.main([f"run={run}"])
    first = [(run / name).read_text(encoding="utf-8") for name in NAMES]
    assert [text.splitlines()[0] for text in first] == [
        f"# Model card: {run.name}",
        "# Dataset card: phantom",
        "# Checklists",
    ]
    assert "Ronneberger, Fischer and Brox" in first[0]
    assert first[2].count("items are answered from the run") == 3
    assert "of 44 items answered" in capsys.readouterr().out
    command.main([f"run={run}"])
    assert [(run / name).read_text(encoding="utf-8") for name in NAMES] == first


def test_another_folder_takes_them(run: Path, tmp_path: Path) -> None:
    command.main([f"run={run}", f"output={tmp_path / 'cards'}"])
    assert sorted(path.name for path in (tmp_path / "cards").iterdir()) == sorted(NAMES)
    assert not (run / "model_card.md").exists()


def test_published_numbers_stand_in_the_card_where_they_are_found(run: Path, tmp_path: Path) -> None:
    published = tmp_path / "experiments" / "published"
    published.mkdir(parents=True)
    shutil.copy(Path(__file__).parents[1] / "experiments" / "published" / "tn3k.csv", published)
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    record["choices"]["data"] = "tn3k"
    (run / "run.json").write_text(json.dumps(record), encoding="utf-8")
    command.main([f"run={run}"])
    text = (run / "model_card.md").read_text(encoding="utf-8")
    assert "## Published numbers on tn3k" in text
    assert "| U-Net (ours) | 0.8" in text
    assert "| not comparable: TRFE+, nodule" in text
    (published / "tn3k.csv").write_text("a,b\n", encoding="utf-8")
    with pytest.raises(ScoreError, match="tn3k.csv: its columns must be"):
        command.main([f"run={run}"])


@pytest.mark.parametrize("arguments", [[], ["run=absent"], ["run=absent", "colour=red"]])
def test_what_cannot_be_done_is_one_line(arguments: list[str], run: Path) -> None:
    with pytest.raises(MedsegError) as caught:
        command.main(arguments)
    assert "\n" not in str(caught.value)


def test_a_damaged_record_is_named(run: Path) -> None:
    (run / "run.json").write_text("{", encoding="utf-8")
    with pytest.raises(RunError, match="run.json: not readable as JSON"):
        command.main([f"run={run}"])
