"""A pack that does not fit in memory goes on in halves, to the numbers that packs of that size come to."""

from pathlib import Path
from typing import Any

import pytest
import torch

from erdp_core.trainer import Trained, Trainer
from orchestration.ledger import Ledger
from orchestration.pack_work import PackWork
from orchestration.plan import Run
from orchestration.trainable import PackTrainable
from tests.orchestration.made_runs import planned_runs
from tests.small import paying_environment

STEPS, INTERVAL = 12, 4


@pytest.fixture(autouse=True)
def returns_that_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("erdp_core.trainer.make_environment", paying_environment)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.open(tmp_path / "runs", create=True)


@pytest.fixture
def runs(tmp_path: Path) -> list[Run]:
    return planned_runs(tmp_path, range(5), [f"trainer.steps={STEPS}", f"trainer.interval={INTERVAL}"])


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Of a device, in runs; `after` the step at which there is no more than that."""
    limit = {"runs": 5, "after": 0}
    train_interval = Trainer.train_interval

    def crowded(trainer: Trainer) -> Trained:
        if len(trainer.configs) > limit["runs"] and trainer.step >= limit["after"]:
            torch.empty(2**60)  # more than there are addresses: torch's own error
        return train_interval(trainer)

    monkeypatch.setattr(Trainer, "train_interval", crowded)
    return limit


def trainable(ledger: Ledger, runs: list[Run]) -> PackTrainable:
    threads = torch.get_num_threads()
    made = PackTrainable.__new__(PackTrainable)
    made.setup({"pack": 0}, ledger=str(ledger.root), packs=[[run.record() for run in runs]])
    torch.set_num_threads(threads)
    return made


def to_the_end(trainable: PackTrainable) -> list[dict[str, Any]]:
    results = [trainable.step()]
    while not results[-1]["done"]:
        results.append(trainable.step())
    return results


def returns(ledger: Ledger, runs: list[Run]) -> list[list[list[float]]]:
    """Of every evaluation."""
    return [[record["returns"] for record in ledger.run(run.run_id).evaluations()] for run in runs]


def test_halves_are_trained_one_after_the_other(
    ledger: Ledger, runs: list[Run], memory: dict[str, int], tmp_path: Path
) -> None:
    memory["runs"] = 2
    results = to_the_end(trainable(ledger, runs))
    halved = [(result["out_of_memory"], result["parts"]) for result in results if "out_of_memory" in result]
    assert halved == [(5, [3, 2]), (3, [2, 1, 2])]
    steps = [result["step"] for result in results if "step" in result]
    # Of five runs to 12 steps each: two, then one, then two.
    assert steps == [1, 3, 4, 5, 6, 7, 8, 10, 12]
    assert set(results[-1]["scores"]) == {run.run_id for run in runs}
    assert [ledger.run(run.run_id).status for run in runs] == ["finished"] * 5

    other = Ledger.open(tmp_path / "undisturbed", create=True)
    for part in (runs[:2], runs[2:3], runs[3:]):
        work = PackWork(other, part, "cpu")
        while not work.advance().done:
            pass
    assert returns(ledger, runs) == returns(other, runs)


def test_halves_go_on_from_what_the_pack_had_reached(ledger: Ledger, runs: list[Run], memory: dict[str, int]) -> None:
    memory |= {"runs": 3, "after": 2 * INTERVAL}
    results = to_the_end(trainable(ledger, runs))
    assert [result.get("step") for result in results] == [4, 8, None, 10, 12]
    assert all([record["step"] for record in ledger.run(run.run_id).training()] == [4, 8, 12] for run in runs)


def test_another_process_takes_the_parts_up_where_they_are(
    ledger: Ledger, runs: list[Run], memory: dict[str, int]
) -> None:
    memory["runs"] = 3
    first = trainable(ledger, runs)
    assert [first.step().get("step") for _ in range(2)] == [None, 2]  # the first part has an interval behind it
    results = to_the_end(trainable(ledger, runs))
    assert [result["step"] for result in results] == [4, 7, 8, 10, 12]
    assert all([record["step"] for record in ledger.run(run.run_id).training()] == [4, 8, 12] for run in runs)


def test_a_run_that_does_not_fit_alone_is_told(ledger: Ledger, runs: list[Run], memory: dict[str, int]) -> None:
    memory["runs"] = 0
    *halved, last = to_the_end(trainable(ledger, runs[:2]))
    assert [result["out_of_memory"] for result in halved] == [2]
    assert last["problem"] == f"{runs[0].run_id} does not fit in the memory of its device, even alone"


def test_other_errors_are_raised(ledger: Ledger, runs: list[Run], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trainer, "train_interval", lambda trainer: torch.zeros(2, 3) @ torch.zeros(2, 3))
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        trainable(ledger, runs).step()


def test_the_same_process_takes_up_another_pack(ledger: Ledger, runs: list[Run], memory: dict[str, int]) -> None:
    made = trainable(ledger, runs[:3])
    made._packs.append([run.record() for run in runs[3:]])
    memory["runs"] = 2
    to_the_end(made)
    assert made.reset_config({"pack": 1})
    results = to_the_end(made)
    assert set(results[-1]["scores"]) == {run.run_id for run in runs[3:]}
    assert [ledger.run(run.run_id).status for run in runs] == ["finished"] * 5
