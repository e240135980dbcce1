"""The trainer: resumable at each interval's end to the same bits, complete records, failures that stay alone."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from erdp_core.agent_configs import METHODS
from erdp_core.algorithms import Batch, Noise
from erdp_core.config import RunConfig
from erdp_core.data.transitions import Dataset, Transitions
from erdp_core.errors import DataError
from erdp_core.tasks import EnvironmentSpec, get_task
from erdp_core.trainer import RunInterval, Trainer, unpack_state
from tests.small import maze_dataset, paying_environment, small_config

TASK = dataclasses.replace(get_task("pointmaze-umaze"), reward_scale=4.0, reward_shift=-0.5)


@pytest.fixture(autouse=True)
def returns_that_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("erdp_core.trainer.make_environment", paying_environment)


def config(*settings: str, method: str = "erdp") -> RunConfig:
    lengths = ("trainer.steps=12", "trainer.interval=4", "agent.ema_from=2")
    return small_config(*lengths, *settings, method=method)


def trainer(configs: Sequence[RunConfig], seeds: Sequence[int], dataset: Dataset | None = None) -> Trainer:
    return Trainer(TASK, dataset or maze_dataset(), configs, seeds)


@pytest.mark.parametrize("failing", [False, True])
def test_overlapped_intervals_are_the_same(failing: bool) -> None:
    configs = [config()] * 2
    found = []
    for overlapped in (False, True):
        made = trainer(configs, [0, 1])
        if failing:
            with torch.no_grad():
                made.algorithm.policy.weights["weight_2"][1, 0, 0] = float("nan")  # type: ignore[attr-defined]
        found.append([[timeless(run) for run in interval] for interval in made.intervals(overlapped)])
    assert [interval[0][0]["step"] for interval in found[0]] == [4, 8, 12]
    assert [interval[1][1] is None for interval in found[0]] == [failing] * 3
    np.testing.assert_equal(found[1], found[0])


@pytest.mark.parametrize("overlapped", [False, True])
def test_a_stop_on_the_way_changes_no_number(overlapped: bool) -> None:
    whole = [[timeless(run) for run in interval] for interval in trainer([config()], [0]).intervals()]
    stopped = trainer([config()], [0])
    found = [[timeless(run) for run in interval] for interval in stopped.intervals(overlapped, until=8)]
    assert stopped.step == 8
    found += [[timeless(run) for run in interval] for interval in stopped.intervals(overlapped)]
    np.testing.assert_equal(found, whole)
    assert list(stopped.intervals(until=100)) == []


def timeless(interval: RunInterval) -> list[Any]:
    """An interval's records without what the clock says."""
    records = [interval.training, interval.evaluation, interval.failure]
    return [record and {key: value for key, value in record.items() if "second" not in key} for record in records]


@pytest.mark.parametrize("method", METHODS)
def test_resumes_bit_for_bit_from_any_interval(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Blocks of random numbers end inside intervals, and with them.
    monkeypatch.setattr("erdp_core.step_loop.BLOCK", 3)
    configs = [config("agent.lr_decay=cosine", method=method)] * 2
    steady = trainer(configs, [0, 1])
    states, intervals, policies = {}, [], []
    for interval in steady.intervals():
        states[steady.step] = [steady.state(run) for run in range(2)]
        policies.append([steady.policy(run) for run in range(2)])
        intervals.append([timeless(run) for run in interval])
    assert sorted(states) == [4, 8, 12]
    assert len({value for interval in intervals for run in interval for value in run[1]["returns"]}) == 3 * 2 * 2
    for step in (4, 8):
        resumed = trainer(configs, [0, 1])
        resumed.load_states(states[step])
        rest = [[timeless(run) for run in interval] for interval in resumed.intervals()]
        assert rest == intervals[step // 4 :]
        assert [resumed.policy(run) for run in range(2)] == policies[-1]
        for run in range(2):
            ours, theirs = unpack_state(resumed.state(run)), unpack_state(states[12][run])
            assert torch.equal(ours["generator"], theirs["generator"])
            for name, value in theirs["algorithm"].items():
                assert (
                    value == ours["algorithm"][name] if name == "count" else torch.equal(value, ours["algorithm"][name])
                )


def test_states_of_different_steps_are_refused() -> None:
    made = trainer([config()] * 2, [0, 1])
    made.run_interval()
    early = made.state(0)
    made.run_interval()
    with pytest.raises(ValueError, match=r"\[4, 8\]"):
        made.load_states([early, made.state(1)])


def test_a_state_holds_no_code() -> None:
    """`weights_only=True` loads it: tensors and plain values."""
    made = trainer([config()], [0])
    made.run_interval()
    assert set(unpack_state(made.state(0))) == {"step", "generator", "algorithm"}


def test_batches_are_rows_of_the_data_with_the_tasks_reward(monkeypatch: pytest.MonkeyPatch) -> None:
    data = maze_dataset().transitions
    made = trainer([config()] * 2, [0, 1])
    seen: list[Batch] = []
    update = made.algorithm.update

    def recorded(batch: Batch, noise: Noise) -> dict[str, torch.Tensor]:
        seen.append(batch)
        return update(batch, noise)

    monkeypatch.setattr(made.algorithm, "update", recorded)
    made.run_interval()
    rows_of_runs: list[list[int]] = [[], []]
    for batch in seen:
        for run in range(2):
            for index in range(8):
                row = int(np.flatnonzero((data.observations == batch.observations[run, index].numpy()).all(axis=1))[0])
                rows_of_runs[run].append(row)
                np.testing.assert_array_equal(batch.actions[run, index], data.actions[row])
                np.testing.assert_array_equal(batch.next_observations[run, index], data.next_observations[row])
                assert batch.rewards[run, index].item() == pytest.approx((data.rewards[row] - 0.5) * 4, abs=1e-5)
                assert batch.terminals[run, index].item() == data.terminals[row]
    assert rows_of_runs[0] != rows_of_runs[1]
    assert len(set(rows_of_runs[0])) > 15  # of 80 rows, 32 drawn


def test_a_failing_run_is_named_with_its_step_and_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    undisturbed = [[timeless(run) for run in interval] for interval in trainer([config()] * 3, [0, 1, 2]).intervals()]
    made = trainer([config()] * 3, [0, 1, 2])
    update = made.algorithm.update
    updates = 0

    def poisoned(batch: Batch, noise: Noise) -> dict[str, torch.Tensor]:
        nonlocal updates
        updates += 1
        if updates == 6:
            with torch.no_grad():
                made.algorithm.critics.weights["bias_1"][1].fill_(math.inf)  # type: ignore[attr-defined]
        return update(batch, noise)

    monkeypatch.setattr(made.algorithm, "update", poisoned)
    intervals = [[timeless(run) for run in interval] for interval in made.intervals()]
    failure = {"step": 6, "reason": "loss not finite at step 6"}
    assert [interval[1][2] for interval in intervals] == [None, failure, failure]
    assert [interval[1][1] is None for interval in intervals] == [False, True, True]
    for interval, expected in zip(intervals, undisturbed, strict=True):
        assert interval[0] == expected[0]
        assert interval[2] == expected[2]


def test_a_pack_whose_runs_all_fail_ends() -> None:
    data = maze_dataset().transitions
    rewards = np.full_like(data.rewards, np.inf)
    broken = Dataset(
        dataclasses.replace(data, rewards=rewards), "local", "", "", EnvironmentSpec("pointmaze-umaze", {})
    )
    intervals = list(trainer([config()] * 2, [0, 1], broken).intervals())
    assert len(intervals) == 1
    assert [run.failure for run in intervals[0]] == [{"step": 1, "reason": "loss not finite at step 1"}] * 2
    assert [run.evaluation for run in intervals[0]] == [None, None]


@pytest.mark.parametrize("one_candidate", [True, False])
def test_records_are_complete(one_candidate: bool) -> None:
    made = trainer([config(f"evaluation.one_candidate={one_candidate}", "evaluation.episodes=3")] * 2, [0, 1])
    for number, interval in enumerate(made.intervals(), start=1):
        assert len(interval) == 2
        for run in interval:
            assert run.failure is None
            assert run.training["step"] == 4 * number
            assert run.training["seconds"] > 0
            assert run.training["steps_per_second"] == pytest.approx(4 / run.training["seconds"])
            losses = {"critic_loss", "actor_loss", "diffusion_loss", "q_loss", "entropy", "q_mean"}
            assert set(run.training["losses"]) == losses | {"critic_grad_norm", "actor_grad_norm"}
            assert all(math.isfinite(value) for value in run.training["losses"].values())
            assert run.evaluation is not None
            assert run.evaluation["step"] == 4 * number
            assert ("one_candidate" in run.evaluation) == one_candidate
            for record in [run.evaluation, *([run.evaluation["one_candidate"]] if one_candidate else [])]:
                assert len(record["returns"]) == 3
                assert record["score"] == pytest.approx(100 * np.mean(record["returns"]))


def test_one_candidate_is_not_evaluated_twice_for_a_policy_that_has_no_other() -> None:
    made = trainer([config("evaluation.one_candidate=true", method="bc-diffusion")], [0])
    evaluation = made.run_interval()[0].evaluation
    assert evaluation is not None
    assert "one_candidate" not in evaluation


def test_losses_are_means_over_the_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    made = trainer([config()] * 2, [0, 1])
    update, logs = made.algorithm.update, []

    def recorded(batch: Batch, noise: Noise) -> dict[str, torch.Tensor]:
        logs.append(update(batch, noise))
        return logs[-1]

    monkeypatch.setattr(made.algorithm, "update", recorded)
    interval = made.run_interval()
    for run in range(2):
        for name, value in interval[run].training["losses"].items():
            assert value == pytest.approx(np.mean([log[name][run].item() for log in logs]), rel=1e-5), name


def test_data_that_do_not_fit_the_environment_are_refused() -> None:
    data = maze_dataset().transitions
    wide = Transitions(
        np.zeros((80, 5), np.float32), data.actions, np.zeros((80, 5), np.float32), data.rewards, data.terminals
    )
    dataset = Dataset(wide, "local", "", "", EnvironmentSpec("pointmaze-umaze", {}))
    with pytest.raises(DataError, match=r"observations of size 5.*pointmaze-umaze.*\(4,\)"):
        trainer([config()], [0], dataset).run_interval()
