"""The local database is there whole or not at all."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from orchestration.ledger import Ledger
from orchestration.tracker import TrackerError
from tests.orchestration.tracked_ledger import all_runs, start, sync, train

SYNC = """
import sys
from orchestration.ledger import Ledger
from tests.orchestration.tracked_ledger import sync
sync(Ledger.open(sys.argv[1]))
"""


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """A ledger with a run, and no tracker yet."""
    ledger = Ledger.open(tmp_path / "runs", create=True)
    run = start(ledger, 0)
    train(run, [10.0])
    run.finish({})
    return ledger


def syncing(ledger: Ledger) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", SYNC, str(ledger.root)], cwd=Path(__file__).parents[2])


@pytest.mark.parametrize("size", [0, 300_000, 500_000, 700_000])
def test_a_maker_killed_leaves_a_database_that_can_be_used(ledger: Ledger, size: int) -> None:
    """Killed once the file has a size on its way to about 900 kB."""
    path = ledger.root / "mlflow.db"
    process = syncing(ledger)
    deadline = time.monotonic() + 60
    while not path.exists() or path.stat().st_size < size:
        assert process.poll() is None, "it ended before the file had that size"
        assert time.monotonic() < deadline
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    sync(ledger)
    assert len(all_runs(ledger)) == 2


def test_two_makers_at_once(ledger: Ledger) -> None:
    makers = [syncing(ledger), syncing(ledger)]
    assert [maker.wait(60) for maker in makers] == [0, 0]
    sync(ledger)
    assert {run.data.tags.get("erdp.run_id") for run in all_runs(ledger)} >= {"pointmaze-umaze.erdp.seed0.0.01"}


def test_a_file_that_is_no_database_stays_as_it_is(ledger: Ledger) -> None:
    path = ledger.root / "mlflow.db"
    path.write_bytes(b"something else" * 100)
    with pytest.raises(TrackerError, match="file is not a database"):
        sync(ledger)
    assert path.read_bytes() == b"something else" * 100
