"""Neither memory nor files of a run grow with its steps."""

import ctypes
import gc
from pathlib import Path

import psutil
import pytest

from orchestration.ledger import Ledger
from orchestration.pack_work import KEPT_CHECKPOINTS, PackWork
from tests.orchestration.made_runs import planned_runs
from tests.small import paying_environment

STEPS, INTERVAL, SETTLED = 20_000, 1_000, 5
ALLOWED = 2 * 2**20
"""Bytes that the allocator's own books may shift by; eight numbers kept a step would be twice as much."""


def memory() -> int:
    """Bytes that the process holds."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    return int(psutil.Process().memory_info().rss)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["erdp", "bc-diffusion"])
def test_twenty_thousand_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    monkeypatch.setattr("erdp_core.trainer.make_environment", paying_environment)
    runs = planned_runs(tmp_path, [0, 1], [f"trainer.steps={STEPS}", f"trainer.interval={INTERVAL}"], method)
    work = PackWork(Ledger.open(tmp_path / "runs", create=True), runs, "cpu")
    held, sizes_on_disk = [], []
    while not work.advance().done:
        held.append(memory())
        [folder, _] = work.folders
        assert len(list((folder.path / "checkpoints").iterdir())) <= KEPT_CHECKPOINTS
        records = ("training.jsonl", "evaluations.jsonl")
        written = sum(
            path.stat().st_size for path in folder.path.rglob("*") if path.is_file() and path.name not in records
        )
        sizes_on_disk.append(written)
    assert len(held) == STEPS // INTERVAL - 1
    assert held[-1] - held[SETTLED] < ALLOWED, held
    assert max(sizes_on_disk[SETTLED:]) <= 1.05 * max(sizes_on_disk[:SETTLED]), sizes_on_disk
    for folder in work.folders:
        assert [record["step"] for record in folder.training()] == list(range(INTERVAL, STEPS + 1, INTERVAL))
        assert sum(path.stat().st_size for path in folder.path.glob("*.jsonl")) < 1000 * STEPS // INTERVAL
