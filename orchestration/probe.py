"""What a pack will cost: measured milliseconds a step, cached by shape and device, or an estimate from arithmetic."""

import json
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from orchestration.ledger import Ledger, LedgerError, read_json, write_json
from orchestration.plan import Pack

ASSUMED_GFLOPS = {"cpu": 40.0, "cuda": 5000.0}
"""GFLOP/s that an estimate without a probe assumes: of one core, of one GPU."""
WARM_UP, MEASURED = 5, 15
"""Steps of a probe."""


@dataclass(frozen=True)
class Cost:
    """Training of one pack, evaluation not counted."""

    milliseconds: float
    """of one step of all its runs"""
    measured: bool

    def hours(self, pack: Pack) -> float:
        """Of the whole training."""
        return self.milliseconds * pack.runs[0].config.trainer.steps / 3.6e6


def costs(packs: Sequence[Pack], ledger: Ledger, device: str, threads: int, probe: bool) -> list[Cost]:
    """Cost of each pack, in order; with `probe`, each shape is measured anew on this machine and remembered."""
    path = ledger.root / "probes.json"
    try:
        known: dict[str, Any] = read_json(path)
    except LedgerError:
        known = {}  # there is none, or it is damaged: it only saves measuring anew
    if probe:
        for key, pack in {_key(pack, device, threads): pack for pack in packs}.items():
            known[key] = _measure(pack, device, threads)
        write_json(path, known)
    found = []
    for pack in packs:
        measured = known.get(_key(pack, device, threads))
        rate = ASSUMED_GFLOPS[device] * (threads if device == "cpu" else 1)
        found.append(Cost(pack.step_gflop / rate * 1e3 if measured is None else measured, measured is not None))
    return found


def _key(pack: Pack, device: str, threads: int) -> str:
    """What a step's time depends on."""
    run = pack.runs[0]
    agent = run.config.to_dict()["agent"]
    shape = {
        name: agent.get(name)
        for name in ("M", "T", "width", "layers", "batch_size", "diffusion_loss", "max_q_backup", "max_q_actions")
    }
    sizes = [run.dataset["observation_size"], run.dataset["action_size"], len(pack.runs)]
    return json.dumps([run.method, shape, sizes, device, _device_name(device), threads], sort_keys=True)


def _device_name(device: str) -> str:
    if device == "cpu":
        return platform.processor() or platform.machine()
    import torch

    return torch.cuda.get_device_name()


def _measure(pack: Pack, device: str, threads: int) -> float:
    """Milliseconds of a training step on made-up data, the fastest of three rounds."""
    import torch

    from erdp_core.algorithms import Batch, make_algorithm, stream

    torch.set_num_threads(threads)
    run, runs = pack.runs[0], len(pack.runs)
    sizes = run.dataset["observation_size"], run.dataset["action_size"]
    algorithm = make_algorithm([run.config for run in pack.runs], [run.seed for run in pack.runs], *sizes, device)
    shape = (runs, run.config.agent.batch_size)
    batch = Batch(
        torch.randn(*shape, sizes[0], device=device),
        torch.rand(*shape, sizes[1], device=device) * 2 - 1,
        torch.randn(*shape, sizes[0], device=device),
        torch.randn(shape, device=device),
        torch.zeros(shape, device=device),
    )
    draws = [algorithm.draw_noise(stream(device, run.seed, "probe"), 1) for run in pack.runs]
    noise = {name: torch.stack([draw[name][0] for draw in draws]) for name in draws[0]}
    rounds = []
    for steps in (WARM_UP, MEASURED, MEASURED, MEASURED):
        started = time.perf_counter()
        for _ in range(steps):
            info = algorithm.update(batch, noise)
        next(iter(info.values())).tolist()  # waits for the device
        rounds.append((time.perf_counter() - started) / steps * 1e3)
    return min(rounds[1:])
