"""Train, evaluate, hand out records and states: one interval at a time, resumable at each interval's end."""

import io
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch

from erdp_core.algorithms import Algorithm, Batch, State, make_algorithm, stream
from erdp_core.config import RunConfig
from erdp_core.data.transitions import Dataset
from erdp_core.environments.make import make_environment
from erdp_core.errors import DataError
from erdp_core.evaluation import Environment, evaluate
from erdp_core.step_loop import StepLoop
from erdp_core.tasks import Task


@dataclass(frozen=True)
class RunInterval:
    """What one run did in one interval: records as the ledger keeps them."""

    training: dict[str, Any]
    """step, seconds, steps_per_second (of the pack), losses (means over the interval)"""
    evaluation: dict[str, Any] | None
    """step, score, returns, seconds, perhaps one_candidate; None where the run has failed"""
    failure: dict[str, Any] | None
    """step and reason, where the run's loss stopped being finite"""
    state: bytes
    """everything that the run goes on from"""
    policy: bytes
    """what acting needs of the run"""


@dataclass(frozen=True)
class Trained:
    """Where a pack stood at an interval's end: all that evaluation and ledger need of it, run by run."""

    step: int
    training: list[dict[str, Any]]
    failures: list[dict[str, Any] | None]
    states: list[bytes]
    policies: list[bytes]


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
        rewards = task.training_rewards(data.rewards)
        columns = (data.observations, data.actions, data.next_observations, rewards, data.terminals)
        self.data = Batch(*(torch.from_numpy(column).to(self.device) for column in columns))
        sizes = data.observations.shape[1], data.actions.shape[1]
        self.algorithm = make_algorithm(configs, seeds, *sizes, self.device)
        self.algorithm.prepare(self.data)
        self.generators = [stream(self.device, seed, "training") for seed in seeds]
        self._loop = StepLoop(self.algorithm, self.data, self.generators, configs[0].agent.batch_size)
        self.failed_at: list[int | None] = [None] * len(self.configs)
        self._environments: list[list[Environment]] = []

    @property
    def steps(self) -> int:
        """Steps that the pack is to train."""
        return self.configs[0].trainer.steps

    def intervals(self, overlapped: bool = False, until: int | None = None) -> Iterator[list[RunInterval]]:
        """Train to the end, or until a step, one interval at a time; after each, what every run did.

        overlapped: a thread evaluates an interval, by a copy that acts, while the next one is trained; what comes out
        is the same, one interval's training later.
        """
        last = self.steps if until is None else min(until, self.steps)
        if not overlapped:
            while self._goes_on(last):
                yield self.run_interval()
            return
        acting, under_evaluation = self.acting_copy(), None
        # On the stream of training, an action would wait for every step that is queued there.
        own_stream = torch.cuda.Stream() if self.device.type == "cuda" else None
        if own_stream is not None:
            own_stream.wait_stream(torch.cuda.current_stream())

        def evaluated(trained: Trained) -> list[RunInterval]:
            with torch.cuda.stream(own_stream):
                return self.evaluate(trained, acting)

        with ThreadPoolExecutor(1) as pool:
            while self._goes_on(last) or under_evaluation:
                trained = self.train_interval() if self._goes_on(last) else None
                if under_evaluation:
                    yield under_evaluation.result()
                under_evaluation = pool.submit(evaluated, trained) if trained else None

    def _goes_on(self, last: int) -> bool:
        return self.step < last and not all(step is not None for step in self.failed_at)

    def run_interval(self) -> list[RunInterval]:
        """Train up to the next evaluation and evaluate."""
        return self.evaluate(self.train_interval())

    def train_interval(self) -> Trained:
        """Train up to the next evaluation."""
        started = time.perf_counter()
        length = self.configs[0].trainer.interval
        means, first_bad = self._loop.run(length)
        seconds = time.perf_counter() - started
        for run, bad in enumerate(first_bad):
            if bad is not None and self.failed_at[run] is None:
                self.failed_at[run] = self.step + bad
        self.step += length
        speed = {"step": self.step, "seconds": seconds, "steps_per_second": length / seconds}
        runs = range(len(self.configs))
        return Trained(
            self.step,
            [{**speed, "losses": {name: values[run] for name, values in means.items()}} for run in runs],
            [self._failure(run) for run in runs],
            [self.state(run) for run in runs],
            [self.policy(run) for run in runs],
        )

    def _failure(self, run: int) -> dict[str, Any] | None:
        step = self.failed_at[run]
        return None if step is None else {"step": step, "reason": f"loss not finite at step {step}"}

    def evaluate(self, trained: Trained, acting: Algorithm | None = None) -> list[RunInterval]:
        """Evaluate what was trained: by the algorithm itself, which must still stand there, or by a copy.

        With an `acting_copy` this may go on in a thread of its own while the next interval is trained.
        """
        if acting is not None:
            for run, policy in enumerate(trained.policies):
                acting.load_policy_state(run, unpack_state(policy))
        evaluations = self._evaluations(acting or self.algorithm, trained)
        parts = (trained.training, evaluations, trained.failures, trained.states, trained.policies)
        return [RunInterval(*run) for run in zip(*parts, strict=True)]

    def acting_copy(self) -> Algorithm:
        """An algorithm of the same configs, for policies to be loaded into."""
        sizes = self.data.observations.shape[1], self.data.actions.shape[1]
        return make_algorithm(self.configs, self.seeds, *sizes, self.device)

    def _evaluations(self, acting: Algorithm, trained: Trained) -> list[dict[str, Any] | None]:
        active = [failure is None for failure in trained.failures]
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
            returns = evaluate(acting, self._environments, self.seeds, trained.step, candidates, active)
            return [{"score": self.task.score(float(run.mean())), "returns": run.tolist()} for run in returns]

        records = scored(acting.candidates)
        if settings.one_candidate and acting.candidates > 1:
            for record, single in zip(records, scored(1), strict=True):
                record["one_candidate"] = single
        seconds = time.perf_counter() - started
        return [
            {"step": trained.step, "seconds": seconds, **record} if is_active else None
            for record, is_active in zip(records, active, strict=True)
        ]

    def _check_sizes(self, environment: Environment) -> None:
        for what, space, size in (
            ("observations", environment.observation_space, self.data.observations.shape[1]),
            ("actions", environment.action_space, self.data.actions.shape[1]),
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
