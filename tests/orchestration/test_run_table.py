"""The main command against real Ray, real MLflow and real environments: whole, again, and after kill -9."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest

from erdp_core.data.collect import collect_pointmaze
from erdp_core.tasks import get_task
from orchestration import run_table
from orchestration.ledger import Ledger
from tests.ray_processes import training_processes

SCRIPT = Path(__file__).parents[2] / "orchestration" / "run_table.py"
TASKS = ["pointmaze-umaze", "pointmaze-medium"]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Variables under which two small local collections are found."""
    folder = tmp_path_factory.mktemp("minari")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(folder))
        for task in TASKS:
            collect_pointmaze(get_task(task), rows=800)
    return {**os.environ, "MINARI_DATASETS_PATH": str(folder)}


def arguments(ledger: Path, *more: str) -> list[str]:
    """A command of eight runs, where nothing more is said of tasks, methods and so on."""
    usual = {
        "--table": ["pointmaze"],
        "--profile": ["smoke"],
        "--seeds": ["2"],
        "--tasks": TASKS,
        "--methods": ["erdp,bc-diffusion"],
        "--ledger": [str(ledger)],
    }
    words = [word for option, values in usual.items() if option not in more for word in (option, *values)]
    return [sys.executable, str(SCRIPT), *words, *more]


def run(environment: dict[str, str], command: list[str], timeout: float = 240) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL
    )


def assert_each_run_once(ledger_root: Path, expected: int) -> None:
    """The ledger holds every run finished, MLflow each once, finished, with each step's score once."""
    runs = list(Ledger.open(ledger_root).runs())
    assert [folder.status for folder in runs] == ["finished"] * expected
    database = sqlite3.connect(ledger_root / "mlflow.db")
    tagged = database.execute(
        "select t.value, r.status from tags t join runs r on r.run_uuid = t.run_uuid "
        "where t.key = 'erdp.run_id' and r.lifecycle_stage = 'active'"
    ).fetchall()
    assert Counter(run_id for run_id, _ in tagged) == Counter(folder.run_id for folder in runs)
    assert {status for _, status in tagged} == {"FINISHED"}
    points = database.execute("select run_uuid, step from metrics where key = 'score'").fetchall()
    assert max(Counter(points).values()) == 1
    assert len(points) == sum(len(folder.evaluations()) for folder in runs)


def test_a_table_from_nothing_and_again(environment: dict[str, str], tmp_path: Path) -> None:
    ledger = tmp_path / "runs"
    first = run(environment, arguments(ledger))
    assert first.returncode == 0, first.stderr
    assert "| pointmaze-umaze " in first.stdout
    assert "erdp, 1 candidate" in first.stdout
    assert "mlflow ui --backend-store-uri" in first.stdout
    assert "\x1b" not in first.stdout + first.stderr
    assert_each_run_once(ledger, 8)
    assert not list((ledger / "tune").iterdir())
    drawn = {path.suffix for path in (ledger / "tables").glob("*/*")}
    assert drawn == {".md", ".csv", ".tex", ".png", ".svg"}

    before = {path: path.stat().st_mtime_ns for path in ledger.glob("pointmaze*/**/*") if path.is_file()}
    started = time.monotonic()
    again = run(environment, arguments(ledger))
    assert again.returncode == 0, again.stderr
    assert time.monotonic() - started < 30
    assert "8 done, 0 to train" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert_each_run_once(ledger, 8)
    table = [line for line in first.stdout.splitlines() if line.startswith("|")]
    assert table == [line for line in again.stdout.splitlines() if line.startswith("|")]


def wait_for(condition, process: subprocess.Popen[str], seconds: float = 120) -> None:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "the command ended too early"
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def records(ledger: Path, name: str) -> dict[str, list[dict[str, object]]]:
    """Per run, the records of a file without what a clock decides."""
    found = {}
    for path in sorted(ledger.glob(f"*/{name}")):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        by_step = {line["step"]: line for line in lines}
        found[path.parent.name] = [
            {key: value for key, value in by_step[step].items() if key not in ("seconds", "steps_per_second")}
            for step in sorted(by_step)
        ]
    return found


LONGER = ("--tasks", "pointmaze-umaze", "--set", "trainer.steps=1600", "trainer.interval=200", "evaluation.episodes=1")


@pytest.fixture(scope="module")
def undisturbed(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ledger of a grid that nothing happened to."""
    ledger = tmp_path_factory.mktemp("undisturbed") / "runs"
    result = run(environment, arguments(ledger, *LONGER))
    assert result.returncode == 0, result.stderr
    return ledger


@pytest.mark.parametrize("victim", ["driver", "worker"])
def test_kill_9_loses_an_interval_at_most(
    environment: dict[str, str], tmp_path: Path, undisturbed: Path, victim: str
) -> None:
    ledger = tmp_path / "runs"
    process = subprocess.Popen(
        arguments(ledger, *LONGER), env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    wait_for(lambda: len(list(ledger.glob("*/checkpoints/step-*.pt"))) >= 3, process)
    workers = training_processes(process.pid)
    assert workers
    if victim == "driver":
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        assert not psutil.wait_procs(workers, timeout=60)[1]
        done = {folder.run_id for folder in Ledger(ledger).runs() if folder.status == "finished"}
        assert len(done) < 4
        result = run(environment, arguments(ledger, *LONGER))
        assert result.returncode == 0, result.stderr
        assert f"{len(done)} done, {4 - len(done)} to train" in result.stdout
    else:
        os.kill(workers[0].pid, signal.SIGKILL)
        output, _ = process.communicate(timeout=240)
        assert process.returncode == 0, output
        assert "its process died; it goes on from the ledger" in output
    assert_each_run_once(ledger, 4)
    assert records(ledger, "evaluations.jsonl") == records(undisturbed, "evaluations.jsonl")
    assert records(ledger, "training.jsonl") == records(undisturbed, "training.jsonl")


def test_an_unreachable_tracker_costs_nothing_but_a_warning(environment: dict[str, str], tmp_path: Path) -> None:
    ledger = tmp_path / "runs"
    command = arguments(ledger, "--tasks", "pointmaze-umaze", "--methods", "bc-diffusion", "--seeds", "1")
    result = run(environment, [*command, "--tracking-uri", "http://127.0.0.1:9"])
    assert result.returncode == 0, result.stderr
    assert "warning: MLflow does not have everything" in result.stderr
    assert f"python -m orchestration.tracking --ledger {ledger} --tracking-uri http://127.0.0.1:9" in result.stderr
    assert [folder.status for folder in Ledger.open(ledger).runs()] == ["finished"]
    fill = [sys.executable, "-m", "orchestration.tracking", "--ledger", str(ledger)]
    filled = run(environment, [*fill, "--tracking-uri", f"sqlite:///{ledger}/mlflow.db"])
    assert filled.returncode == 0, filled.stderr
    assert_each_run_once(ledger, 1)


def test_an_interrupt_ends_it_and_the_same_command_goes_on(environment: dict[str, str], tmp_path: Path) -> None:
    """An exit status of 0 would say that the table is complete."""
    ledger, long = tmp_path / "runs", ("trainer.steps=4000", "trainer.interval=400")
    command = arguments(ledger, "--tasks", "pointmaze-umaze", "--methods", "bc-diffusion", "--set", *long)
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as process:
        assert "started at step 0" in next(line for line in process.stderr or () if "started" in line)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=240)
    assert process.returncode == 130, errors
    assert errors.splitlines()[-1] == "stopped: the same command goes on from what is done"
    assert "finished" not in [folder.status for folder in Ledger.open(ledger).runs()]
    filled = run(environment, command)
    assert filled.returncode == 0, filled.stderr
    assert_each_run_once(ledger, 2)


def test_dry_run_and_help_are_quick_and_start_nothing(environment: dict[str, str], tmp_path: Path) -> None:
    ledger = tmp_path / "runs"
    for more, expected in ((["--dry-run"], "8 to train"), (["--help"], "--dry-run")):
        started = time.monotonic()
        result = run({**environment, "RAY_ADDRESS": "must-not-be-used"}, arguments(ledger, *more))
        assert time.monotonic() - started < 10
        assert result.returncode == 0, result.stderr
        assert expected in result.stdout
    assert not ledger.exists()
    probed = run(environment, arguments(ledger, "--dry-run", "--probe", "--tasks", "pointmaze-umaze"))
    assert "(measured)" in probed.stdout, probed.stderr


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--table", "pointmase"], "did you mean 'pointmaze'?"),
        (["--tasks", "pointmaze-umase"], "did you mean 'pointmaze-umaze'?"),
        (["--methods", "erpd"], "did you mean 'erdp'?"),
        (["--methods", "IQL"], "did you mean 'iql'?"),
        (["--profile", "quik"], "did you mean 'quick'?"),
        (["--protocol", "pape"], "did you mean 'paper'?"),
        (["--source", "locl"], "did you mean 'local'?"),
        (["--seeds", "0"], "--seeds takes a number of seeds"),
        (["--set", "agent.alfa=1"], "did you mean 'agent.alpha'?"),
        (["--set", "agent.alpha=much"], "agent.alpha='much' is not of type float"),
        (["--set", "agent.M=0"], "agent.M=0 is outside [1, 1024]"),
        (["--set", "agent.T=2"], "agent.entropy=released needs agent.T >= 3, but agent.T=2"),
        (["--set", "trainer.steps=30"], "trainer.steps=30 is not a multiple of trainer.interval=20"),
        (["--set", "agent.alpha"], "--set takes KEY=VALUE"),
        (["--set", "agent.alpha=1", "agent.alpha=2"], "--set gives agent.alpha twice"),
        (
            ["--methods", "bc-diffusion", "--set", "agent.alpha=1"],
            "agent.alpha is a setting of erdp, gaussian-ensemble, not of bc-diffusion",
        ),
        (["--tasks", ","], "--tasks names no task"),
        (["--ledger", "x" * 300], "cannot be used"),
        (["--data", "pointmaze-umaze"], "--data takes TASK=FILE"),
        (["--data", "hopper-medium-v2=x.hdf5"], "not among the tasks to run"),
        (["--data", "pointmaze-umaze=/nowhere.hdf5"], "/nowhere.hdf5"),
        (["--evaluate-in", "pointmaze-umaze"], "--evaluate-in takes TASK=ENVIRONMENT"),
        (["--evaluate-in", "pointmaze-umaze=Hoper-v5"], "unknown environment 'Hoper-v5': the nearest are Hopper-v5, "),
        (["--evaluate-in", "pointmaze-umaze=Hopper-v5"], "but those of Hopper-v5 are of size 11"),
        (["--evaluate-in", "pointmaze-large=pointmaze-umaze"], "not among the tasks to run"),
        (["--task-file", "nowhere.toml"], "no task file nowhere.toml"),
        (["--tracking-uri", "nonsense"], "no tracking URI"),
        (["--address", "127.0.0.1:1"], "no Ray cluster at --address 127.0.0.1:1"),
        (["--address", "auto"], "no Ray cluster at --address auto"),
        (["--address", "junk"], "--address takes local, auto or HOST:PORT"),
        (["--bogus"], "unrecognized arguments: --bogus"),
    ],
)
def test_bad_usage_is_one_line_and_status_2(
    environment: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    message: str,
) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", environment["MINARI_DATASETS_PATH"])
    try:
        status = run_table.main(arguments(tmp_path / "runs", *more)[2:])
    except SystemExit as leaving:
        status = leaving.code  # argparse's own way out
    error = capsys.readouterr().err
    assert status == 2, error
    assert message in error
    assert len(error.strip().splitlines()) == 1


def test_a_table_must_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_table.main([]) == 2
    assert capsys.readouterr().err.startswith("error: name a table with --table: pointmaze, gym, antmaze, ")


def test_missing_data_is_a_visible_gap_and_status_1(environment: dict[str, str], tmp_path: Path) -> None:
    command = arguments(tmp_path / "runs", "--tasks", "pointmaze-large", "--seeds", "1")
    result = run(environment, command)
    assert result.returncode == 1
    assert "gap: no data for pointmaze-large" in result.stdout
    assert "python -m erdp_core.data collect pointmaze-large" in result.stdout
    assert "—" in result.stdout


ANOTHER_DRIVER = """
import ray, sys
print(ray.init("local", num_cpus=1).address_info["gcs_address"], flush=True)
sys.stdin.read()
"""


def test_a_cluster_is_joined_by_its_address_and_never_found_by_chance(
    environment: dict[str, str], tmp_path: Path
) -> None:
    """That of another driver, which ends with it, is there all the while; its token is in the home folder."""
    alone = {**environment, "RAY_TMPDIR": str(tmp_path), "RAY_AUTH_MODE": "token"}
    command = arguments(tmp_path / "runs", "--tasks", "pointmaze-umaze", "--methods", "bc-diffusion", "--address")
    with subprocess.Popen(
        [sys.executable, "-c", ANOTHER_DRIVER],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        address = other.stdout.readline().strip()
        assert address
        refused = run(alone, [*command, "auto"])
        joined = run({**alone, "RAY_ADDRESS": address}, [*command, "auto"])
        again = run(alone, [*command, address])
        other.stdin.close()
    assert refused.returncode == 2, refused.stdout
    assert refused.stderr.startswith("error: no Ray cluster at --address auto: none was begun with `ray start`")
    assert joined.returncode == 0, joined.stderr
    assert (again.returncode, again.stdout.count("2 done, 0 to train")) == (0, 1), again.stderr
    assert_each_run_once(tmp_path / "runs", 2)
