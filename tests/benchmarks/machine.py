"""What the machine can do, measured beside what is timed on it: product peak, load, memory of a call."""

import contextlib
import ctypes
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch

M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8
"""glibc's malloc.h"""


def synchronise(device: torch.device) -> None:
    """Wait for what was launched."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def product_peak(device: torch.device, dtype: torch.dtype, seconds: float = 0.3) -> float:
    """GFLOP/s of the fastest of a few large products, repeated for about so many seconds each."""
    best = 0.0
    sizes = (1024, 2048) if device.type == "cpu" else (4096, 8192)
    for size in sizes:
        a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        out = torch.empty_like(a)
        torch.mm(a, b, out=out)
        synchronise(device)
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            started = time.perf_counter()
            torch.mm(a, b, out=out)
            synchronise(device)
            best = max(best, 2e-9 * size**3 / (time.perf_counter() - started))
    return best


def keep_memory() -> None:
    """Have what is freed be kept for what is allocated next, where the C library can.

    Otherwise each large tensor comes as fresh pages from the system: a cost that depends on the machine's load, and
    that the published structure, which allocates all the time, would pay alone.
    """
    with contextlib.suppress(OSError, AttributeError):
        set_option = ctypes.CDLL("libc.so.6").mallopt
        for option, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_ARENA_MAX, 1)):
            set_option(option, value)


def peak_memory(call: Callable[[], object], device: torch.device) -> float | None:
    """MiB that a call takes at its peak beyond what is held before it; None where the system does not tell."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        synchronise(device)
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before = _status_kib("VmRSS")
        call()
        return (_status_kib("VmHWM") - before) / 2**10
    except OSError:
        return None


def _status_kib(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1])


def description(device: torch.device) -> dict[str, object]:
    """What a reader needs to know of the machine."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        cpuinfo = Path("/proc/cpuinfo")
        lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
        models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        name = models[0] if models else platform.processor() or platform.machine()
    return {
        "device": name,
        "threads": torch.get_num_threads(),
        "cores": len(os.sched_getaffinity(0)),
        "load": [round(value, 2) for value in os.getloadavg()],
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
