"""Train, evaluate, hand out records and states: one interval at a time, resumable at each interval's end."""

import io
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from erdp_core.algorithms import Batch, State, make_algorithm, stream
from erdp_core.config import RunConfig
from erdp_core.data.transitions import Dataset
from erdp_core.environments.make import make_environment
from erdp_core.errors import DataError
from erdp_core.evaluation import Environment, evaluate
from erdp_core.tasks import Task

BLOCK = 50
"""Steps whose random numbers are drawn at once, for each run from its own stream."""


@dataclass(frozen=True)
class RunInterval:
    """What one run did in one interval: records as the ledger keeps them."""

    training: dict[str, Any]
    """step, seconds, steps_per_second (of the pack), losses (means over the interval)"""
    evaluation: dict[str, Any] | None
    """step, score, returns, seconds, perhaps one_candidate; None where the run has failed"""
    failure: dict[str, Any] | None
    """step and reason, where the run's loss stopped being finite"""


class Trainer:
    """A pack of runs of one task and method on one device.

    Runs whose loss stops being finite fail alone: they are reported, no longer evaluated, and disturb no other.
    """

    def __init__(
        self,
        task: Task,
        dataset: Dataset,
        configs: Sequence[RunConfig],
        seeds: Sequence[int],
        device: torch.device | str = "cpu",
    ) -> None:
        self.task = task
        self.configs = list(configs)
        self.seeds = list(seeds)
        self.device = torch.device(device)
        self.environment = dataset.environment
        self.step = 0
        data = dataset.transitions
        self.observations = torch.from_numpy(data.observations).to(self.device)
        self.actions = torch.from_numpy(data.actions).to(self.device)
        self.next_observations = torch.from_numpy(data.next_observations).to(self.device)
        self.rewards = torch.from_numpy(task.training_rewards(data.rewards)).to(self.device)
        self.terminals = torch.from_numpy(data.terminals).to(self.device)
        self.algorithm = make_algorithm(configs, seeds, self.observations.shape[1], self.actions.shape[1], self.device)
        self.generators = [stream(self.device, seed, "training") for seed in seeds]
        self.failed_at: list[int | None] = [None] * len(self.configs)
        self._environments: list[list[Environment]] = []

    @property
    def steps(self) -> int:
        """Steps that the pack is to train."""
        return self.configs[0].trainer.steps

    def intervals(self) -> Iterator[list[RunInterval]]:
        """Train to the end, one interval at a time; after each, what every run did."""
        while self.step < self.steps and not all(step is not None for step in self.failed_at):
            yield self.run_interval()

    def run_interval(self) -> list[RunInterval]:
        """Train up to the next evaluation and evaluate."""
        started = time.perf_counter()
        length = self.configs[0].trainer.interval
        losses, first_bad = self._train(length)
        seconds = time.perf_counter() - started
        for run, bad in enumerate(first_bad):
            if bad is not None and self.failed_at[run] is None:
                self.failed_at[run] = bad
        training = [
            {"step": self.step, "seconds": seconds, "steps_per_second": length / seconds, "losses": run_losses}
            for run_losses in losses
        ]
        evaluations = self._evaluate()
        return [RunInterval(training[run], evaluations[run], self._failure(run)) for run in range(len(self.configs))]

    def _failure(self, run: int) -> dict[str, Any] | None:
        step = self.failed_at[run]
        return None if step is None else {"step": step, "reason": f"loss not finite at step {step}"}

    def _train(self, length: int) -> tuple[list[dict[str, float]], list[int | None]]:
        """Losses of each run, means over the steps, and the step where each stopped being finite.

        Nothing leaves the device inside the interval, so that the host never waits for it.
        """
        sums: dict[str, Tensor] = {}
        runs = len(self.configs)
        first_bad = torch.full((runs,), -1, dtype=torch.int64, device=self.device)
        for start in range(0, length, BLOCK):
            block = min(BLOCK, length - start)
            indices, noise = self._draw(block)
            for offset in range(block):
                rows = indices[offset]
                batch = Batch(
                    self.observations[rows],
                    self.actions[rows],
                    self.next_observations[rows],
                    self.rewards[rows],
                    self.terminals[rows],
                )
                info = self.algorithm.update(batch, {name: values[offset] for name, values in noise.items()})
                self.step += 1
                finite = torch.stack([value for name, value in info.items() if name.endswith("loss")]).isfinite()
                newly_bad = ~finite.all(dim=0) & (first_bad < 0)
                first_bad = torch.where(newly_bad, self.step, first_bad)
                for name, value in info.items():
                    sums[name] = sums[name] + value if name in sums else value
        means = {name: (total / length).tolist() for name, total in sums.items()}
        losses = [{name: values[run] for name, values in means.items()} for run in range(runs)]
        return losses, [step if step >= 0 else None for step in first_bad.tolist()]

    def _draw(self, block: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Rows [block, R, B] and noise [block, R, ...] of the next steps, each run's from its own stream."""
        rows, draws = len(self.observations), []
        batch_size = self.configs[0].agent.batch_size
        for generator in self.generators:
            indices = torch.randint(rows, (block, batch_size), generator=generator, device=self.device)
            draws.append({"": indices, **self.algorithm.draw_noise(generator, block)})
        stacked = {name: torch.stack([draw[name] for draw in draws], dim=1) for name in draws[0]}
        return stacked.pop(""), stacked

    def _evaluate(self) -> list[dict[str, Any] | None]:
        active = [step is None for step in self.failed_at]
        if not any(active):
            return [None] * len(self.configs)
        settings = self.configs[0].evaluation
        if not self._environments:
            self._environments = [
                [make_environment(self.environment) for _ in range(settings.episodes)] for _ in self.configs
            ]
            self._check_sizes(self._environments[0][0])
        started = time.perf_counter()

        def scored(candidates: int) -> list[dict[str, Any]]:
            returns = evaluate(self.algorithm, self._environments, self.seeds, self.step, candidates, active)
            return [{"score": self.task.score(float(run.mean())), "returns": run.tolist()} for run in returns]

        records = scored(self.algorithm.candidates)
        if settings.one_candidate and self.algorithm.candidates > 1:
            for record, single in zip(records, scored(1), strict=True):
                record["one_candidate"] = single
        seconds = time.perf_counter() - started
        return [
            {"step": self.step, "seconds": seconds, **record} if is_active else None
            for record, is_active in zip(records, active, strict=True)
        ]

    def _check_sizes(self, environment: Environment) -> None:
        for what, space, size in (
            ("observations", environment.observation_space, self.observations.shape[1]),
            ("actions", environment.action_space, self.actions.shape[1]),
        ):
            if space.shape != (size,):
                raise DataError(
                    f"{self.task.name}: the data have {what} of size {size}, "
                    f"the environment {self.environment.name} of shape {space.shape}"
                )

    def state(self, run: int) -> bytes:
        """Everything that one run goes on from, streams included."""
        return pack_state(
            {
                "step": self.step,
                "generator": self.generators[run].get_state(),
                "algorithm": self.algorithm.state(run),
            }
        )

    def load_states(self, states: Sequence[bytes]) -> None:
        """Go on from the states of all runs, in order. Raises ValueError where they are not of one step."""
        unpacked = [unpack_state(content) for content in states]
        steps = {state["step"] for state in unpacked}
        if len(steps) != 1 or len(unpacked) != len(self.configs):
            raise ValueError(f"{len(unpacked)} states of steps {sorted(steps)} for {len(self.configs)} runs")
        for run, state in enumerate(unpacked):
            self.generators[run].set_state(state["generator"])
            self.algorithm.load_state(run, state["algorithm"])
        self.step = steps.pop()

    def policy(self, run: int) -> bytes:
        """What acting needs of one run."""
        return pack_state(self.algorithm.policy_state(run))


def pack_state(state: State) -> bytes:
    """A state as bytes."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def unpack_state(content: bytes) -> State:
    """The inverse of `pack_state`; loads tensors and plain values only, never code."""
    state: State = torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
    return state
