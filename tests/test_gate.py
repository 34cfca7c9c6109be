"""The gate at the start of training: leaks stop it, allowed leaks label it, certificates are kept."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medseg.commands import gate as gates
from medseg.commands.gate import LeakError, gate, thresholds_of
from medseg.data.audit.certificate import verify_certificate
from medseg.data.cache import content_hashes, dataset_digest
from medseg.data.cases import Case
from medseg.data.sources.folder import read_manifest
from medseg.data.sources.phantom import phantom
from medseg.data.splits import SIDES, Split, ratio, twins_grouped, twins_leaky
from medseg.errors import ConfigError
from medseg.rng import generator
from medseg.types import DataCard

AUDIT = {"gate": True, "allow_leaks": False}


@dataclass
class Prepared:
    """As much of the data as the gate asks for."""

    listed: Sequence[Case]
    split: Split
    card: DataCard
    source: Any = None

    @property
    def digest(self) -> str:
        originals = [case for case in self.listed if case.twin is None]
        return dataset_digest(originals, content_hashes(originals))

    def cases(self, side: str) -> list[Case]:
        return [case for case in self.listed if case.id in self.split.sides[side]]

    def declare_leaky(self) -> None:
        self.split = replace(self.split, leaky=True)


def prepared(cases: Sequence[Case], split: Split, root: Path | None = None) -> Prepared:
    return Prepared(
        cases, split, DataCard("fake", 1, 2, ["background", "nodule"]), partial(read_manifest, root=root or "set")
    )


def config(folder: Path, **audit: Any) -> dict[str, Any]:
    return {"audit": {**AUDIT, **audit}, "paths": {"cache": str(folder / "cache")}}


def pictures(folder: Path, *, leaking: bool) -> Prepared:
    """Six patients with a noise picture each; the last one's is the first one's mirror image if it leaks."""
    folder.mkdir(exist_ok=True)
    cases = []
    for number in range(6):
        grey = generator(number, "gate").integers(30, 255, (12, 14)).astype(np.uint8)
        large = np.asarray(Image.fromarray(grey).resize((140, 120), Image.Resampling.BICUBIC))
        if leaking and number == 5:
            with Image.open(folder / "p0.png") as first:
                large = np.asarray(first)[:, ::-1]
        Image.fromarray(large).save(folder / f"p{number}.png")
        cases.append(Case(f"p{number}", f"p{number}", (folder / f"p{number}.png",)))
    ids = tuple(case.id for case in cases)
    return prepared(cases, Split("mine", 0, False, {"train": ids[:4], "val": (), "test": ids[4:]}))


def test_clean_split_passes_and_leaves_its_certificate_in_the_run(tmp_path: Path) -> None:
    data = pictures(tmp_path / "set", leaking=False)
    certificate = gate(config(tmp_path), data, tmp_path / "run")  # type: ignore[arg-type]
    assert certificate is not None and certificate.verdict == "clean" and not data.split.leaky
    written = verify_certificate(tmp_path / "run" / "audit.json", digest=data.digest, split_hash=data.split.hash)
    assert written == certificate


def test_leak_stops_training_in_one_line_that_names_the_worst_pair_and_both_ways_out(tmp_path: Path) -> None:
    data = pictures(tmp_path / "set", leaking=True)
    with pytest.raises(LeakError) as caught:
        gate(config(tmp_path), data, tmp_path / "run")  # type: ignore[arg-type]
    text = str(caught.value)
    assert isinstance(caught.value, ConfigError) and "\n" not in text
    assert "split 'mine': 1 leak(s) between sides, the worst: 'p0' (train), 'p5' (test)" in text
    assert "manifest.csv" in text and "audit.allow_leaks=true" in text
    assert (tmp_path / "run" / "audit.json").is_file()


def test_allowed_leak_labels_the_split_and_so_every_output(tmp_path: Path) -> None:
    data = pictures(tmp_path / "set", leaking=True)
    certificate = gate(config(tmp_path, allow_leaks=True), data, tmp_path / "run")  # type: ignore[arg-type]
    assert certificate is not None and certificate.verdict == "leaks" and data.split.leaky
    verify_certificate(tmp_path / "run" / "audit.json", split_hash=data.split.hash)


def test_split_that_says_it_leaks_passes_and_its_honest_sister_is_clean(tmp_path: Path) -> None:
    cases = pictures(tmp_path / "set", leaking=False).listed
    leaky = prepared(*twins_leaky(cases, seed=0, fractions=(0.5, 0.2, 0.3)))
    certificate = gate(config(tmp_path), leaky)  # type: ignore[arg-type]
    assert certificate is not None and certificate.verdict == "declared leaky" and certificate.leaks > 0
    with_size = [replace(case, attributes={"fg_fraction": "0.1"}) for case in cases]
    honest = prepared(*twins_grouped(with_size, seed=0, fractions=(0.5, 0.2, 0.3)))
    found = gate(config(tmp_path), honest)  # type: ignore[arg-type]
    assert found is not None and found.verdict == "clean"


def test_certificate_is_reused_until_data_split_or_numbers_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = []
    monkeypatch.setattr(gates, "audit", lambda *given, **named: runs.append(1) or audit(*given, **named))
    from medseg.data.audit.audit import audit

    data = pictures(tmp_path / "set", leaking=False)
    for _ in range(2):
        gate(config(tmp_path), data)  # type: ignore[arg-type]
    assert len(runs) == 1
    gate(config(tmp_path, near_distance=7), data)  # type: ignore[arg-type]
    assert len(runs) == 2
    data.split = replace(data.split, sides={"train": ("p0", "p1", "p2"), "val": (), "test": ("p3", "p4", "p5")})
    gate(config(tmp_path), data)  # type: ignore[arg-type]
    assert len(runs) == 3
    kept = sorted((tmp_path / "cache" / "audits").glob("fake-*.json"))
    for path in kept:
        path.write_text(path.read_text().replace('"pictures": 6', '"pictures": 5'))
    gate(config(tmp_path), data)  # type: ignore[arg-type]
    assert len(runs) == 4 and len(kept) == 3


def test_gate_can_be_left_out_and_unknown_keys_are_named(tmp_path: Path) -> None:
    data = pictures(tmp_path / "set", leaking=True)
    assert gate(config(tmp_path, gate=False), data) is None  # type: ignore[arg-type]
    assert gate({"paths": {"cache": str(tmp_path)}}, data) is None  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="audit.distance is no key of the audit; choose from gate, allow_leaks, near"):
        thresholds_of({**AUDIT, "distance": 3})


def test_default_config_holds_every_number_of_the_audit() -> None:
    from dataclasses import asdict

    from omegaconf import OmegaConf

    from medseg.commands.configuration import CONF
    from medseg.data.audit.pairs import Thresholds

    default: Any = OmegaConf.to_container(OmegaConf.load(CONF / "audit" / "default.yaml"))
    assert set(default) == {"gate", "allow_leaks", *asdict(Thresholds())}
    assert default["gate"] is True and default["allow_leaks"] is False
    assert thresholds_of(default) == Thresholds()
    off: Any = OmegaConf.to_container(OmegaConf.load(CONF / "audit" / "off.yaml"))
    assert off["gate"] is False and thresholds_of(off) == Thresholds()


def test_phantom_passes_the_gate_in_no_time_once_its_pictures_are_known(tmp_path: Path) -> None:
    cases = phantom(tmp_path, seed=3, patients=12, images_per_patient=2, size=(120, 120))
    data = prepared(*ratio(cases, seed=0))
    assert gate(config(tmp_path), data).verdict == "clean"  # type: ignore[arg-type, union-attr]
    data.split = ratio(cases, seed=1)[1]
    started = time.process_time()
    assert gate(config(tmp_path), data).verdict == "clean"  # type: ignore[arg-type, union-attr]
    assert time.process_time() - started < 1.5
    assert {case.id for side in SIDES for case in data.cases(side)} == {case.id for case in cases}
