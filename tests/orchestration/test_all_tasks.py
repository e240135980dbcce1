"""The grid at its real shape, 20 tasks by 5 seeds on stand-ins for D4RL's files: killed, filled, asked for again."""

import csv
import glob
import json
import math
import os
import re
import signal
import sqlite3
import statistics
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import psutil
import pytest

from erdp_core.tasks import TABLES
from orchestration.ledger import Ledger
from tests.orchestration.stand_in_data import FILES, write_stand_ins

SCRIPT = Path(__file__).parents[2] / "orchestration" / "run_table.py"
SEEDS, STEPS = 5, [20, 40]
CELLS = len(FILES) * SEEDS
ENVIRONMENTS = {
    "halfcheetah": "HalfCheetah-v4",
    "hopper": "Hopper-v4",
    "walker2d": "Walker2d-v4",
    "antmaze-umaze": "d4rl-antmaze-umaze",
    "antmaze-medium": "d4rl-antmaze-medium",
    "antmaze-large": "d4rl-antmaze-large",
    "pen": "d4rl-pen",
    "kitchen": "FrankaKitchen-v1",
}
"""Where tasks are evaluated on D4RL's data, by the beginnings of their names."""


def environment_of(task: str) -> str:
    return next(environment for beginning, environment in ENVIRONMENTS.items() if task.startswith(beginning))


def command(ledger: Path, *options: str) -> list[str]:
    return [sys.executable, str(SCRIPT), "--ledger", str(ledger), *options]


def variables_for(data: Path, minari: Path) -> dict[str, str]:
    return {**os.environ, "D4RL_DATASET_DIR": str(data), "MINARI_DATASETS_PATH": str(minari)}


def run(
    ledger: Path, *options: str, variables: dict[str, str], timeout: float = 1800
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(ledger, *options), env=variables, capture_output=True, text=True, timeout=timeout,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip


# --- The files ---


def test_stand_ins_are_the_same_bytes_for_the_same_seed(tmp_path: Path) -> None:
    first, again, other = (write_stand_ins(tmp_path / name, seed=seed) for name, seed in (("a", 0), ("b", 0), ("c", 1)))
    assert set(first) == set(TABLES["all"])
    contents = {task: path.read_bytes() for task, path in first.items()}
    assert contents == {task: path.read_bytes() for task, path in again.items()}
    assert len(set(contents.values())) == 20
    assert all(path.read_bytes() != contents[task] for task, path in other.items())


def test_stand_ins_have_d4rls_keys_and_shapes(tmp_path: Path) -> None:
    shapes = {}
    for task, path in write_stand_ins(tmp_path).items():
        with h5py.File(path) as file:
            shapes[task] = {key: file[key].shape for key in ("observations", "actions", "rewards", "terminals")}
            assert ("timeouts" in file) == (not task.startswith("kitchen"))
            assert ("next_observations" in file) == task.endswith("-v2")
            assert file["terminals"].dtype == np.bool_
            if task.startswith("kitchen"):
                assert len(np.unique(file["observations"][:, 30:], axis=0)) == 1
    rows = shapes["hopper-medium-v2"]["observations"][0]
    assert shapes["hopper-medium-v2"]["observations"] == (rows, 11)
    assert shapes["pen-cloned-v1"] == {
        "observations": (rows, 45), "actions": (rows, 24), "rewards": (rows, 1), "terminals": (rows, 1)
    }  # fmt: skip
    assert shapes["pen-human-v1"]["rewards"] == (rows,)


# --- The plan ---


def test_the_plan_of_all_tasks_is_100_runs_with_data_and_without(tmp_path: Path) -> None:
    empty, minari = tmp_path / "empty", tmp_path / "minari"
    bare = run(tmp_path / "runs", "--table", "all", "--dry-run", variables=variables_for(empty, minari))
    assert bare.returncode == 0, bare.stderr
    assert "100 runs (20 tasks x 1 method x 5 seeds): 0 done, 0 to train, 0 failed, 100 without data" in bare.stdout
    gaps = [line for line in bare.stdout.splitlines() if line.startswith("  gap: ")]
    assert len(gaps) == 20
    for line, task in zip(gaps, TABLES["all"], strict=True):
        assert line.startswith(f"  gap: no data for {task} ")
        assert str(empty / FILES[task][0]) in line
        assert f"python -m erdp_core.data download {task}" in line

    write_stand_ins(tmp_path / "data")
    full = run(tmp_path / "runs", "--table", "all", "--dry-run", variables=variables_for(tmp_path / "data", minari))
    assert full.returncode == 0, full.stderr
    assert "100 runs (20 tasks x 1 method x 5 seeds): 0 done, 100 to train, 0 failed, 0 without data" in full.stdout
    assert "gap:" not in full.stdout
    assert not (tmp_path / "runs").exists()


# --- The grid ---


def states(ledger: Path) -> dict[str, dict[str, tuple[int, bytes]]]:
    """Of each finished run: its files, when each was written and what is in it."""
    return {
        done.parent.name: {
            str(path.relative_to(done.parent)): (path.stat().st_mtime_ns, path.read_bytes())
            for path in done.parent.rglob("*")
            if path.is_file()
        }
        for done in ledger.glob("*/finished.json")
    }


def on_their_way(ledger: Path) -> bool:
    """Whether a whole pack has its first checkpoints, and not yet its last."""
    steps: dict[str, set[str]] = {}
    for path in glob.glob(f"{ledger}/*/checkpoints/step-*.pt"):  # where Path.glob would mind folders that vanish
        run_folder, _, name = path.rpartition("/checkpoints/")
        steps.setdefault(run_folder, set()).add(name.split(".")[0])
    return list(steps.values()).count({f"step-{STEPS[0]:09d}"}) >= SEEDS


def killed_halfway(ledger: Path, options: tuple[str, ...], variables: dict[str, str], log: Path) -> None:
    """Start the command; when half of the runs are finished and others are on their way, kill its process group."""
    with open(log, "wb") as output:
        process = subprocess.Popen(
            command(ledger, *options), env=variables, stdout=output, stderr=output, stdin=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
    family: list[psutil.Process] = []
    try:
        deadline = time.monotonic() + 1800
        while len(list(ledger.glob("*/finished.json"))) < CELLS // 2 or not on_their_way(ledger):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.02)
        family = psutil.Process(process.pid).children(recursive=True)
    finally:
        with suppress(ProcessLookupError):  # where it ended by itself, which the loop above tells
            os.killpg(process.pid, signal.SIGKILL)
        # Workers are in groups of their own, and would finish what they are at before they miss the driver.
        for child in family:
            with suppress(psutil.NoSuchProcess):
                child.kill()
        process.wait()
    # Ray's workers end when what started them is gone.
    assert not psutil.wait_procs(family, timeout=60)[1]


class Grid:
    """The whole of it: a call that is killed, a second one that fills the gaps, a third one that has nothing to do."""

    options = ("--table", "all", "--profile", "smoke")

    def __init__(self, folder: Path) -> None:
        self.ledger = folder / "runs"
        write_stand_ins(folder / "data")
        variables = variables_for(folder / "data", folder / "minari")
        killed_halfway(self.ledger, self.options, variables, folder / "first.log")
        self.before = states(self.ledger)
        self.begun = {path.parent.name for path in self.ledger.glob("*/run.json")}
        self.second = run(self.ledger, *self.options, variables=variables)
        self.after = states(self.ledger)
        self.third = run(self.ledger, *self.options, variables=variables)


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Grid:
    return Grid(tmp_path_factory.mktemp("grid"))


@pytest.mark.slow
@pytest.mark.faults
def test_each_of_the_100_runs_is_trained_once(grid: Grid) -> None:
    assert CELLS // 2 <= len(grid.before) < CELLS
    assert grid.second.returncode == 0, grid.second.stderr
    left = CELLS - len(grid.before)
    assert f"100 runs (20 tasks x 1 method x 5 seeds): {len(grid.before)} done, {left} to train" in grid.second.stdout
    assert "started at step 20/40" in grid.second.stderr, "what was on its way goes on from its checkpoint"
    assert not list((grid.ledger / "tune").iterdir()), "the killed call's leftovers"

    runs = list(Ledger.open(grid.ledger).runs())
    assert len(runs) == CELLS
    assert {folder.status for folder in runs} == {"finished"}
    records = [folder.record() for folder in runs]
    assert Counter((record["task"], record["seed"]) for record in records) == Counter(
        (task, seed) for task in FILES for seed in range(SEEDS)
    )
    for folder, record in zip(runs, records, strict=True):
        assert [line["step"] for line in folder.evaluations()] == STEPS
        assert [line["step"] for line in folder.training()] == STEPS
        if folder.run_id in grid.before or folder.run_id not in grid.begun:
            # Not even written and overwritten: only a run that was under way may have a line twice.
            lines = (folder.path / "evaluations.jsonl").read_text().splitlines()
            assert [json.loads(line)["step"] for line in lines] == STEPS
        assert folder.run_id in grid.before or not (folder.path / "checkpoints").exists()
        assert record["environment"]["name"] == environment_of(record["task"])
        assert (record["source"], Path(record["dataset"]["path"]).name) == ("d4rl", FILES[record["task"]][0])
    for run_id, files in grid.before.items():
        assert grid.after[run_id] == files, run_id


@pytest.mark.slow
@pytest.mark.faults
def test_returns_are_what_the_environments_can_pay(grid: Grid) -> None:
    for folder in Ledger.open(grid.ledger).runs():
        task = folder.record()["task"]
        for line in folder.evaluations():
            returns = [*line["returns"], *line["one_candidate"]["returns"]]
            assert len(returns) == 4
            if task.startswith("antmaze"):
                assert set(returns) <= {0.0, 1.0}
            elif task.startswith("kitchen"):
                assert set(returns) <= {0.0, 1.0, 2.0, 3.0, 4.0}
            else:
                assert len(set(returns)) > 1
                assert all(math.isfinite(value) for value in returns)


def measured(printed: str) -> list[str]:
    """The lines of the table that was measured; what papers report, for data of D4RL's, comes after it."""
    own, _, of_papers = printed.partition("**Reported in papers**")
    assert "Reported, not measured here" in of_papers
    return [line for line in own.splitlines() if line.startswith("|")]


@pytest.mark.slow
@pytest.mark.faults
def test_the_table_has_no_gap(grid: Grid) -> None:
    lines = measured(grid.second.stdout)
    assert [line.split("|")[1].strip() for line in lines[2:]] == [*TABLES["all"], "Average of 20 tasks"]
    for line in lines[2:-1]:
        task, where, *scores = (cell.strip() for cell in line.strip("|").split("|"))
        assert where == f"d4rl, {environment_of(task)}"
        assert len(scores) == 2
        assert all(re.fullmatch(r"-?\d+\.\d ± \d+\.\d \(5\)", score) for score in scores), line
    assert "—" not in "".join(lines)
    assert "gap:" not in grid.second.stdout

    [path] = grid.ledger.glob("tables/*/*-table-paper.csv")
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["task"] for row in rows] == [task for task in TABLES["all"] for _ in range(2)]
    assert {(row["method"], row["n"], row["seeds"], row["gap"]) for row in rows} == {("erdp", "5", "0;1;2;3;4", "")}
    runs = {folder.run_id: folder for folder in Ledger.open(grid.ledger).runs()}
    told: list[str] = []
    for row in rows:
        run_ids = row["run_ids"].split(";")
        told += run_ids
        evaluations = [runs[run_id].evaluations() for run_id in run_ids]
        if row["acting"] == "one candidate":
            evaluations = [[line["one_candidate"] for line in lines] for lines in evaluations]
        best = [max(line["score"] for line in lines) for lines in evaluations]
        assert float(row["mean"]) == pytest.approx(statistics.fmean(best))
        assert float(row["std"]) == pytest.approx(statistics.stdev(best))
    assert Counter(told) == Counter(dict.fromkeys(runs, 2))


@pytest.mark.slow
@pytest.mark.faults
def test_mlflow_has_each_run_once_below_its_task(grid: Grid) -> None:
    assert "warning" not in grid.second.stderr
    found: dict[str, dict[str, Any]] = {}
    with closing(sqlite3.connect(grid.ledger / "mlflow.db")) as database:
        for mlflow_id, status in database.execute("select run_uuid, status from runs where lifecycle_stage = 'active'"):
            found[mlflow_id] = {"its status": status}
        for mlflow_id, key, value in database.execute("select run_uuid, key, value from tags"):
            found[mlflow_id][key] = value
        points = database.execute("select run_uuid, step from metrics where key = 'score'").fetchall()
    children = {mlflow_id: tags for mlflow_id, tags in found.items() if "erdp.run_id" in tags}
    parents = {mlflow_id: tags for mlflow_id, tags in found.items() if "erdp.group" in tags} - children.keys()
    assert Counter(tags["erdp.run_id"] for tags in children.values()) == Counter(dict.fromkeys(grid.after, 1))
    assert len(parents) == 20
    assert {tags["its status"] for tags in found.values()} == {"FINISHED"}
    assert Counter(tags["mlflow.parentRunId"] for tags in children.values()) == Counter(dict.fromkeys(parents, SEEDS))
    assert Counter(points) == Counter((mlflow_id, step) for mlflow_id in children for step in STEPS)


@pytest.mark.slow
@pytest.mark.faults
def test_a_third_call_trains_nothing(grid: Grid) -> None:
    assert grid.third.returncode == 0, grid.third.stderr
    assert "100 done, 0 to train" in grid.third.stdout
    assert states(grid.ledger) == grid.after
    tables = [[line for line in call.stdout.splitlines() if line.startswith("|")] for call in (grid.second, grid.third)]
    assert tables[0] == tables[1]


# --- What is missing ---


@pytest.mark.slow
def test_what_has_data_is_trained_and_each_gap_has_one_line(tmp_path: Path) -> None:
    present = "antmaze-umaze-v0"
    write_stand_ins(tmp_path / "data", [present])
    ledger, variables = tmp_path / "runs", variables_for(tmp_path / "data", tmp_path / "minari")
    result = run(ledger, "--table", "antmaze", "--profile", "smoke", variables=variables)
    assert result.returncode == 1, result.stderr
    assert all(line.startswith("[") for line in result.stderr.splitlines()), "progress, and nothing that went wrong"
    assert sorted(folder.record()["task"] for folder in Ledger.open(ledger).runs()) == [present] * SEEDS
    assert {folder.status for folder in Ledger.open(ledger).runs()} == {"finished"}

    missing = [task for task in TABLES["antmaze"] if task != present]
    gaps = [line for line in result.stdout.splitlines() if line.startswith("  gap: ")]
    assert len(gaps) == len(missing) == 5
    for line, task in zip(gaps, missing, strict=True):
        assert line.startswith(f"  gap: no data for {task} ")
        assert str(tmp_path / "data" / FILES[task][0]) in line
        for remedy in (
            f"python -m erdp_core.data download {task}`",
            f"put D4RL's file {FILES[task][0]} into {tmp_path / 'data'}",
            f"python -m erdp_core.data collect {task} --policy FILE`",
            f"--data {task}=FILE",
        ):
            assert remedy in line
    rows = {line.split("|")[1].strip(): line for line in measured(result.stdout) if line.startswith("| antmaze")}
    assert list(rows) == list(TABLES["antmaze"])
    assert [task for task, line in rows.items() if "—" in line] == missing
    assert "(5)" in rows[present]
