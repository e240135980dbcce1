"""The search for alpha against real Ray, real MLflow and real environments: whole, after kill -9, and its mistakes."""

import contextlib
import io
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from erdp_core import hyperparameters
from erdp_core.data.collect import collect_pointmaze
from erdp_core.errors import UserError
from erdp_core.tasks import get_task
from orchestration import run_table
from orchestration.cluster import joined
from orchestration.ledger import Ledger
from results.study_figures import write_study_figure
from sweeps import tune_alpha
from tests.ray_processes import training_processes

SCRIPT = Path(__file__).parents[2] / "sweeps" / "tune_alpha.py"
SMALL = ("--tasks", "pointmaze-umaze", "--profile", "smoke", "--set", "trainer.steps=60")
USUAL = (*SMALL, "--trials", "3", "--batch", "2", "--seeds", "2", "--tuning-seeds", "100,101")


@pytest.fixture(scope="module", autouse=True)
def _data_and_ray(tmp_path_factory: pytest.TempPathFactory) -> object:
    """Small data, and one start of Ray for all searches of this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(tmp_path_factory.mktemp("minari")))
        collect_pointmaze(get_task("pointmaze-umaze"), rows=800)
        with joined("local"):  # whose workers have the environment as it is now
            yield


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The ledger of a search made whole, after a table that has the default's runs; and what it printed."""
    root = tmp_path_factory.mktemp("searched") / "runs"
    assert run_table.main(["--table", "pointmaze", *SMALL, "--seeds", "2", "--ledger", str(root)]) == 0
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert tune_alpha.main([*USUAL, "--ledger", str(root)]) == 0
    return root, printed.getvalue()


def trials_of(root: Path) -> list[dict[str, Any]]:
    ledger = Ledger.open(root)
    [name] = ledger.studies()
    found: list[dict[str, Any]] = ledger.study(name)["trials"]
    return found


def test_a_search_whole_and_again(searched: tuple[Path, str], capsys: pytest.CaptureFixture[str]) -> None:
    root, printed = searched
    trials = trials_of(root)
    assert trials[0]["settings"] == ["agent.alpha=0.01"]
    assert len({tuple(trial["settings"]) for trial in trials}) == len(trials) == 3
    assert re.search(r"3 trials: 3 finished, 0 given up, 0 failed", printed)
    # Two seeds a trial, three evaluations of two episodes each.
    assert "the search took 36 episodes of evaluation" in printed
    # The default's runs with the seeds for reporting are the table's.
    done, missing = map(int, re.search(r"seeds\): (\d) done, (\d) to train", printed).groups())  # type: ignore[union-attr]
    assert (done, missing) in ((2, 0), (2, 2))
    assert "with seeds 0, 1, which the search never saw:" in printed
    ledger = Ledger.open(root)
    seeds = {run.record()["seed"] for run in ledger.runs()}
    assert seeds == {0, 1, 100, 101}
    database = sqlite3.connect(root / "mlflow.db")
    [(count,)] = database.execute("select count(distinct value) from tags where key = 'erdp.run_id'").fetchall()
    assert count == len(list(ledger.runs()))
    [name] = ledger.studies()
    pictures = sorted(path.name for path in (root / "tables" / name).iterdir())
    assert f"{name}-search.png" in pictures
    assert f"{name}-table-last-k.md" in pictures

    assert tune_alpha.main([*USUAL, "--ledger", str(root)]) == 0  # nothing is left to do
    again = capsys.readouterr()
    assert trials_of(root) == trials
    assert "started at step" not in again.err
    assert [line for line in again.out.splitlines() if line.startswith(("best:", "  gain:"))] == [
        line for line in printed.splitlines() if line.startswith(("best:", "  gain:"))
    ]


@pytest.mark.slow
@pytest.mark.faults
def test_a_killed_search_goes_on_to_the_same_trials(searched: tuple[Path, str], tmp_path: Path) -> None:
    (whole, _), killed = searched, tmp_path / "killed"
    driver = subprocess.Popen(
        [sys.executable, str(SCRIPT), *USUAL, "--ledger", str(killed)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert driver.stderr is not None
    for line in driver.stderr:
        if "finished" in line:  # the first rung
            break
    workers = training_processes(driver.pid)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait(10)
    assert not psutil.wait_procs(workers, timeout=60)[1]
    assert tune_alpha.main([*USUAL, "--ledger", str(killed)]) == 0

    def timeless(root: Path) -> list[dict[str, Any]]:
        return [{**trial, "hours": None} for trial in trials_of(root)]

    assert timeless(killed) == timeless(whole)
    assert {run.run_id for run in Ledger.open(killed).runs()} == {run.run_id for run in Ledger.open(whole).runs()}


def test_what_was_given_up_is_a_gap_and_killed_in_mlflow(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "runs"
    monkeypatch.setattr(tune_alpha.Study, "is_hopeless", lambda self, proposal: proposal.trial.number == 1)
    assert (
        tune_alpha.main([*SMALL, "--trials", "2", "--seeds", "2", "--tuning-seeds", "100,101", "--ledger", str(root)])
        == 0
    )
    printed = capsys.readouterr().out
    assert re.search(r"trial 1, alpha = [\d.]+: given up at step 20 with", printed)
    [name] = Ledger.open(root).studies()
    text = (root / "tables" / name / f"{name}-table-last-k.md").read_text()
    assert "given up at step 20 of 60" in text
    database = sqlite3.connect(root / "mlflow.db")
    statuses = [status for (status,) in database.execute("select status from runs").fetchall()]
    assert statuses.count("KILLED") == 3  # two seeds and their group
    assert "RUNNING" not in statuses


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tasks", "pointmaze-umaze", "--seeds", "0,100"], "--tuning-seeds and of --seeds at once: 100"),
        (["--tasks", "pointmaze-umaze", "--tuning-seeds", "3"], "at once: 0, 1, 2"),
        (["--tasks", "pointmaze-umaze", "--tuning-seeds", "x"], "--tuning-seeds takes a number of seeds"),
        (["--tasks", "pointmaze-umaze", "--set", "agent.alpha=0.1"], "is what the search varies"),
        (["--tasks", "pointmaze-umaze", "--trials", "0"], "--trials 0 is less than 1"),
        (["--tasks", "pointmaze-umaze", "--method", "edrp"], "did you mean 'erdp'"),
        (["--tasks", "pointmaze-umaze", "--storage", "sqlite:///x.db"], "SQLite is not made for several drivers"),
        (["--tasks", "pointmaze-medium"], "no data for pointmaze-medium"),
        (["--tasks", "pointmaze-umaze", "hopper-medium-v2", "--profile", "quick"], "search them apart"),
        ([], "name the tasks of the search with --tasks"),
    ],
)
def test_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    assert tune_alpha.main([*arguments, "--ledger", str(tmp_path / "runs")]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1


def test_tasks_of_different_defaults_are_searched_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(hyperparameters.ERDP, "gym", {**hyperparameters.ERDP["gym"], "eta": 0.5})  # type: ignore[index]
    tasks = ["--tasks", "pointmaze-umaze", "hopper-medium-v2", "--space", "agent.eta=0.1:1"]
    same_steps = ["--set", "trainer.steps=40", "trainer.interval=20"]
    assert tune_alpha.main([*tasks, *same_steps, "--profile", "smoke", "--ledger", str(tmp_path / "runs")]) == 2
    message = "error: the default of agent.eta is 1 for pointmaze-umaze, 0.5 for hopper-medium-v2: search them apart\n"
    assert capsys.readouterr().err == message


def test_a_search_is_named_by_its_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = set()
    for rows in (800, 900):
        collect_pointmaze(get_task("pointmaze-large"), rows=rows, overwrite=True)
        arguments = ["--tasks", "pointmaze-large", "--profile", "smoke", "--dry-run"]
        assert tune_alpha.main([*arguments, "--ledger", str(tmp_path / "runs")]) == 0
        names |= {re.search(r"search (\S+):", capsys.readouterr().out).group(1)}  # type: ignore[union-attr]
    assert len(names) == 2


def test_a_search_that_is_complete_elsewhere_is_compared_from_its_storage(
    searched: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    root, _ = searched
    [name] = Ledger.open(root).studies()
    (root / "plans" / f"{name}.json").unlink()
    assert tune_alpha.main([*USUAL, "--ledger", str(root)]) == 0
    assert "the search took 36 episodes of evaluation" in capsys.readouterr().out


def test_a_dry_run_trains_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tune_alpha.main([*USUAL, "--ledger", str(tmp_path / "runs"), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "3 trials of 2 runs each" in printed
    assert "given up below the median at steps 20, 40" in printed
    assert "from arithmetic" in printed
    assert not (tmp_path / "runs").exists()
    assert tune_alpha.main([*USUAL, "--ledger", str(tmp_path / "runs"), "--dry-run", "--probe"]) == 0
    assert "(measured" in capsys.readouterr().out


def test_a_damaged_record_is_told_in_one_line(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / "runs", create=True)
    ledger.write_study("broken", {"space": [{}], "trials": [], "caption": [], "importances": {}, "default": {}})
    with pytest.raises(UserError, match="is damaged: run the search again"):
        write_study_figure(ledger, "broken", tmp_path)
    (tmp_path / "runs" / "studies" / "torn.json").write_text(json.dumps({"space": []})[:5])
    with pytest.raises(UserError, match="is damaged"):
        ledger.study("torn")
