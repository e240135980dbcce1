"""What `make` does before it installs anything: help, the right interpreter, one clear line for what is missing."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TOOLS = ("make", "bash", "sh", "env", "dirname", "cat", "cksum", "cp", "grep", "echo")
TABLE = [
    "-m erdp_core.data collect pointmaze-umaze pointmaze-medium pointmaze-large",
    "orchestration/run_table.py --table pointmaze --profile quick --methods erdp,bc-diffusion --seeds 3",
]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The files that set-up reads and the tools that it uses, in a folder whose name has a space."""
    tree = tmp_path / "a clone"
    (tree / ".ci").mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml", "constraints.txt", ".ci/setup"):
        shutil.copy(ROOT / name, tree / name)
    (tree / "tools").mkdir()
    for name in TOOLS:
        found = shutil.which(name)
        assert found is not None, f"{name} is needed"
        (tree / "tools" / name).symlink_to(found)
    return tree


def make(tree: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run make with nothing on the path but the tree's tools."""
    environment = {"PATH": str(tree / "tools"), "HOME": os.environ.get("HOME", "/"), **variables}
    return subprocess.run(["make", *arguments], cwd=tree, env=environment, capture_output=True, text=True, timeout=60)


def script(path: Path, body: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def python_without(tree: Path, part: str, answer: str = "exit 1") -> str:
    """An interpreter that answers whatever mentions `part` by itself; it makes no environment and installs nothing."""
    body = f'case "$*" in *{part}*) {answer};; "-m venv"*|"-m pip"*) exit 3;; *) exec "{sys.executable}" "$@";; esac'
    return str(script(tree / "interpreter", body))


def environment_with_torch(tree: Path, version: str) -> Path:
    """A virtual environment that says it has that PyTorch, and whose pip only writes down what it is asked."""
    body = f"""case "$*" in
    *'name="torch"'*) echo "{version}";;
    *"pip --version"*) ;;
    *"pip install"*) echo "$*" >> "{tree}/pip.log";;
    *) exec "{sys.executable}" "$@";;
    esac"""
    return script(tree / ".venv" / "bin" / "python", body).parent.parent


def warnings_of(result: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in result.stderr.splitlines() if line.startswith("warning: ")]


def test_make_alone_lists_every_target(tree: Path) -> None:
    result = make(tree)
    assert result.returncode == 0
    phony = re.search(r"^\.PHONY: help (.*)$", (tree / "Makefile").read_text(), flags=re.MULTILINE)
    assert phony is not None
    for target in phony[1].split():
        assert re.search(rf"^make {target} ", result.stdout, flags=re.MULTILINE), target
    assert "README.md" in result.stdout


def test_make_table_sets_up_collects_and_trains(tree: Path) -> None:
    lines = make(tree, "-n", "table").stdout.splitlines()
    assert lines == ['.ci/setup ".venv" "python3"', *(f'".venv/bin/python" {command}' for command in TABLE)]


def test_the_active_environment_is_used(tree: Path) -> None:
    lines = make(tree, "-n", "test", VIRTUAL_ENV="/home/me/my env").stdout.splitlines()
    assert lines[0] == '.ci/setup "/home/me/my env" "python3"'
    assert lines[1].startswith('"/home/me/my env/bin/python" -m pytest')


@pytest.mark.parametrize("target", ["table", "test", "test-slow", "lint"])
def test_no_python(tree: Path, target: str) -> None:
    result = make(tree, target, "PYTHON=python9")
    assert result.returncode == 2
    assert result.stderr.splitlines()[0].startswith("error: no python9 here: install Python 3.11 or newer")
    assert result.stdout == ""


def test_python_too_old(tree: Path) -> None:
    old = python_without(tree, "version_info", answer='case "$*" in *%d*) echo 3.10;; *) exit 1;; esac')
    result = make(tree, "setup", f"PYTHON={old}")
    assert result.returncode == 2
    assert "interpreter is Python 3.10, this needs 3.11 or newer" in result.stderr.splitlines()[0]


def test_python_without_venv(tree: Path) -> None:
    result = make(tree, "setup", f"PYTHON={python_without(tree, 'ensurepip')}")
    assert result.returncode == 2
    assert "cannot make virtual environments" in result.stderr.splitlines()[0]
    assert not (tree / ".venv").exists()


def test_a_missing_compiler_is_told_in_one_line(tree: Path) -> None:
    python = python_without(tree, "EGL", answer="exit 0")
    without = warnings_of(make(tree, "setup", f"PYTHON={python}"))
    assert [line for line in without if "C++ compiler" in line] == [without[0]]
    script(tree / "tools" / "g++", "")
    assert not any("C++ compiler" in line for line in warnings_of(make(tree, "setup", f"PYTHON={python}")))


def test_a_missing_renderer_is_told_in_one_line(tree: Path) -> None:
    script(tree / "tools" / "g++", "")
    told = [line for line in warnings_of(make(tree, "setup", f"PYTHON={python_without(tree, 'EGL')}")) if "EGL" in line]
    assert len(told) == 1
    assert "which videos need" in told[0]


@pytest.mark.parametrize("version", ["2.11.0", "2.12.1+cpu", "2.13.0+cu130"])
def test_a_pytorch_that_is_there_stays(tree: Path, version: str) -> None:
    venv = environment_with_torch(tree, version)
    result = make(tree, "setup")
    assert result.returncode == 0, result.stderr
    assert f"PyTorch {version} is there and stays" in result.stdout
    pins, all_pins = (venv / "constraints.txt").read_text(), (tree / "constraints.txt").read_text()
    assert set(all_pins.splitlines()) - set(pins.splitlines()) == {"torch==2.13.0"}
    assert "--constraint .venv/constraints.txt --editable .[dev,video]" in (tree / "pip.log").read_text()


def test_a_missing_pytorch_is_pinned(tree: Path) -> None:
    venv = environment_with_torch(tree, "")
    assert make(tree, "setup").returncode == 0
    assert "torch==2.13.0" in (venv / "constraints.txt").read_text().splitlines()


@pytest.mark.parametrize("version", ["1.13.1", "2.1.2", "2.10.0", "2.14.0"])
def test_a_pytorch_that_does_not_fit_is_told_not_replaced(tree: Path, version: str) -> None:
    environment_with_torch(tree, version)
    result = make(tree, "setup")
    assert result.returncode == 2
    assert f"has PyTorch {version}, this needs 2.11 to 2.13" in result.stderr
    assert not (tree / "pip.log").exists()


def test_setup_runs_once_until_what_it_installs_changes(tree: Path) -> None:
    environment_with_torch(tree, "2.13.0")
    log = tree / "pip.log"
    for _ in range(2):
        assert make(tree, "setup").returncode == 0
        assert len(log.read_text().splitlines()) == 1
    with open(tree / "constraints.txt", "a") as file:
        file.write("idna==3.19\n")
    assert make(tree, "setup").returncode == 0
    assert len(log.read_text().splitlines()) == 2


def test_a_failed_installation_is_tried_again(tree: Path) -> None:
    python = environment_with_torch(tree, "2.13.0") / "bin" / "python"
    whole = python.read_text()
    python.write_text(whole.replace('echo "$*" >>', 'exit 1; echo "$*" >>'))
    assert make(tree, "setup").returncode == 2
    python.write_text(whole)
    assert make(tree, "setup").returncode == 0
    assert (tree / "pip.log").exists()
