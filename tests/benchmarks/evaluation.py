"""Milliseconds of a decision in an evaluation: one state at a time as published, and ours, all episodes together.

    python -m tests.benchmarks.evaluation                # AntMaze, 100 episodes, M = 4 and 64
    python -m tests.benchmarks.evaluation --device cuda

Both choose among the same number of candidates and step the same environments; the networks are as initialised, so that
no episode ends early. A decision is one step of one episode, acting and environment together, its share of the reset
included. A turn of one takes as long as a turn of the other, so that neither has the shorter moments to choose the best
from. What the environment takes of the published loop's time is measured on its own.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gymnasium
import torch

from erdp_core.agent import ERDP
from erdp_core.algorithms import make_algorithm
from erdp_core.config import resolve
from erdp_core.environments.make import make_environment
from erdp_core.evaluation import evaluate
from erdp_core.tasks import get_task
from tests.benchmarks.machine import description, keep_memory, product_peak, synchronise
from tests.benchmarks.published import PublishedERDP

TASK = "antmaze-medium-play-v0"
AS_FAST = 4
"""About how many times as fast ours is: so many episodes fewer the published loop has in its turn."""


@dataclass(frozen=True)
class Figure:
    """One size of the ensemble."""

    M: int
    episodes: int
    candidates: int
    published_milliseconds: float
    """Of a decision."""
    environment_milliseconds: float
    """Of stepping the environment alone, on one core."""
    milliseconds: float
    """Ours."""
    ratio: float
    gflop: float
    """Of a decision's matrix products."""
    share_of_peak: float
    """Of the products' peak measured in the same run."""


def environments(count: int, steps: int) -> list[gymnasium.Env[Any, Any]]:
    """The task's, each episode cut after so many steps."""
    spec = get_task(TASK).environment
    return [gymnasium.wrappers.TimeLimit(make_environment(spec), steps) for _ in range(count)]


def decision_gflop(agent: ERDP) -> float:
    """Matrix products of choosing one action: the chain of every candidate, then the ensemble on each."""
    config, sizes = agent.config, (agent.critics.ensemble.observation_size, agent.policy.action_size)
    hidden = (config.layers - 1) * config.width**2
    # What depends on the state alone is multiplied once a decision and not counted.
    actor = 2 * (sizes[1] * config.width + hidden + config.width * sizes[1])
    critic = 2 * config.M * (sizes[1] * config.width + hidden + config.width)
    return config.candidates * (config.T * actor + critic) / 1e9


def measure(M: int, episodes: int, steps: int, rounds: int, device: torch.device) -> Figure:
    """Published and ours in turns; the best round of each."""
    config = resolve(get_task(TASK), "erdp", "paper", [f"agent.M={M}"])
    envs = environments(episodes, steps)
    sizes = envs[0].observation_space.shape, envs[0].action_space.shape
    assert sizes[0] is not None
    assert sizes[1] is not None
    ours = make_algorithm([config], [0], sizes[0][0], sizes[1][0], device)
    assert isinstance(ours, ERDP)
    published = PublishedERDP(ours)

    in_turn = max(1, episodes // AS_FAST)

    def one_at_a_time() -> float:
        started = time.perf_counter()
        for episode in range(in_turn):
            observation, _ = envs[episode].reset(seed=episode)
            for _ in range(steps):
                observation, *_ = envs[episode].step(published.act(observation))
        return (time.perf_counter() - started) / steps / in_turn

    def environment_alone() -> float:
        action = envs[0].action_space.sample()
        started = time.perf_counter()
        for episode in range(in_turn):
            envs[episode].reset(seed=episode)
            for _ in range(steps):
                envs[episode].step(action)
        return (time.perf_counter() - started) / steps / in_turn

    def together() -> float:
        started = time.perf_counter()
        evaluate(ours, [envs], [0], 0, config.agent.candidates, [True])
        synchronise(device)
        return (time.perf_counter() - started) / steps / episodes

    ours.act(torch.zeros(1, 1, sizes[0][0], device=device), _noise(ours))  # compiles
    best = {name: float("inf") for name in ("published", "environment", "ours")}
    peak = 0.0
    for _ in range(rounds):
        peak = max(peak, product_peak(device, torch.float32))
        for name, run in (("published", one_at_a_time), ("environment", environment_alone), ("ours", together)):
            best[name] = min(best[name], run())
    gflop = decision_gflop(ours)
    return Figure(
        M,
        episodes,
        ours.config.candidates,
        1e3 * best["published"],
        1e3 * best["environment"],
        1e3 * best["ours"],
        best["published"] / best["ours"],
        gflop,
        gflop / best["ours"] / peak,
    )


def _noise(agent: ERDP) -> dict[str, torch.Tensor]:
    drawn = agent.draw_acting_noise(torch.Generator(agent.device), 1, agent.candidates)
    return {name: value.unsqueeze(0) for name, value in drawn.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table and write the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--members", type=int, nargs="+", default=[4, 64], metavar="M")
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--steps", type=int, default=20, help="of an episode")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--output", type=Path, default=Path("benchmark-evaluation.json"))
    options = parser.parse_args(argv)
    keep_memory()
    device = torch.device(options.device)
    machine = description(device)
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    print(f"{'M':>3} {'published':>10} {'its environment':>16} {'ours':>8} {'ratio':>6} {'GFLOP':>6} {'of peak':>7}")
    figures = []
    for M in options.members:
        figure = measure(M, options.episodes, options.steps, options.rounds, device)
        print(
            f"{M:3} {figure.published_milliseconds:7.2f} ms {figure.environment_milliseconds:13.2f} ms "
            f"{figure.milliseconds:5.2f} ms {figure.ratio:6.1f} {figure.gflop:6.3f} {100 * figure.share_of_peak:6.0f}%",
            flush=True,
        )
        figures.append(asdict(figure))
    options.output.write_text(json.dumps({"machine": machine, "figures": figures}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
