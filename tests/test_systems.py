"""What every yaml of a network says of itself, and the README's table of them."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("systems_script", ROOT / "docs" / "systems.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["systems_script"] = module
    spec.loader.exec_module(module)
    return module


def test_every_network_says_what_it_is_and_where_it_is_from() -> None:
    for system in script().systems():
        assert system.system
        assert system.source
        assert system.design.startswith(("faithful", "our reading: ", "library: ")), system.option


def test_a_yaml_without_its_head_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("# System  Mine\n_target_: torch.nn.Identity\n", encoding="utf-8")
    with pytest.raises(SystemExit, match=r"mine\.yaml: its first lines must be '# Source"):
        script().described(tmp_path / "mine.yaml")


@pytest.mark.slow
def test_the_readme_lists_every_system_with_its_parameters() -> None:
    module = script()
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    told = text.split(module.START)[1].split(module.END)[0].strip()
    assert told == module.table(module.systems())
