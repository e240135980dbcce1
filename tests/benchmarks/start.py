"""Seconds from a trial's fresh process to its first training step, phase by phase; the fastest of a few processes.

    python -m tests.benchmarks.start

`first` is the first process of a machine: it reads the data's file and compiles what is compiled; `again` is any later
one. The data are made up, as large as AntMaze's: a million rows of 29 observations and 8 actions, in D4RL's layout.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

TASK = "antmaze-umaze-v0"


def child(path: Path) -> None:
    """What a trial's process does, timed; prints a JSON object."""
    phases = {}
    since = time.time()

    def end(phase: str) -> None:
        nonlocal since
        now = time.time()
        phases[phase] = now - since
        since = now

    phases["interpreter"] = since - float(os.environ["ERDP_STARTED"])
    import ray.tune  # noqa: F401  # every worker of Ray does

    end("ray and torch")
    import orchestration.trainable  # noqa: F401

    end("our modules")
    from erdp_core.config import resolve
    from erdp_core.data.load import load_dataset
    from erdp_core.tasks import get_task
    from erdp_core.trainer import Trainer

    dataset = load_dataset(get_task(TASK), "auto", path)
    end("data")
    config = resolve(get_task(TASK), "erdp", "quick", ("trainer.steps=1", "trainer.interval=1"))
    trainer = Trainer(get_task(TASK), dataset, [config], [0])
    end("networks")
    trainer.train_interval()
    end("first step")
    print(json.dumps(phases))


def process(path: Path, cache: Path) -> dict[str, float]:
    """Phases of one fresh process with such a cache."""
    environment = {**os.environ, "ERDP_CACHE_DIR": str(cache), "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor")}
    command = [sys.executable, "-m", "tests.benchmarks.start", "--child", str(path)]
    environment["ERDP_STARTED"] = str(time.time())
    output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    found: dict[str, float] = json.loads(output.splitlines()[-1])
    return found


def write_data(path: Path, rows: int) -> None:
    """Such as AntMaze's."""
    random = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        file["observations"] = random.normal(size=(rows, 29)).astype(np.float32)
        file["actions"] = random.uniform(-1, 1, size=(rows, 8)).astype(np.float32)
        file["rewards"] = np.zeros(rows, np.float32)
        file["terminals"] = np.zeros(rows, bool)
        file["timeouts"] = np.arange(rows) % 700 == 699


def main(argv: Sequence[str] | None = None) -> int:
    """Print both tables of phases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--processes", type=int, default=5, help="of each kind")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.child:
        child(options.child)
        return 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_data(folder / "data.hdf5", options.rows)
        kinds = {
            "first": [process(folder / "data.hdf5", folder / f"cache-{index}") for index in range(options.processes)],
            "again": [process(folder / "data.hdf5", folder / "cache-0") for _ in range(options.processes)],
        }
    best = {kind: min(found, key=lambda phases: sum(phases.values())) for kind, found in kinds.items()}
    print(f"{'':16}" + "".join(f"{kind:>8}" for kind in best))
    for phase in best["first"]:
        print(f"{phase:16}" + "".join(f"{phases[phase]:8.2f}" for phases in best.values()))
    print(f"{'in all':16}" + "".join(f"{sum(phases.values()):8.2f}" for phases in best.values()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
