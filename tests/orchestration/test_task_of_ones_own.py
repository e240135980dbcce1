"""A task from a file goes through every command, as those of the registry do."""

import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np

from orchestration.ledger import Ledger

ROOT = Path(__file__).parents[2]
TASK = """
name = "my-pendulum"
like = "gym"
environment = "Pendulum-v1"
reference_min = -1500
reference_max = 0
file = "pendulum.hdf5"
step_limit = 20
[rewards]
standardise = true
[settings.agent]
eta = 2
"""


def run(*command: str) -> str:
    result = subprocess.run(
        [sys.executable, *command], env=os.environ.copy(), capture_output=True, text=True, timeout=240, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_from_a_file_to_the_table(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    with h5py.File(tmp_path / "pendulum.hdf5", "w") as file:
        file["observations"] = random.normal(size=(200, 3)).astype(np.float32)
        file["actions"] = random.uniform(-1, 1, (200, 1)).astype(np.float32)
        file["rewards"] = random.normal(size=200).astype(np.float32)
        file["terminals"], file["timeouts"] = np.zeros(200, np.bool_), np.arange(200) % 20 == 19
    path, ledger = tmp_path / "task.toml", tmp_path / "runs"
    path.write_text(TASK)
    table = [
        str(ROOT / "orchestration" / "run_table.py"),
        "--task-file",
        str(path),
        "--profile",
        "smoke",
        "--seeds",
        "2",
    ]
    planned = run(*table, "--ledger", str(ledger), "--dry-run")
    assert "table custom, profile smoke" in planned
    assert "eta 2.0" in planned
    told = run(*table, "--ledger", str(ledger))
    assert "| my-pendulum | file, Pendulum-v1 |" in told
    # The ledger knows the task: nothing else needs the file.
    path.unlink()
    runs = list(Ledger.open(ledger).runs())
    assert [one.status for one in runs] == ["finished"] * 2
    assert all(-20 * 16.3 < score < 0 for one in runs for line in one.evaluations() for score in line["returns"])
    evaluated = run(
        *(str(ROOT / "orchestration" / "evaluate.py"), runs[0].run_id, "--episodes", "3", "--ledger", str(ledger))
    )
    assert "environment: Pendulum-v1" in evaluated
    drawn = run(
        *(str(ROOT / "results" / "make_tables.py"), "--table", "custom"),
        *("--ledger", str(ledger), "--out", str(tmp_path / "out")),
    )
    assert "| my-pendulum | file, Pendulum-v1 |" in drawn
