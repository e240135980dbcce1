"""Where the time of a training step goes, the published structure's and ours: torch's profile by kind of operation.

    python -m tests.benchmarks.breakdown                # Gym and AntMaze with M = 64, Gym with M = 4
    python -m tests.benchmarks.breakdown --device cuda

Milliseconds of an operation itself, what it calls left out, a step. The profiler makes steps longer by what it records.
"""

import argparse
import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from erdp_core.fused import Fused
from erdp_core.whole import WholeNetworks
from tests.benchmarks.machine import description, keep_memory, synchronise
from tests.benchmarks.step import ANTMAZE, HOPPER, Case, Ours, Published

CASES = (Case(HOPPER, loss="likelihood"), Case(ANTMAZE, max_q=True), Case(HOPPER, M=4))
KINDS = {
    "networks as a whole": ("whole_",),
    "products": ("bmm", "baddbmm", "mm", "addmm", "gemm", "cutlass"),
    "Mish": ("mish",),
    "Adam and averages": ("adam", "addcmul", "addcdiv", "lerp", "_foreach"),
    "memory: copies, new tensors, zeros": (
        "copy",
        "cat",
        "repeat",
        "index",
        "zero",
        "fill",
        "empty",
        "stack",
        "memcpy",
    ),
    "sums and means": ("sum", "mean", "var", "std", "norm", "max"),
    "arithmetic": (
        "add",
        "sub",
        "mul",
        "div",
        "pow",
        "sqrt",
        "clamp",
        "where",
        "neg",
        "abs",
        "exp",
        "cos",
        "sin",
        "elementwise",
    ),
    "random numbers": ("randn", "normal", "randint", "random", "rand"),
    "waiting for a number": ("local_scalar", "item"),
}
"""By what the name of an operation begins with, or has in it on a GPU; the first kind that fits."""
OTHER = "everything else"


def kind_of(name: str) -> str:
    """The kind of an operation."""
    plain = name.removeprefix("aten::").lower()
    for kind, beginnings in KINDS.items():
        if any(plain.startswith(beginning) for beginning in beginnings):
            return kind
    if not name.startswith("aten::"):
        for kind, parts in KINDS.items():
            if any(part in plain for part in parts):
                return kind
    return OTHER


@contextlib.contextmanager
def own_passes_recorded() -> Iterator[None]:
    """Within it the profiler sees the passes that are not torch's."""
    whole_call, fused_call = WholeNetworks._call, Fused.__call__

    def whole(self: WholeNetworks, name: str, *operands: Any) -> None:
        with record_function(name):
            whole_call(self, name, *operands)

    def fused(self: Fused, *arguments: torch.Tensor) -> None:
        with record_function(self.name):
            fused_call(self, *arguments)

    with mock.patch.object(WholeNetworks, "_call", whole), mock.patch.object(Fused, "__call__", fused):
        yield


def breakdown(contender: Ours | Published, steps: int, device: torch.device) -> dict[str, float]:
    """Milliseconds a step of each kind, the longest first."""
    contender.steps(3)
    synchronise(device)
    activities = [ProfilerActivity.CUDA if device.type == "cuda" else ProfilerActivity.CPU]
    with own_passes_recorded(), profile(activities=activities) as profiled:
        contender.steps(steps)
        synchronise(device)
    found: dict[str, float] = {}
    for event in profiled.key_averages():
        microseconds = event.self_device_time_total if device.type == "cuda" else event.self_cpu_time_total
        kind = kind_of(event.key)
        found[kind] = found.get(kind, 0.0) + microseconds / steps / contender.runs / 1e3
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def main(argv: Sequence[str] | None = None) -> int:
    """Print a table for each case and write the numbers as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--steps", type=int, default=5, help="that are profiled")
    parser.add_argument("--output", type=Path, default=Path("benchmark-breakdown.json"))
    options = parser.parse_args(argv)
    keep_memory()
    device = torch.device(options.device)
    machine = description(device)
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    figures = []
    for case in CASES:
        published = breakdown(Published(case, device), options.steps, device)
        ours = breakdown(Ours(case, device, compiled=True), options.steps, device)
        print(f"\n{case.task}, M = {case.M}{', max-Q' if case.max_q else ''}: milliseconds a step")
        print(f"{'':36} {'published':>10} {'ours':>10}")
        for kind in [*published, *(kind for kind in ours if kind not in published)]:
            print(f"{kind:36} {published.get(kind, 0):10.2f} {ours.get(kind, 0):10.2f}")
        print(f"{'in all':36} {sum(published.values()):10.2f} {sum(ours.values()):10.2f}", flush=True)
        figures.append({"case": asdict(case), "published": published, "ours": ours})
    options.output.write_text(json.dumps({"machine": machine, "figures": figures}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
