"""The hours that the paper's tables take on 1, 8 and 64 devices of a kind, from what is measured on one.

    python -m tests.benchmarks.plan                       # measures this machine's processor, then plans
    python -m tests.benchmarks.plan --device cuda
    python -m tests.benchmarks.plan --figures figures.json   # plans from what was measured before

Measured, for each shape of a table's runs: a training step of one run and of a pack of five, choosing the actions of an
evaluation for both, and a step of the environment. From these follow the hours of every pack, and the busiest device's
hours when packs of at most 1, 2, ... 5 seeds, whichever is best, go to the first device that is free.
"""

import argparse
import itertools
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from erdp_core.algorithms import Batch, make_algorithm, stream
from erdp_core.config import RunConfig, resolve
from erdp_core.environments.make import environment_sizes, make_environment
from erdp_core.step_loop import StepLoop
from erdp_core.tasks import Task, get_task, table_tasks
from tests.benchmarks.machine import description, synchronise

SEEDS = 5
DEVICES = (1, 8, 64)
ROWS = 10_000
"""Of made-up data."""
MEDIUM_AND_LARGE = table_tasks("antmaze")[2:]
REPLAY = tuple(name for name in table_tasks("gym") if "replay" in name)


@dataclass(frozen=True)
class Table:
    """A printed table: its tasks, each with every one of some settings."""

    name: str
    tasks: tuple[str, ...]
    variants: tuple[tuple[str, ...], ...] = ((),)


def _values(setting: str, *values: object) -> tuple[tuple[str, ...], ...]:
    return tuple((f"{setting}={str(value).lower()}",) for value in values)


TABLES = (
    Table("1 gym", table_tasks("gym")),
    Table("1 adroit", table_tasks("adroit")),
    Table("1 kitchen", table_tasks("kitchen")),
    Table("2 antmaze", table_tasks("antmaze")),
    # A fifth column, the tuned alpha, costs as much as any other.
    Table("3 alpha", MEDIUM_AND_LARGE, _values("agent.alpha", 0, 0.01, 0.05, 0.1, 0.02)),
    Table("7 critics", MEDIUM_AND_LARGE, _values("agent.M", 1, 2, 4, 16, 64)),
    Table("8 beta", MEDIUM_AND_LARGE, _values("agent.beta", 1, 2, 4)),
    Table("9 steps", REPLAY, _values("agent.T", 3, 5, 10)),
    Table("10 max-Q", MEDIUM_AND_LARGE, _values("agent.max_q_backup", True, False)),
)
MAIN = ("1 gym", "1 adroit", "1 kitchen", "2 antmaze")


@dataclass(frozen=True)
class Cell:
    """A task with settings: as many runs as there are seeds."""

    task: Task
    config: RunConfig

    @property
    def shape(self) -> str:
        """What its figures are measured by."""
        agent = self.config.to_dict()["agent"]
        names = ("M", "T", "width", "layers", "batch_size", "diffusion_loss", "max_q_backup", "max_q_actions")
        shape = {name: agent[name] for name in names} | {"candidates": agent["candidates"]}
        shape |= {"episodes": self.config.evaluation.episodes, "precision": self.config.trainer.precision}
        return json.dumps([self.task.environment.name, shape], sort_keys=True)


@dataclass(frozen=True)
class Figures:
    """Of one shape; seconds by how many runs train at once, of one run and of a pack."""

    step: dict[int, float]
    """Of a training step of all the runs."""
    act: dict[int, float]
    """Of choosing one action for every episode of all the runs."""
    environment: float
    """Of one environment's step on one core."""

    def between(self, of_size: Mapping[int, float], runs: int) -> float:
        """On the line through one run and a pack."""
        return float(np.interp(runs, sorted(of_size), [of_size[size] for size in sorted(of_size)]))


def cells(table: Table) -> list[Cell]:
    """The paper's settings of every cell."""
    return [
        Cell(get_task(name), resolve(get_task(name), "erdp", "paper", variant))
        for variant, name in itertools.product(table.variants, table.tasks)
    ]


def seconds_of(call: Callable[[], object], device: torch.device, least: int = 2) -> float:
    """The fastest of a few calls."""
    best = float("inf")
    call()
    synchronise(device)
    for _ in range(least):
        started = time.perf_counter()
        call()
        synchronise(device)
        best = min(best, time.perf_counter() - started)
    return best


def measure(cell: Cell, device: torch.device, sizes: Sequence[int] = (1, SEEDS)) -> Figures:
    """Steps of the trainer's own loop and decisions of an evaluation, on made-up data; steps of the environment."""
    observation_size, action_size = environment_sizes(cell.task.environment)
    data = Batch(
        torch.randn(ROWS, observation_size, device=device),
        torch.rand(ROWS, action_size, device=device) * 2 - 1,
        torch.randn(ROWS, observation_size, device=device),
        torch.randn(ROWS, device=device),
        torch.zeros(ROWS, device=device),
    )
    episodes, at_once = cell.config.evaluation.episodes, 50 if device.type == "cuda" else 1
    step, act = {}, {}
    for runs in sizes:
        algorithm = make_algorithm([cell.config] * runs, range(runs), observation_size, action_size, device)
        generators = [stream(device, seed, "training") for seed in range(runs)]
        loop = StepLoop(algorithm, data, generators, cell.config.agent.batch_size)
        loop.run(at_once)  # compiles, and records where there is a graph
        step[runs] = seconds_of(partial(loop.run, at_once), device) / at_once
        drawn = algorithm.draw_acting_noise(generators[0], episodes, algorithm.candidates)
        noise = {name: value.expand(runs, *value.shape) for name, value in drawn.items()}
        observations = torch.zeros(runs, episodes, observation_size, device=device)
        act[runs] = seconds_of(partial(algorithm.act, observations, noise), device)
    environment = make_environment(cell.task.environment)
    environment.reset(seed=0)
    environment.action_space.seed(0)
    action = environment.action_space.sample()

    def a_hundred_steps() -> None:
        for _ in range(100):
            if any(environment.step(action)[2:4]):
                environment.reset()

    figures = Figures(step, act, seconds_of(a_hundred_steps, torch.device("cpu")) / 100)
    environment.close()
    return figures


@dataclass(frozen=True)
class Cost:
    """Hours of one pack."""

    training: float
    acting: float
    environments: float
    start: float
    overlapped: bool
    """Whether evaluation goes on beside training: the longer of the two counts."""

    @property
    def total(self) -> float:
        evaluation = self.acting + self.environments
        return self.start + (max(self.training, evaluation) if self.overlapped else self.training + evaluation)

    @property
    def longest_part(self) -> str:
        parts = {"training steps": self.training, "acting": self.acting, "environments": self.environments}
        if self.overlapped and self.training >= self.acting + self.environments:
            return "training steps"
        return max(parts, key=lambda part: parts[part])


def pack_cost(cell: Cell, runs: int, figures: Figures, cores: int, start_seconds: float, overlapped: bool) -> Cost:
    """Of so many seeds of a cell; every episode goes to its step limit."""
    trainer, evaluation = cell.config.trainer, cell.config.evaluation
    decisions = trainer.steps // trainer.interval * cell.task.step_limit
    at_once = runs * evaluation.episodes
    return Cost(
        trainer.steps * figures.between(figures.step, runs) / 3600,
        decisions * figures.between(figures.act, runs) / 3600,
        decisions * -(-at_once // cores) * figures.environment / 3600,
        start_seconds / 3600,
        overlapped,
    )


@dataclass(frozen=True)
class Schedule:
    """A table on so many devices."""

    hours: float
    """Until the last is done."""
    device_hours: float
    """At work."""
    bottleneck: str


def schedule(packs_of: Callable[[int], list[Cost]], devices: int) -> Schedule:
    """The best of packs of at most 1, 2, ... seeds, the longest first, each to the first device that is free."""
    best: Schedule | None = None
    for limit in range(1, SEEDS + 1):
        packs = sorted(packs_of(limit), key=lambda pack: -pack.total)
        busy = [0.0] * devices
        last: list[Cost | None] = [None] * devices
        for pack in packs:
            first_free = busy.index(min(busy))
            busy[first_free] += pack.total
            last[first_free] = pack
        longest = busy.index(max(busy))
        critical = last[longest]
        assert critical is not None
        if busy.count(0.0):
            why = f"one run's {critical.longest_part}, {busy.count(0.0)} devices idle"
        else:
            why = critical.longest_part
        found = Schedule(max(busy), sum(busy), why)
        # Less time first; where it is the same, less work.
        if best is None or (round(found.hours, 6), found.device_hours) < (round(best.hours, 6), best.device_hours):
            best = found
    assert best is not None
    return best


def split(seeds: int, limit: int) -> list[int]:
    """Even packs of at most so many seeds."""
    count = -(-seeds // limit)
    return [seeds // count + (index < seeds % count) for index in range(count)]


def plan(
    figures: Mapping[str, Figures], cores: int, start_seconds: float, overlapped: bool
) -> dict[str, tuple[int, dict[int, Schedule]]]:
    """Runs, and a schedule for each number of devices, by table; `main` is the four tables of 100 runs together."""
    found = {}
    of_table = {table.name: cells(table) for table in TABLES}
    of_table["main (1, 2)"] = [cell for name in MAIN for cell in of_table[name]]
    for name, table_cells in of_table.items():

        def packs_of(limit: int, table_cells: list[Cell] = table_cells) -> list[Cost]:
            return [
                pack_cost(cell, runs, figures[cell.shape], cores, start_seconds, overlapped)
                for cell in table_cells
                for runs in split(SEEDS, limit)
            ]

        found[name] = SEEDS * len(table_cells), {devices: schedule(packs_of, devices) for devices in DEVICES}
    return found


def write(path: Path, machine: Mapping[str, object], figures: Mapping[str, Figures]) -> None:
    """What was measured, as JSON."""
    record = {"machine": dict(machine), "figures": {key: asdict(one) for key, one in figures.items()}}
    path.write_text(json.dumps(record, indent=1) + "\n")


def read(path: Path) -> tuple[dict[str, Any], dict[str, Figures]]:
    """The inverse of `write`."""
    record = json.loads(path.read_text())

    def by_runs(one: Mapping[str, float]) -> dict[int, float]:
        return {int(size): seconds for size, seconds in one.items()}

    return record["machine"], {
        key: Figures(by_runs(one["step"]), by_runs(one["act"]), one["environment"])
        for key, one in record["figures"].items()
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Measure or read, and print the plan."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu or cuda, to measure")
    parser.add_argument("--figures", type=Path, help="of an earlier call, instead of measuring")
    parser.add_argument("--output", type=Path, default=Path("benchmark-plan.json"), help="what was measured")
    parser.add_argument("--cores", type=int, help="CPU cores beside each device that step environments")
    parser.add_argument("--start", type=float, default=30.0, help="seconds from a pack's turn to its first step")
    options = parser.parse_args(argv)
    if options.figures:
        machine, figures = read(options.figures)
    else:
        device = torch.device(options.device)
        machine, figures = {"kind": device.type, **description(device)}, {}
        for cell in (cell for table in TABLES for cell in cells(table)):
            if cell.shape not in figures:
                figures[cell.shape] = measure(cell, device)
                one = figures[cell.shape]
                print(
                    f"{cell.task.name} M={cell.config.to_dict()['agent']['M']}: step {1e3 * one.step[1]:.1f} ms, "
                    f"of {SEEDS} runs {1e3 * one.step[SEEDS]:.1f}; acting {1e3 * one.act[1]:.1f}, "
                    f"{1e3 * one.act[SEEDS]:.1f}; environment {1e3 * one.environment:.3f}",
                    file=sys.stderr,
                    flush=True,
                )
        write(options.output, machine, figures)
    cores, overlapped = options.cores or machine["cores"], machine["kind"] == "cuda"
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    print(
        f"assumed: {SEEDS} seeds a cell; packs of one cell's seeds; {cores} cores a device step environments, "
        f"{'beside training' if overlapped else 'between intervals'}; episodes go to their step limit; "
        f"{options.start:g} s to start a pack; cells that tables share are counted in each; nothing fails"
    )
    print(f"{'table':12} {'runs':>4}  " + "  ".join(f"{f'hours on {devices}':>11} {'busy':>8}" for devices in DEVICES))
    for name, (runs, schedules) in plan(figures, cores, options.start, overlapped).items():
        hours = "  ".join(f"{one.hours:11.1f} {one.device_hours:8.1f}" for one in schedules.values())
        print(f"{name:12} {runs:4}  {hours}")
        for devices, one in schedules.items():
            print(f"{'':19}on {devices}: {one.bottleneck}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
