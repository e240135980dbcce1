"""Milliseconds of a training step: the published structure, ours as written, ours compiled, ours as a GPU's graph.

    python -m tests.benchmarks.step                     # the paper's sizes
    python -m tests.benchmarks.step --cases all         # every combination
    python -m tests.benchmarks.step --device cuda

All variants of a case take turns, a round each, and the products' peak is measured between them, so that whatever else
the machine does meets all alike. A figure is the best of its rounds' means. A step includes drawing its rows and its
noise; a pack's is divided by its runs. GFLOP counts matrix products, a backward pass double.
"""

import argparse
import contextlib
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from erdp_core import fused
from erdp_core.agent import ERDP
from erdp_core.algorithms import Batch, make_algorithm, stream
from erdp_core.config import RunConfig, resolve
from erdp_core.step_loop import StepLoop
from erdp_core.tasks import get_task
from orchestration.step_cost import step_gflop
from tests.benchmarks.machine import description, keep_memory, peak_memory, product_peak, synchronise
from tests.benchmarks.published import PublishedERDP

SIZES = {"hopper-medium-v2": (11, 3), "antmaze-medium-play-v0": (29, 8)}
"""Observation and action."""
ROWS = 100_000
"""Of the made-up data."""


@dataclass(frozen=True)
class Case:
    """What is trained: a task's sizes and the settings that cost time."""

    task: str
    runs: int = 1
    M: int = 64
    T: int = 5
    loss: str = "noise"
    max_q: bool = False

    @property
    def config(self) -> RunConfig:
        settings = [
            f"agent.M={self.M}",
            f"agent.T={self.T}",
            f"agent.diffusion_loss={self.loss}",
            f"agent.max_q_backup={str(self.max_q).lower()}",
        ]
        return resolve(get_task(self.task), "erdp", "paper", settings)

    @property
    def gflop(self) -> float:
        """Of one step of one run."""
        return step_gflop(self.config.agent, *SIZES[self.task])


HOPPER, ANTMAZE = SIZES
PAPER = (
    Case(HOPPER, loss="likelihood"),
    Case(ANTMAZE, max_q=True),
    Case(HOPPER, M=4),
    Case(HOPPER, M=4, runs=5),
    Case(HOPPER, M=16),
    Case(ANTMAZE),
    Case(HOPPER, M=4, T=10),
    Case(ANTMAZE, M=4, max_q=True),
)
ALL = tuple(
    Case(task, runs, M, T, loss, max_q)
    for task, runs, M, T, loss, max_q in itertools.product(
        SIZES, (1, 5), (1, 4, 16, 64), (3, 5, 10), ("noise", "likelihood"), (False, True)
    )
)


def data_of(case: Case, device: torch.device) -> Batch:
    """Made-up transitions: what they hold costs nothing."""
    observation_size, action_size = SIZES[case.task]
    generator = stream(device, 0, "benchmark")

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, device=device)

    return Batch(
        normal(ROWS, observation_size),
        normal(ROWS, action_size).clamp(-1, 1),
        normal(ROWS, observation_size),
        normal(ROWS),
        (normal(ROWS) > 2).float(),
    )


class Ours:
    """The trainer's own loop. `compiled` False: every pass as written; `captured` False: no graph on a GPU."""

    def __init__(
        self,
        case: Case,
        device: torch.device,
        compiled: bool,
        captured: bool = False,
        precision: torch.dtype = torch.float32,
    ) -> None:
        self.runs, self.compiled, self.precision = case.runs, compiled, precision
        seeds = list(range(case.runs))
        trainer = replace(case.config.trainer, precision=str(precision).removeprefix("torch."))
        config = replace(case.config, trainer=trainer)
        algorithm = make_algorithm([config] * case.runs, seeds, *SIZES[case.task], device)
        generators = [stream(device, seed, "training") for seed in seeds]
        self.loop = StepLoop(algorithm, data_of(case, device), generators, config.agent.batch_size, graph=captured)

    def steps(self, count: int) -> None:
        with contextlib.nullcontext() if self.compiled else fused.as_written():
            self.loop.run(count)


class Published:
    """The published structure: one run, whatever the pack."""

    runs, precision = 1, torch.float32

    def __init__(self, case: Case, device: torch.device) -> None:
        ours = make_algorithm([case.config], [0], *SIZES[case.task], device)
        assert isinstance(ours, ERDP)
        self.agent, self.data = PublishedERDP(ours), data_of(case, device)

    def steps(self, count: int) -> None:
        for _ in range(count):
            self.agent.update(self.agent.draw_batch(self.data), self.agent.draw_noise())


def variants(device: torch.device) -> dict[str, Callable[[Case], Ours | Published]]:
    """What there is to compare on a device."""
    found: dict[str, Callable[[Case], Ours | Published]] = {
        "published": lambda case: Published(case, device),
        "eager": lambda case: Ours(case, device, compiled=False),
        "compiled": lambda case: Ours(case, device, compiled=True),
    }
    captured = device.type == "cuda"
    if captured:
        found["captured"] = lambda case: Ours(case, device, compiled=True, captured=True)
    found["bfloat16"] = lambda case: Ours(case, device, compiled=True, captured=captured, precision=torch.bfloat16)
    return found


@dataclass(frozen=True)
class Figure:
    """One line of the table."""

    case: dict[str, Any]
    variant: str
    milliseconds: float
    """Of a step, by run."""
    ratio: float
    """Of the published structure's milliseconds to these."""
    gflop: float
    share_of_peak: float
    """Of the peak of products of its precision, measured in the same rounds."""
    peak_gflops: float
    memory_mib: float | None
    """What steps take at their peak beyond data, weights and moments."""


def measure(case: Case, device: torch.device, rounds: int, seconds: float) -> Iterator[Figure]:
    """Every variant of a case, in turns of about so many seconds."""
    contenders = {name: make(case) for name, make in variants(device).items()}
    memory = {name: peak_memory(lambda one=one: one.steps(2), device) for name, one in contenders.items()}
    best = dict.fromkeys(contenders, float("inf"))
    counts = {}
    for name, one in contenders.items():
        one.steps(6)  # compiles and records
        started = time.perf_counter()
        one.steps(2)
        counts[name] = max(1, round(2 * seconds / (time.perf_counter() - started)))
    peaks = dict.fromkeys([one.precision for one in contenders.values()], 0.0)
    for _ in range(rounds):
        for precision, peak in peaks.items():
            peaks[precision] = max(peak, product_peak(device, precision))
        for name, one in contenders.items():
            synchronise(device)
            started = time.perf_counter()
            one.steps(counts[name])
            synchronise(device)
            best[name] = min(best[name], (time.perf_counter() - started) / counts[name] / one.runs * 1e3)
    for name, milliseconds in best.items():
        ratio, peak = best["published"] / milliseconds, peaks[contenders[name].precision]
        share = case.gflop / milliseconds * 1e3 / peak
        yield Figure(asdict(case), name, milliseconds, ratio, case.gflop, share, peak, memory[name])


def line(figure: Figure) -> str:
    """A figure for people."""
    case = figure.case
    what = f"{case['task'].split('-')[0]:8} R={case['runs']} M={case['M']:<2} T={case['T']:<2} {case['loss']:10}"
    memory = "" if figure.memory_mib is None else f"{figure.memory_mib:8.0f}"
    return (
        f"{what} {'max-Q' if case['max_q'] else '     '} {figure.variant:10} {figure.milliseconds:8.2f} "
        f"{figure.ratio:6.2f} {figure.gflop:7.1f} {100 * figure.share_of_peak:6.0f}% {memory}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table and write the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--cases", choices=("paper", "all"), default="paper")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each variant")
    parser.add_argument("--seconds", type=float, default=2.0, help="of a turn")
    parser.add_argument("--output", type=Path, default=Path("benchmark-step.json"))
    options = parser.parse_args(argv)
    keep_memory()
    device = torch.device(options.device)
    machine = description(device)
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    print(f"{'case':46} {'variant':10} {'ms/step':>8} {'ratio':>6} {'GFLOP':>7} {'of peak':>7} {'MiB':>8}")
    figures = []
    for case in PAPER if options.cases == "paper" else ALL:
        for figure in measure(case, device, options.rounds, options.seconds):
            print(line(figure), flush=True)
            figures.append(asdict(figure))
    options.output.write_text(json.dumps({"machine": machine, "figures": figures}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
