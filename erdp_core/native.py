"""The library of the C++ files: built by a compiler the first time that a kind of processor needs it, then kept."""

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
import warnings
from pathlib import Path

from erdp_core.data.cache import cache_root

FOLDER = Path(__file__).parent
SOURCES = [FOLDER / "passes.cpp", FOLDER / "whole_networks.cpp"]
HEADERS = [FOLDER / "activations.h"]
FLAGS = ("-std=c++17", "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-shared", "-fPIC")


def compiler() -> list[str] | None:
    """The command of the first C++ compiler there is: $CXX, g++, clang++."""
    for command in (shlex.split(os.environ.get("CXX", "")), ["g++"], ["clang++"]):
        if command and shutil.which(command[0]):
            return command
    return None


@functools.cache
def library() -> ctypes.CDLL | None:
    """The library; None, with a warning where it could have been built, for a machine that must do without."""
    command = compiler()
    if command is None:
        return None
    try:
        try:
            return _load(command, cache_root() / "passes")
        except OSError:
            # A cache that cannot be written, or that nothing may be loaded from, is no reason to be slow.
            with tempfile.TemporaryDirectory() as folder:
                return _load(command, Path(folder))
    except (OSError, subprocess.CalledProcessError) as error:
        lines = str(getattr(error, "stderr", "") or error).splitlines()
        reason = next((line for line in lines if "error" in line), lines[0])
        warnings.warn(f"the passes over memory could not be compiled, steps take longer: {reason}", stacklevel=2)
        return None


def _load(command: list[str], folder: Path) -> ctypes.CDLL:
    """Load the library from a folder, built there if it is missing or damaged."""
    path = folder / f"{_kind(command)}.so"
    if path.exists():
        try:
            return ctypes.CDLL(str(path))
        except OSError:
            path.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as beside:
        made = Path(beside) / path.name
        build = [*command, *FLAGS, *map(str, SOURCES), "-o", str(made)]
        subprocess.run(build, check=True, capture_output=True, text=True)
        os.replace(made, path)
    return ctypes.CDLL(str(path))


def _kind(command: list[str]) -> str:
    """What the library depends on: its sources, the compiler and how it is called, the processor."""
    version = subprocess.run([*command, "--version"], check=True, capture_output=True, text=True).stdout
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    processor = [platform.machine(), *sorted({line for line in lines if line.startswith(("model name", "flags"))})]
    content = "\n".join([*(path.read_text() for path in (*SOURCES, *HEADERS)), *command, version, *FLAGS, *processor])
    return hashlib.sha256(content.encode()).hexdigest()[:16]
