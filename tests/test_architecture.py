"""The house's rules: which way imports point, what imports in a moment, what lies where and under what name."""

import ast
import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("erdp_core", "orchestration", "sweeps", "results")
SCRIPT_FOLDERS = ("orchestration", "sweeps", "results")
FOLDERS = {*PACKAGES, "tests", "docker", ".ci"}
LONGEST_FILE = 450

# What each package may import of ours; a command line that draws what it finished may also import results.
MAY_IMPORT = {
    "erdp_core": ("erdp_core",),
    "orchestration": ("orchestration", "erdp_core"),
    "sweeps": ("sweeps", "orchestration", "erdp_core"),
    "results": (
        "results",
        "orchestration.ledger",
        "erdp_core.tasks",
        "erdp_core.config",
        "erdp_core.agent_configs",
        "erdp_core.hyperparameters",
        "erdp_core.errors",
        "erdp_core.command_line",
    ),
}
MAY_DRAW = {
    "orchestration.run_table", "sweeps.run_ablation", "sweeps.toys", "sweeps.tune_alpha", "sweeps.embed_states",
}  # fmt: skip
NEVER_IMPORTS = {
    "erdp_core": {"ray", "mlflow", "optuna", "pandas"},
    "orchestration": set[str](),
    "sweeps": set[str](),
    "results": {"torch", "ray"},
}
LIGHT_MODULES = (
    "erdp_core.config",
    "erdp_core.agent_configs",
    "erdp_core.hyperparameters",
    "erdp_core.tasks",
    "orchestration.ledger",
)
IMPORTED_AS = {"scikit_learn": "sklearn"}
HEAVY_LIBRARIES = {"torch", "ray", "mlflow", "minari"}

# Commands of the README that no test runs, by how they begin, and why.


def module_name(path: Path) -> str:
    """The dotted name of a module's file."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {module_name(path): path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))}


def imported(module: str, source: str) -> Iterator[str]:
    """Every module that a module's source imports, wherever in the file; of ours by its full name."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # A relative import counts from the package that the module is in.
            inside = module.split(".") if SOURCES.get(module, Path()).name == "__init__.py" else module.split(".")[:-1]
            base = inside[: len(inside) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                full = f"{origin}.{alias.name}"
                yield full if full in SOURCES else origin
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in {"importlib.import_module", "__import__"}:
            yield from (str(name.value) for name in node.args[:1] if isinstance(name, ast.Constant))


def within(module: str, prefixes: tuple[str, ...]) -> bool:
    return any(module == prefix or module.startswith(prefix + ".") for prefix in prefixes)


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_point_one_way(package: str) -> None:
    wrong = []
    for module, path in SOURCES.items():
        if not within(module, (package,)):
            continue
        allowed = MAY_IMPORT[package] + (("results",) if module in MAY_DRAW else ())
        for name in imported(module, path.read_text()):
            ours = within(name, PACKAGES)
            if (ours and not within(name, allowed)) or name.split(".")[0] in NEVER_IMPORTS[package]:
                wrong.append(f"{module} imports {name}")
    assert not wrong


def test_imports_are_found_wherever_they_stand() -> None:
    lines = [
        "def f():",
        "    import ray.tune",
        "from . import tasks",
        "from erdp_core import config",
        "from .data.x import y",
    ]
    assert list(imported("erdp_core.trainer", "\n".join(lines))) == [
        "erdp_core.tasks",
        "erdp_core.config",
        "erdp_core.data.x",
        "ray.tune",
    ]


def test_third_party_imports_are_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    requirements = project["dependencies"] + project["optional-dependencies"]["video"]
    names = {re.split(r"[^\w-]", requirement)[0].lower().replace("-", "_") for requirement in requirements}
    declared = {IMPORTED_AS.get(name, name) for name in names}
    wrong = [
        f"{module} imports {name}"
        for module, path in SOURCES.items()
        for name in imported(module, path.read_text())
        if name.split(".")[0] not in {*sys.stdlib_module_names, *PACKAGES, *declared}
    ]
    assert not wrong


@pytest.mark.parametrize("module", LIGHT_MODULES)
def test_light_modules_import_in_a_moment(module: str) -> None:
    program = (
        f"import json, sys, time; start = time.process_time(); import {module}; "
        "print(json.dumps([time.process_time() - start, sorted(sys.modules)]))"
    )
    output = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    seconds, loaded = json.loads(output)
    assert HEAVY_LIBRARIES.isdisjoint(loaded)
    assert seconds < 1.0


def test_package_files_stay_empty() -> None:
    filled = [str(path) for path in SOURCES.values() if path.name == "__init__.py" and path.read_text()]
    assert not filled
    assert all((ROOT / package / "__init__.py").exists() for package in PACKAGES)


@pytest.mark.parametrize("folder", SCRIPT_FOLDERS)
def test_no_module_shadows_another(folder: str) -> None:
    """Running a script puts its folder first on the path: a `statistics.py` beside it would be everyone's."""
    taken = set(sys.stdlib_module_names) | set(importlib.metadata.packages_distributions())
    names = {path.stem for path in (ROOT / folder).iterdir() if path.name not in {"__init__.py", "__pycache__"}}
    assert not names & taken


def project_files() -> list[Path]:
    """Every file of the project, relative to its root: what git knows, or would without being told to ignore it."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git clone: which files are the project's is not known")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    return [Path(name) for name in names if name and (ROOT / name).exists()]


def test_rooms() -> None:
    assert {path.parts[0] for path in project_files() if len(path.parts) > 1} <= FOLDERS


def test_no_file_has_outgrown_its_subject() -> None:
    lengths = {
        str(path): len((ROOT / path).read_text().splitlines())
        for path in project_files()
        if path.suffix == ".py" or path.parts[0] in {".ci", "Makefile"}
    }
    assert lengths
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST_FILE} == {}
