"""MLflow beside the training: nothing waits for it, and what it missed is filled in later."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from orchestration.ledger import Ledger
from orchestration.tracking import BackgroundTracker, default_uri, fill_command, main
from tests.orchestration.tracked_ledger import all_runs, child, history, new_ledger, plan, start, train


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return new_ledger(tmp_path)


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@pytest.fixture
def silent_server() -> Iterator[str]:
    """Takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_tracker_that_is_away_is_filled_later(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    run = start(ledger, 0)
    train(run, [1.0, 2.0])
    run.finish({})
    plan(ledger, "pointmaze-smoke-1", [run])
    (ledger.root / "tables" / "pointmaze-smoke-1").mkdir(parents=True)
    (ledger.root / "tables" / "pointmaze-smoke-1" / "table.md").write_text("drawn")

    uri = f"http://127.0.0.1:{closed_port()}"
    tracker = BackgroundTracker(ledger, uri)
    began = time.monotonic()
    tracker.sync([run.run_id])
    tracker.log_artifacts("pointmaze-smoke-1", "pointmaze", [])
    assert time.monotonic() - began < 0.1
    problem = tracker.close(20)
    assert time.monotonic() - began < 10
    assert problem is not None
    assert "\n" not in problem
    assert "Connection refused" in problem
    assert fill_command(ledger, uri) in problem
    assert tracker.compare_link([run.run_id]) is None

    options = ["--ledger", str(ledger.root), "--tracking-uri"]
    assert main([*options, uri]) == 2
    told = capsys.readouterr()
    assert told.err.startswith(f"error: the MLflow tracker {uri} cannot be used")
    assert told.err.count("\n") == 1
    for _ in range(2):
        assert main([*options, default_uri(ledger)]) == 0
        told = capsys.readouterr()
        assert "the 1 run of" in told.out
        assert told.err == ""
    assert history(ledger, child(ledger, run), "score") == [(20, 1.0), (40, 2.0)]
    assert len(all_runs(ledger)) == 3


def test_a_silent_server_costs_seconds(ledger: Ledger, silent_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    run = start(ledger, 0)
    tracker = BackgroundTracker(ledger, silent_server)
    began = time.monotonic()
    tracker.sync([run.run_id])
    problem = tracker.close(0.2)
    assert time.monotonic() - began < 1
    assert problem is not None
    assert "not done after 0.2 s" in problem
    problem = tracker.close(20)
    assert time.monotonic() - began < 8
    assert problem is not None
    assert "timed out" in problem


def test_a_silent_server_does_not_hold_the_exit_up(ledger: Ledger, silent_server: str) -> None:
    start(ledger, 0)
    program = (
        "import sys, time; from orchestration.ledger import Ledger; from orchestration.tracking import *\n"
        f"ledger = Ledger({str(ledger.root)!r}); tracker = BackgroundTracker(ledger, {silent_server!r})\n"
        "tracker.sync([run.run_id for run in ledger.runs()]); began = time.monotonic()\n"
        "while 'mlflow.tracking' not in sys.modules and time.monotonic() - began < 60: time.sleep(0.05)\n"
        "time.sleep(1); print(tracker.close(0.5) is not None, time.monotonic())\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=90)
    assert ended.returncode == 0
    assert ended.stderr == ""
    reported, at = ended.stdout.split()
    assert reported == "True"
    assert time.monotonic() - float(at) < 3


def test_in_the_background_all_is_logged_at_the_end(ledger: Ledger) -> None:
    runs = [start(ledger, seed) for seed in (0, 1)]
    ids = [run.run_id for run in runs]
    tracker = BackgroundTracker(ledger, default_uri(ledger))
    for number in range(4):
        for run in runs:
            train(run, [float(number)])
            tracker.sync([run.run_id])
    for run in runs:
        run.finish({})
    tracker.sync(ids)
    assert tracker.close(30) is None
    assert tracker.problem is None
    for run in runs:
        assert [step for step, _ in history(ledger, child(ledger, run), "score")] == [20, 40, 60, 80]
        assert child(ledger, run).info.status == "FINISHED"
    assert tracker.compare_link(ids) is not None


def test_what_failed_is_tried_again(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    run = start(ledger, 0)
    create_run = MlflowClient.create_run
    refused: list[object] = []

    def refuse_once(*arguments: Any, **options: Any) -> Run:
        if not refused:
            refused.append(arguments)
            raise MlflowException("busy")
        return create_run(*arguments, **options)

    monkeypatch.setattr(MlflowClient, "create_run", refuse_once)
    tracker = BackgroundTracker(ledger, default_uri(ledger))
    tracker.sync([run.run_id])
    deadline = time.monotonic() + 20
    while tracker.problem is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert tracker.problem is not None
    assert "busy" in tracker.problem
    assert tracker.close(20) is None
    assert child(ledger, run).info.status == "RUNNING"


def test_help_is_quick_and_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = "import sys; from orchestration.tracking import main\ntry: main(['--help'])\nfinally: print(*sys.modules)"
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert "  python -m orchestration.tracking" in output
    assert "mlflow" not in output.splitlines()[-1].split()
    assert main(["--ledger", str(tmp_path / "nowhere")]) == 2
    assert capsys.readouterr().err.startswith("error: no ledger at")
    with pytest.raises(SystemExit, match="2"):
        main(["--lodger", "x"])
    assert capsys.readouterr().err.startswith("error: ")


def test_runs_of_an_earlier_version_are_logged_as_they_are(tmp_path: Path) -> None:
    """They say less of themselves."""
    ledger = new_ledger(tmp_path)
    run = start(ledger, 0)
    record = json.loads((run.path / "run.json").read_text())
    for name in ("definition", "reference_scores", "rewards", "step_limit"):
        del record[name]
    (run.path / "run.json").write_text(json.dumps(record))
    assert main(["--ledger", str(ledger.root)]) == 0
