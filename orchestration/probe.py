"""Measures the steps of packs of a shape: how long they take, and how many runs fit."""

import time
from collections.abc import Sequence

import torch

from erdp_core.algorithms import Batch, make_algorithm, stream
from erdp_core.step_loop import StepLoop
from orchestration.pack_work import free_memory, is_out_of_memory
from orchestration.plan import Run
from orchestration.step_cost import Measured, probed_sizes

ROWS = 10_000
"""Of made-up data."""
WARM_UP, ROUNDS, LEAST_STEPS, ROUND_SECONDS = 5, 3, 2, 0.3
"""Steps before the clock runs (a GPU records one); then so many rounds of so many steps, and of about so long."""


def measure(runs: Sequence[Run], device: str, threads: int) -> Measured:
    """Milliseconds of a step of packs of some of these runs, which have one shape; stops where they do not fit."""
    torch.set_num_threads(threads)
    found: Measured = {}
    for size in probed_sizes(len(runs)):
        try:
            found[size] = _milliseconds(runs[:size], device)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            found[size] = None
        free_memory()
        if found[size] is None:
            break
    return found


def _milliseconds(runs: Sequence[Run], device: str) -> float:
    """Of a training step on made-up data, the fastest of a few rounds."""
    run = runs[0]
    observation_size, action_size = run.dataset["observation_size"], run.dataset["action_size"]
    algorithm = make_algorithm(
        [one.config for one in runs], [one.seed for one in runs], observation_size, action_size, device
    )
    data = Batch(
        torch.randn(ROWS, observation_size, device=device),
        torch.rand(ROWS, action_size, device=device) * 2 - 1,
        torch.randn(ROWS, observation_size, device=device),
        torch.randn(ROWS, device=device),
        torch.zeros(ROWS, device=device),
    )
    generators = [stream(torch.device(device), one.seed, "probe") for one in runs]
    loop = StepLoop(algorithm, data, generators, run.config.agent.batch_size)

    def seconds(steps: int) -> float:
        started = time.perf_counter()
        loop.run(steps)
        return (time.perf_counter() - started) / steps

    seconds(WARM_UP)
    steps = max(LEAST_STEPS, round(ROUND_SECONDS / seconds(LEAST_STEPS)))
    return 1e3 * min(seconds(steps) for _ in range(ROUNDS))
