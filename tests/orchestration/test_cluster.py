"""What drivers learn from the cluster they joined: measured steps, and packs that were too large."""

import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import ray
from rich.console import Console

from orchestration import cluster
from orchestration.grid import Grid
from orchestration.ledger import Ledger
from orchestration.packing import Pack
from orchestration.progress import Progress
from orchestration.tracking import BackgroundTracker
from tests.orchestration.made_runs import made_run
from tests.small import small_config


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.open(tmp_path / "runs", create=True)


@pytest.fixture
def grid(ledger: Ledger, tmp_path: Path) -> Iterator[Grid]:
    with open(tmp_path / "terminal", "w") as file, Progress(4, 0, 1.0, console=Console(file=file)) as progress:
        yield Grid(ledger, progress, cast(BackgroundTracker, SimpleNamespace(sync=lambda run_ids: None)))


def told(tmp_path: Path) -> list[str]:
    return [line.partition("] ")[2] for line in (tmp_path / "terminal").read_text().splitlines()]


def test_workers_measure_what_the_ledger_does_not_know(
    ledger: Ledger, grid: Grid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    runs = [made_run(seed, small_config(f"agent.M={M}")) for M in (2, 3) for seed in range(2)]
    with cluster.joined("local") as resources:
        with cluster.joined("local") as within:
            assert within == resources
        assert ray.is_initialized()  # an inner one ends nothing
        costs = cluster.measured_costs(runs, ledger, "cpu", 1, grid)
        assert all(costs.knows(runs[start : start + 2]) for start in (0, 2))
        again = cluster.measured_costs(runs, ledger, "cpu", 1, grid)
    assert not ray.is_initialized()
    assert [again.measured(run) for run in runs] == [costs.measured(run) for run in runs]
    # Once, and not again.
    assert len(told(tmp_path)) == 1
    assert re.fullmatch(r"timing steps of 2 shapes on \S+, to choose packs by", told(tmp_path)[0])


def test_a_pack_that_was_too_large_is_told_and_remembered(grid: Grid, tmp_path: Path) -> None:
    pack = Pack(tuple(made_run(seed) for seed in range(5)), 1.0)
    report = cluster._Report([pack], grid)
    trial = cast(Any, SimpleNamespace(config={"pack": 0}))
    report.on_trial_start(0, [], trial)
    report.on_trial_result(1, [], trial, {"out_of_memory": 5, "parts": [3, 2], "done": False})
    assert report.too_many == [(pack, 5)]
    assert not report.problems
    name = "pointmaze-umaze erdp seeds 0,1,2,3,4"
    assert told(tmp_path)[-1] == f"{name}: out of memory with 5 runs at once; goes on with 3, then 2"
