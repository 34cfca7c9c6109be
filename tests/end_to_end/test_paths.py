"""Names that people really give their folders and files (fault R29): through training, reuse, MLflow and prediction."""

import csv
from pathlib import Path

import pandas as pd
import pytest

from fakes import write_dataset
from medseg.cli import main
from medseg.tracking import find_runs
from settings import TINY

LONG = "n" * 200
PLACES = ("甲状腺 超声", "étude n° 3", "50% #1 & [a]=b", LONG)


def renamed(root: Path, stem: str) -> Path:
    """Give one case of the dataset another id and other file names."""
    path = root / "manifest.csv"
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    row = rows[0]
    for column in ("image", "mask"):
        old = root / row[column]
        row[column] = f"{Path(row[column]).parent}/{stem}.png"
        old.rename(root / row[column])
    row["id"] = stem
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(row))
        writer.writeheader()
        writer.writerows(rows)
    return root


@pytest.mark.slow
@pytest.mark.parametrize("name", PLACES, ids=["chinese", "accents", "signs", "long"])
def test_any_folder_and_file_name_goes_all_the_way(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / name
    root = renamed(write_dataset(place / "set", patients=6, images_per_patient=1, folds=3), name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MEDSEG_DATA", str(root))
    monkeypatch.setenv("MEDSEG_OUTPUTS", str(place / "outputs"))
    settings = [text for text in TINY if text != "tracking=csv" and "max_epochs" not in text]

    def train(*more: str) -> int:
        return main(["train", *settings, "trainer.max_epochs=1", "data.batch_size=2", "resume=true", *more])

    assert train() == 0
    (folder,) = (path.parent for path in (place / "outputs" / "runs").glob("*/*/DONE"))
    weights = (folder / "weights.pt").stat().st_mtime_ns
    assert train() == 0
    assert (folder / "weights.pt").stat().st_mtime_ns == weights, "a finished run is found again"
    scores = pd.read_csv(folder / "scores.csv")
    assert name in set(scores["case"])
    assert (folder / "predictions" / f"{name}.png").is_file()

    stored = find_runs(f"sqlite:///{place / 'outputs' / 'mlflow.db'}")
    assert stored["test/dice"].tolist() == [pytest.approx(scores["dice"].mean())]
    assert Path(stored["folder"][0]) == folder
    target = place / "masks"
    assert main(["evaluate", f"run='{folder}'", "trainer.enable_progress_bar=false"]) == 0
    assert main(["predict", f"run='{folder}'", f"input='{root / 'images'}'", f"output='{target}'"]) == 0
    assert (target / f"{name}.png").is_file()
