"""The house rules that a machine can watch: doors between rooms, randomness, safe loading, clean files."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from medseg.cli import VERBS

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "medseg"
CONF = ROOT / "conf"
MODULES = sorted(SOURCE.rglob("*.py"))
ROOMS = sorted(path for path in SOURCE.rglob("__init__.py"))

LEGACY_RANDOM = {
    "seed", "rand", "randn", "randint", "random", "choice", "shuffle", "permutation", "normal", "uniform",
    "RandomState", "get_state", "set_state", "standard_normal", "binomial", "poisson",
}  # fmt: skip
SEEDING = {
    "torch.manual_seed", "torch.seed", "torch.cuda.manual_seed", "torch.cuda.manual_seed_all",
    "torch.random.manual_seed", "seed_everything", "pl.seed_everything", "lightning.seed_everything",
}  # fmt: skip
MAY_PRINT = ("commands/", "cli.py")


def relative(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


def tracked() -> list[Path]:
    """Files that are or would be committed; in an unpacked archive, everything but what git would ignore by name."""
    done = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                          capture_output=True, text=True)  # fmt: skip
    if done.returncode == 0:
        return [path for name in done.stdout.split("\0") if name and (path := ROOT / name).is_file()]
    hidden = re.compile(r"(^|/)(\.venv|\.git|outputs|data|build|dist|__pycache__|\.[a-z_]+_cache|[^/]*\.egg-info)(/|$)")
    return [path for path in ROOT.rglob("*") if path.is_file() and not hidden.search(path.relative_to(ROOT).as_posix())]


def text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""  # a picture


def dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield dotted(node.func), node


def test_import_contracts_hold():
    tool = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([str(tool), "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", ROOMS, ids=relative)
def test_every_room_has_a_charter_and_no_code_in_it(path):
    body = ast.parse(path.read_text(encoding="utf-8")).body
    charter = ast.get_docstring(ast.Module(body=body, type_ignores=[])) or ""
    assert len(charter.split()) >= 8, f"{relative(path)}: say what lives here and what it may touch"
    code = [node for node in body[1:] if not (path.parent == SOURCE and isinstance(node, ast.Assign))]
    assert code == [], f"{relative(path)}: a charter holds no code"


def seeded_by_derive(call: ast.Call) -> bool:
    inner = [dotted(node.func) for argument in call.args for node in ast.walk(argument) if isinstance(node, ast.Call)]
    return any(name.split(".")[-1] == "derive" for name in inner)


def drawing(path: Path) -> list[str]:
    """What in a file draws from a global state, or seeds by anything but medseg.rng.derive."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module in ("random", "numpy.random"):
            found.append(f"line {node.lineno}: from {node.module} import ...")
        name = dotted(node) if isinstance(node, ast.Attribute) else ""
        parts = name.split(".")
        if len(parts) == 3 and parts[0] in ("np", "numpy") and parts[1] == "random" and parts[2] in LEGACY_RANDOM:
            found.append(f"line {node.lineno}: {name}")
        if len(parts) == 2 and parts[0] == "random" and parts[1] != "Random":
            found.append(f"line {node.lineno}: {name}")
    for name, call in calls(path):
        seeds = name in SEEDING or re.fullmatch(r"((np|numpy)\.random\.default_rng|random\.Random)", name)
        if seeds and not seeded_by_derive(call):
            found.append(f"line {call.lineno}: {name} without a seed from medseg.rng.derive")
    return found


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_nothing_draws_or_seeds_but_through_rng(path):
    assert drawing(path) == []


@pytest.mark.parametrize(
    "code",
    [
        "import numpy as np\nnp.random.rand(3)",
        "import numpy as np\nrng = np.random.default_rng()",
        "import numpy as np\nrng = np.random.default_rng(0)",
        "import random\nrandom.shuffle([])",
        "from random import choice",
        "import torch\ntorch.manual_seed(0)",
    ],
)
def test_the_rule_on_randomness_sees(code, tmp_path):
    (tmp_path / "planted.py").write_text(code)
    assert len(drawing(tmp_path / "planted.py")) == 1


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_only_commands_print(path):
    printing = [call.lineno for name, call in calls(path) if name == "print"]
    assert relative(path).startswith(MAY_PRINT) or printing == []


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_nothing_unpickles(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            assert not {"pickle", "dill", "cloudpickle", "joblib"} & {alias.name for alias in node.names}
    for name, call in calls(path):
        keywords = {keyword.arg: keyword.value for keyword in call.keywords}
        if name == "torch.load":
            only = keywords.get("weights_only")
            assert isinstance(only, ast.Constant) and only.value is True, f"line {call.lineno}: weights_only=True"
        allowed = keywords.get("allow_pickle")
        assert not (isinstance(allowed, ast.Constant) and allowed.value), f"line {call.lineno}: allow_pickle"


def test_no_file_loads_more_than_weights():
    pattern = re.compile(r"weights_only\s*=\s*" + "False")
    found = [
        path.name
        for path in tracked()
        if path.suffix in (".py", ".ipynb", ".yaml", ".md") and pattern.search(text_of(path))
    ]
    assert found == []


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.name)
def test_notebooks_are_kept_without_outputs(path):
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        assert not cell.get("outputs"), "strip it: nbstripout " + path.name
        assert cell.get("execution_count") is None, "strip it: nbstripout " + path.name


def test_tracked_files_name_no_machine_and_no_package_index():
    places = [r"/" + r"work/", r"/" + r"root/", r"/home/" + r"[a-z]", r"/Users/" + r"[a-z]", r"/opt/" + r"wheels"]
    hosts = ["py" + "pi.org", "python" + "hosted", "download.py" + "torch.org", "conda." + "anaconda.org"]
    options = ["--index" + "-url", "--extra-index" + "-url", "--find" + "-links"]
    pattern = re.compile("|".join([*places, *(re.escape(text) for text in (*hosts, *options))]))
    for path in tracked():
        found = pattern.search(text_of(path))
        assert not found, f"{path.relative_to(ROOT)}: {found and found[0]}"


@pytest.mark.parametrize("path", sorted(CONF.rglob("*.yaml")), ids=lambda path: path.relative_to(CONF).as_posix())
def test_conf_names_are_what_one_types(path):
    parts = path.relative_to(CONF).parts
    assert len(parts) <= 2, "no group deeper than one level"
    assert re.fullmatch(r"[a-z][a-z0-9_]*\.yaml", parts[-1])
    assert re.fullmatch(r"[a-z_]+", parts[0].removesuffix(".yaml"))


def test_no_option_of_a_group_is_a_file_that_is_not_read():
    assert [path for path in CONF.rglob("*") if path.is_file() and path.suffix != ".yaml"] == []


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda path: path.stem)
def test_root_configs_are_verbs_and_keep_the_folder_clean(path):
    yaml = pytest.importorskip("yaml")
    assert path.stem in VERBS, "run_hydra starts the other ranks of a job as `medseg VERB`"
    defaults = yaml.safe_load(path.read_text(encoding="utf-8")).get("defaults", [])
    assert {"paths": "default"} in defaults
    assert {"hydra": "default"} in defaults, "without it Hydra writes outputs/ and *.log where the command is started"
