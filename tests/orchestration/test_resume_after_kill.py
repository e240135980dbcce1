"""kill -9 at 20 seeded instants: what comes out in the end is, to the bit, what an undisturbed pack comes to."""

import collections
import json
import os
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import pytest

from orchestration.ledger import Ledger
from tests.small import transitions

pytestmark = pytest.mark.faults
ROOT = Path(__file__).parents[2]
INTERVALS, SEEDS = 20, 2
# An evaluation is 2 episodes of 60 decisions at most, twice (with 4 candidates and with one), for each of 2 runs.
STEPS_OF_AN_EVALUATION = 2 * 60 * 2 * SEEDS


def write_data(path: Path) -> None:
    data = transitions(120)
    with h5py.File(path, "w") as file:
        for name in ("observations", "actions", "rewards", "terminals"):
            file[name] = getattr(data, name)


def instants(seed: int) -> list[tuple[str, int, int]]:
    """Twenty deaths: a kind, a number and the interval of a life, half of them after an interval that succeeds."""
    draw = random.Random(seed)
    # A file passes four instants as it is written, a pack of two writes two checkpoints an interval.
    deaths = [("checkpoint", draw.randint(1, 8), 1 + number % 2) for number in range(6)]
    deaths += [("evaluation", draw.randint(1, STEPS_OF_AN_EVALUATION), 1 + number % 2) for number in range(5)]
    deaths += [("record", draw.randint(1, 4), 1 + number % 2) for number in range(3)]
    deaths += [("timer", draw.randint(1, 150), 1) for _ in range(5)]
    draw.shuffle(deaths)
    # Only the first evaluation is the best so far for certain, and its policy written.
    return [("policy", draw.randint(1, 4), 1), *deaths]


def finished_pack(root: Path) -> dict[str, Any]:
    """Everything that a pack leaves behind, without what the clock says."""
    found: dict[str, Any] = {}
    for run in Ledger.open(root).runs():
        assert run.status == "finished"
        for kind, records in {"evaluations": run.evaluations(), "training": run.training()}.items():
            for record in records:
                for name in [name for name in record if "second" in name]:
                    del record[name]
            found[f"{run.run_id} {kind}"] = records
        policies = {path.name: path.read_bytes() for path in sorted((run.path / "policies").iterdir())}
        found[f"{run.run_id} policies"] = policies
        found[f"{run.run_id} finished"] = json.loads((run.path / "finished.json").read_text())
        assert not (run.path / "checkpoints").exists()
    return found


def worked(tmp_path: Path, plan: Sequence[tuple[str, int, int] | None]) -> list[list[str]]:
    """Start the process whose children die as planned; what became of each."""
    write_data(tmp_path / "data.hdf5")
    command = [sys.executable, str(Path(__file__).with_name("killed_worker.py"))]
    command += [str(tmp_path), str(tmp_path / "data.hdf5"), json.dumps(plan)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    outcomes: list[list[str]] = json.loads(result.stdout)
    return outcomes


def test_killed_twenty_times_the_numbers_are_those_of_an_undisturbed_pack(tmp_path: Path) -> None:
    # The last deaths are of a pack that closes its runs, each after one more of them is finished.
    plan = [*instants(seed=20), ("closing", 1, 1), ("closing", 1, 1), None]
    outcomes = worked(tmp_path, plan)
    struck = collections.Counter(kind for kind, _, _ in outcomes)
    assert struck["checkpoint"] >= 5, outcomes
    assert struck["evaluation"] >= 5, outcomes
    assert struck["closing"] == 2, outcomes
    assert sum(struck.values()) - struck["alive"] >= 20, outcomes
    assert outcomes[-1][0] == "alive"
    # The lives went on from one another's checkpoints, all through the run.
    steps = [int(step) for _, _, step in outcomes if step]
    assert steps == sorted(steps), outcomes
    assert len(set(steps)) >= 8, outcomes

    undisturbed, disturbed = finished_pack(tmp_path / "undisturbed"), finished_pack(tmp_path / "disturbed")
    assert len(undisturbed) == 4 * SEEDS
    returns = {
        value
        for name, records in undisturbed.items()
        if name.endswith("evaluations")
        for record in records
        for value in record["returns"]
    }
    assert len(returns) == INTERVALS * SEEDS * 2, "returns that do not differ compare nothing"
    assert disturbed.keys() == undisturbed.keys()
    for name, value in undisturbed.items():
        assert disturbed[name] == value, name
