"""`python -m erdp_core.data`, in processes of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from erdp_core.data import __main__ as command
from erdp_core.data.collect import collect_pointmaze
from erdp_core.tasks import TASKS, Task


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for variable in ("D4RL_DATASET_DIR", "MINARI_DATASETS_PATH"):
        (tmp_path / variable).mkdir()
        monkeypatch.setenv(variable, str(tmp_path / variable))
    return tmp_path


@pytest.fixture
def few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    def collect(task: Task, overwrite: bool) -> Path:
        return collect_pointmaze(task, rows=200, overwrite=overwrite)

    monkeypatch.setattr(command, "collect_pointmaze", collect)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "erdp_core.data", *arguments], capture_output=True, text=True, env=os.environ.copy()
    )


def test_the_whole_collection_from_a_shell() -> None:
    first = run("collect", "pointmaze-large")
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout.startswith("pointmaze-large: 60000 rows, ")
    rewarded = int(first.stdout.split()[3])
    assert rewarded >= 300
    listed = run("list")
    assert (listed.returncode, listed.stderr) == (0, "")
    line = next(line for line in listed.stdout.splitlines() if line.startswith("pointmaze-large"))
    assert line.split()[1:4] == ["local", "60,000", str(rewarded)]
    assert line.split()[5] in first.stdout  # the fingerprint


def test_what_is_there_is_skipped(few_rows: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["collect", "pointmaze-umaze"]) == 0
    assert "200 rows" in capsys.readouterr().out
    assert command.main(["collect", "pointmaze-umaze", "pointmaze-medium"]) == 0
    skipped, made = capsys.readouterr().out.splitlines()
    assert "there already" in skipped
    assert made.startswith("pointmaze-medium: 200 rows")
    assert command.main(["collect", "pointmaze-umaze", "--overwrite"]) == 0
    assert "200 rows" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["collect", "pointmaze-umase"], "did you mean 'pointmaze-umaze'?"),
        (["collect", "hopper-medium-v2"], "has no collector"),
        (["collect"], "TASK"),
        (["colect"], "invalid choice"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], said: str) -> None:
    result = run(*arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert said in result.stderr


def test_an_unknown_task_is_told_before_anything_is_collected(folders: Path) -> None:
    assert command.main(["collect", "pointmaze-umaze", "nonsense"]) == 2
    assert list((folders / "MINARI_DATASETS_PATH").iterdir()) == []


def test_list_has_a_line_a_task_and_names_damage(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["task", *TASKS]
    (folders / "D4RL_DATASET_DIR" / "hopper_medium-v2.hdf5").write_bytes(b"404")
    assert command.main(["list"]) == 1
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("hopper-medium-v2"))
    assert "damaged, cut short or not an HDF5 file" in line


def test_help_has_examples() -> None:
    result = run("--help")
    assert result.returncode == 0
    assert result.stdout.startswith("usage: python -m erdp_core.data ")
    assert "python -m erdp_core.data collect pointmaze-umaze" in result.stdout
