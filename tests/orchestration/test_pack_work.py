"""A pack at work on a real ledger: what it leaves, and what it goes on from after damage."""

import dataclasses
import errno
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from erdp_core.errors import DataError
from erdp_core.trainer import Trainer
from orchestration.ledger import Ledger, RunFolder, StorageError
from orchestration.pack_work import PackWork
from orchestration.plan import Run
from tests.orchestration.made_runs import planned_runs, write_data
from tests.small import paying_environment, transitions

STEPS = ("trainer.steps=20", "trainer.interval=4", "agent.ema_from=2")


@pytest.fixture(autouse=True)
def returns_that_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("erdp_core.trainer.make_environment", paying_environment)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.open(tmp_path / "runs", create=True)


@pytest.fixture
def runs(tmp_path: Path) -> list[Run]:
    return planned_runs(tmp_path, [0, 1], STEPS)


def work(ledger: Ledger, runs: list[Run], intervals: int | None = None) -> PackWork:
    """Intervals of a pack, or all that are left."""
    pack = PackWork(ledger, runs, "cpu")
    done = False
    while not done and intervals != 0:
        done = pack.advance().done
        intervals = intervals and intervals - 1
    return pack


def remains(folder: RunFolder) -> list[Any]:
    """What a finished run is, without what the clock says."""
    records = [*folder.evaluations(), *folder.training()]
    for record in records:
        for name in [name for name in record if "second" in name]:
            del record[name]
    policies = [(step, folder.policies.read(step)) for step in folder.policies.steps()]
    return [folder.status, records, policies, json.loads((folder.path / "finished.json").read_text())]


@pytest.fixture
def undisturbed(tmp_path: Path, runs: list[Run]) -> list[list[Any]]:
    other = Ledger.open(tmp_path / "undisturbed", create=True)
    return [remains(folder) for folder in work(other, runs).folders]


def test_a_finished_run_keeps_its_last_and_best_policies_only(ledger: Ledger, runs: list[Run]) -> None:
    pack = work(ledger, runs)
    for folder in pack.folders:
        assert folder.status == "finished"
        evaluations = folder.evaluations()
        assert [record["step"] for record in evaluations] == [4, 8, 12, 16, 20]
        assert [record["step"] for record in folder.training()] == [4, 8, 12, 16, 20]
        best = max(evaluations, key=lambda record: record["score"])["step"]
        assert folder.policies.steps() == sorted({best, 20})
        assert all(folder.policies.read(step) for step in folder.policies.steps())
        assert not (folder.path / "checkpoints").exists()
        assert json.loads((folder.path / "finished.json").read_text()) == {"step": 20, "best_step": best}
        record = folder.record()
        assert Run.from_record(record) in runs
        assert {"torch", "numpy", "mujoco", "python", "device"} <= set(record["versions"])
        assert "git_commit" in record


def test_progress_tells_where_the_pack_is(ledger: Ledger, runs: list[Run]) -> None:
    pack = PackWork(ledger, runs, "cpu")
    for number in range(1, 6):
        progress = pack.advance()
        assert (progress.step, progress.steps, progress.done) == (4 * number, 20, number == 5)
        assert progress.steps_per_second > 0
        assert progress.failures == {}
        assert progress.scores == {folder.run_id: folder.evaluations()[-1]["score"] for folder in pack.folders}
        if number < 5:
            for folder in pack.folders:
                assert folder.checkpoints.steps() == [4 * number - 4, 4 * number][-min(number, 2) :]
                kept = {folder.best_step(until) for until in folder.checkpoints.steps()}
                assert set(folder.policies.steps()) == kept


@pytest.mark.parametrize("intervals", [1, 3])
def test_another_process_goes_on_to_the_same_end(
    ledger: Ledger, runs: list[Run], undisturbed: list[list[Any]], intervals: int
) -> None:
    work(ledger, runs, intervals)
    assert [remains(folder) for folder in work(ledger, runs).folders] == undisturbed


def test_a_stop_on_the_way_leaves_runs_to_go_on_with(
    ledger: Ledger, runs: list[Run], undisturbed: list[list[Any]]
) -> None:
    pack = PackWork(ledger, runs, "cpu", until=8)
    assert [(pack.advance().step, pack.advance().done)] == [(4, True)]
    for folder in pack.folders:
        assert folder.status == "started"
        assert folder.checkpoints.steps() == [4, 8]
    again = PackWork(ledger, runs, "cpu", until=8).advance()
    assert (again.step, again.steps, again.done) == (8, 8, True)
    assert [remains(folder) for folder in work(ledger, runs).folders] == undisturbed


@pytest.mark.parametrize("damaged", [(0,), (1,), (0, 1)])
def test_a_damaged_newest_checkpoint_costs_an_interval_and_no_number(
    ledger: Ledger, runs: list[Run], undisturbed: list[list[Any]], damaged: tuple[int, ...]
) -> None:
    folders = work(ledger, runs, 3).folders
    for index in damaged:
        path = next((folders[index].path / "checkpoints").glob("step-000000012.*"))
        path.write_bytes(path.read_bytes()[:-100])
    pack = PackWork(ledger, runs, "cpu")
    assert pack.trainer is not None
    assert pack.trainer.step == 8
    assert [remains(folder) for folder in work(ledger, runs).folders] == undisturbed


def test_all_checkpoints_damaged_starts_anew(ledger: Ledger, runs: list[Run], undisturbed: list[list[Any]]) -> None:
    for folder in work(ledger, runs, 2).folders:
        for path in (folder.path / "checkpoints").iterdir():
            path.write_bytes(b"")
    assert [remains(folder) for folder in work(ledger, runs).folders] == undisturbed


def without_closing(monkeypatch: pytest.MonkeyPatch, ledger: Ledger, runs: list[Run], closed: int) -> None:
    """Work a pack to its last commit, and stop after closing some of its runs."""
    finish, left = RunFolder.finish, closed

    def stop(folder: RunFolder, record: Any) -> None:
        nonlocal left
        if left == 0:
            raise KeyboardInterrupt
        left -= 1
        finish(folder, record)

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "finish", stop)
        with pytest.raises(KeyboardInterrupt):
            work(ledger, runs)


@pytest.mark.parametrize("closed", [0, 1])
def test_only_the_closing_is_missing(
    ledger: Ledger, runs: list[Run], undisturbed: list[list[Any]], monkeypatch: pytest.MonkeyPatch, closed: int
) -> None:
    """Nothing is trained again, whether the pack comes back whole or without the runs that are finished."""
    without_closing(monkeypatch, ledger, runs, closed)
    assert [ledger.run(run.run_id).status for run in runs].count("finished") == closed

    def refuse(trainer: Trainer) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(Trainer, "run_interval", refuse)
    pack = PackWork(ledger, runs, "cpu")
    progress = pack.advance()
    assert progress.done
    assert progress.step == 20
    assert set(progress.scores) == {run.run_id for run in runs}
    assert [remains(folder) for folder in pack.folders] == undisturbed


def test_a_pack_that_is_done_stays_as_it_is(ledger: Ledger, runs: list[Run], undisturbed: list[list[Any]]) -> None:
    work(ledger, runs)
    again = work(ledger, runs)
    assert [remains(folder) for folder in again.folders] == undisturbed


def test_losing_the_mark_of_the_end_trains_to_the_same_end(
    ledger: Ledger, runs: list[Run], undisturbed: list[list[Any]]
) -> None:
    """Its checkpoints are gone with the closing: it starts anew, alone or not, and comes to the same numbers."""
    for folder in work(ledger, runs).folders:
        (folder.path / "finished.json").unlink()
    assert [remains(folder) for folder in work(ledger, runs).folders] == undisturbed


def fail_second_run(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """The second of a pack's runs fails at a step, as the trainer tells it."""
    run_interval = Trainer.run_interval

    def failing(trainer: Trainer) -> Any:
        intervals = run_interval(trainer)
        if trainer.step >= at and len(intervals) == 2:
            failure = {"step": at, "reason": f"loss not finite at step {at}"}
            intervals[1] = dataclasses.replace(intervals[1], evaluation=None, failure=failure)
        return intervals

    monkeypatch.setattr(Trainer, "run_interval", failing)


def test_a_failed_run_is_named_and_its_companion_finishes(
    ledger: Ledger, runs: list[Run], undisturbed: list[list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_second_run(monkeypatch, at=6)
    pack = PackWork(ledger, runs, "cpu")
    progress = [pack.advance() for _ in range(5)]
    assert [list(each.failures) for each in progress] == [[], *[[runs[1].run_id]] * 4]
    assert progress[-1].failures[runs[1].run_id] == "loss not finite at step 6"
    assert set(progress[-1].scores) == {runs[0].run_id}
    assert progress[-1].done
    well, failed = pack.folders
    assert remains(well) == undisturbed[0]
    assert failed.status == "failed"
    assert failed.failure() == {"step": 6, "reason": "loss not finite at step 6"}
    assert [record["step"] for record in failed.evaluations()] == [4]


def test_a_pack_with_a_failed_run_goes_on_from_its_companions_checkpoint(
    ledger: Ledger, runs: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The failed run's checkpoints stay where it failed: they must not hold the others back."""
    with monkeypatch.context() as patch:
        fail_second_run(patch, at=6)
        work(ledger, runs, 4)
    again = PackWork(ledger, runs, "cpu")
    assert again.trainer is not None
    assert again.trainer.step == 16
    progress = again.advance()
    assert progress.done
    assert progress.failures == {runs[1].run_id: "loss not finite at step 6"}
    assert [folder.status for folder in again.folders] == ["finished", "failed"]


def test_changed_data_are_refused(ledger: Ledger, runs: list[Run], tmp_path: Path) -> None:
    work(ledger, runs, 1)
    data = transitions()
    write_data(tmp_path / "data.hdf5", dataclasses.replace(data, rewards=np.zeros_like(data.rewards)))
    with pytest.raises(DataError, match="data of pointmaze-umaze changed while runs were under way") as error:
        PackWork(ledger, runs, "cpu")
    assert "data.hdf5" in str(error.value)
    assert "\n" not in str(error.value)


def test_what_cannot_be_written_is_the_ledgers_trouble_alone(
    ledger: Ledger, runs: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    pack = work(ledger, runs, 1)
    folder = pack.folders[1].checkpoints.folder
    shutil.rmtree(folder)
    folder.write_text("in the way")
    with pytest.raises(StorageError, match="cannot be used") as error:
        pack.advance()
    assert str(ledger.root) in str(error.value)

    def no_memory(trainer: Trainer) -> None:
        raise OSError(errno.ENOMEM, "no memory for another process")

    monkeypatch.setattr(Trainer, "run_interval", no_memory)
    with pytest.raises(OSError, match="no memory"):
        pack.advance()
