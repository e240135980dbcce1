"""The README's commands, run as they stand but for what makes them small."""

import functools
import http.server
import os
import re
import shlex
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import gymnasium
import h5py
import numpy as np
import psutil
import pytest

from erdp_core.tasks import table_tasks
from tests.orchestration.stand_in_data import write_stand_ins

ROOT = Path(__file__).parents[1]
SMOKE = "--profile smoke"
# What makes a command small, and what it must print; for commands that are not run here, where they are.
COMMANDS = {
    "python -m erdp_core.data collect pointmaze-umaze": ("--rows 6000", "6000 rows"),
    "python -m erdp_core.data collect antmaze-umaze-v0": ("--rows 400", "antmaze-medium-play-v0: 400 rows"),
    "python -m erdp_core.data collect --environment Hopper-v5": ("--rows 400", "400 rows"),
    "python -m erdp_core.data download antmaze": ("", "antmaze-large-diverse-v0"),
    "python -m erdp_core.data verify": ("", "antmaze-large-diverse-v0"),
    "python -m erdp_core.data import-d4rl pen-human-v1": ("", "pen-human-v1"),
    "python -m erdp_core.data list": ("", "pointmaze-large"),
    "python orchestration/run_table.py --table pointmaze --profile quick --methods": (
        f"{SMOKE} --seeds 2",
        "| pointmaze",
    ),
    "python orchestration/run_table.py --table all --dry-run": ("", "100 runs (20 tasks"),
    "python orchestration/run_table.py --task-file my_task.toml": (f"{SMOKE} --seeds 1", "| my-hopper-v0 "),
    "python orchestration/run_table.py --table pointmaze --profile quick --seeds 0,1 --set": (
        f"{SMOKE} --seeds 0, --tasks pointmaze-umaze",
        "| pointmaze-umaze ",
    ),
    "python orchestration/run_table.py --table gym": (f"{SMOKE} --seeds 1 --set evaluation.episodes=1", "| hopper-"),
    "python sweeps/run_ablation.py --ablation diffusion-ql-steps": ("", "60 runs (3 tasks x 4 methods x 5 seeds)"),
    "python sweeps/run_ablation.py --ablation parts": (
        f"{SMOKE} --seeds 0, --tasks pointmaze-large",
        "| pointmaze-large ",
    ),
    "python sweeps/tune_alpha.py": (f"{SMOKE} --trials 2 --seeds 1 --tuning-seeds 100,", "the search took"),
    "python sweeps/toys.py --toy two-steps": ("--steps 20", "toys/two-steps-"),
    "python sweeps/toys.py --toy bandit-corners": ("--steps 20", "toys/bandit-corners-"),
    "python results/make_tables.py --table pointmaze": ("", "each run's last evaluation"),
    "python results/make_tables.py --table 7": ("", "as printed in arXiv 2402.04080"),
    "python results/make_figures.py --table pointmaze": ("", "curves.svg"),
    "python results/make_figures.py --figure 1": ("", "figure-1.svg"),
    "python results/explain.py": ("", "pointmaze-medium, erdp of pointmaze-smoke"),
    "python results/make_report.py": ("", "report.html"),
    "python -m orchestration.tracking": ("", "MLflow has the "),
    "python orchestration/evaluate.py": ("--episodes 2", "medium.mp4"),
}
ELSEWHERE = {
    "make table": "test_makefile.py",
    "make test": ".ci/run",
    "make lint": ".ci/run",
    "make benchmark": "tests/benchmarks/test_benchmarks.py",
    "python -m tests.benchmarks.": "tests/benchmarks",
    "source ": "changes nothing",
    "mlflow ui ": "below, as a server",
}


def shell_commands(text: str) -> list[str]:
    """Commands of a text's bash blocks: continued lines joined, comments left out."""
    blocks = re.findall(r"^ *```bash\n(.*?)^ *```", text, flags=re.DOTALL | re.MULTILINE)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    commands = (" ".join(re.sub(r"(^|\s)#.*", "", line).split()) for line in lines)
    return [command for command in commands if command]


def test_commands_of_a_text() -> None:
    text = "```bash\n# first\nmake table   # minutes\npython x.py \\\n    --seeds 3\n```\n```text\nnot this\n```\n"
    assert shell_commands(text) == ["make table", "python x.py --seeds 3"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the commands run, with what the user brings: policies, a task, D4RL's files here and on a mirror."""
    folder = tmp_path_factory.mktemp("readme")
    write_stand_ins(folder / "mirror", table_tasks("antmaze"))
    write_stand_ins(folder, ["pen-human-v1"])
    [own_task] = re.findall(r"^```toml\n(.*?)^```", (ROOT / "README.md").read_text(), flags=re.DOTALL | re.MULTILINE)
    (folder / "my_task.toml").write_text(own_task)
    np.savez(folder / "hopper.npz", w0=np.ones((3, 11)), b0=np.zeros(3), **scales(11, 3))
    np.savez(folder / "ant.npz", w0=np.ones((8, 29)), b0=np.zeros(8), **scales(29, 8))
    environment = gymnasium.make("Hopper-v5")
    environment.action_space.seed(0)
    observation, _ = environment.reset(seed=0)
    rows: dict[str, list[object]] = {
        name: [] for name in ("observations", "actions", "rewards", "terminals", "timeouts")
    }
    for _ in range(600):
        action = environment.action_space.sample()
        after, reward, terminated, truncated, _ = environment.step(action)
        for name, value in zip(rows, (observation, action, reward, terminated, truncated), strict=True):
            rows[name].append(value)
        observation = environment.reset()[0] if terminated or truncated else after
    with h5py.File(folder / "hopper.hdf5", "w") as file:
        file.attrs["environment"] = "Hopper-v5"
        for name, values in rows.items():
            file[name] = np.array(values, dtype=bool if name in ("terminals", "timeouts") else np.float32)
    return folder


def scales(observation_size: int, action_size: int) -> dict[str, np.ndarray]:
    """What a policy's file has beside its layers: inputs made small, so that actions are."""
    return {
        "in_shift": np.zeros(observation_size),
        "in_scale": np.full(observation_size, 100.0),
        "out_shift": np.zeros(action_size),
        "out_scale": np.ones(action_size),
    }


@pytest.fixture(scope="module")
def mirror(folder: Path) -> Iterator[str]:
    """Address of a server that has D4RL's files."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder / "mirror")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def test_the_commands_of_the_readme_run(folder: Path, mirror: str) -> None:
    environment = {
        **{name: value for name, value in os.environ.items() if name not in ("ERDP_LEDGER", "MLFLOW_TRACKING_URI")},
        "MINARI_DATASETS_PATH": str(folder / "minari"),
        "D4RL_DATASET_DIR": str(folder / "d4rl"),
        "ERDP_D4RL_MIRRORS": mirror,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    for scripts in ("orchestration", "results", "sweeps"):
        (folder / scripts).symlink_to(ROOT / scripts)
    commands = shell_commands((ROOT / "README.md").read_text())
    # PointMaze's data first: the README shows tables before it says where data come from.
    for command in sorted(commands, key=lambda command: " collect pointmaze" not in command):
        if command.startswith(tuple(ELSEWHERE)):
            continue
        smaller, expected = next(value for start, value in COMMANDS.items() if command.startswith(start))
        words = [sys.executable, *changed(shlex.split(command)[1:], shlex.split(smaller))]
        if words[1].startswith("results/make_"):
            words += ["--out", "out"]
        result = subprocess.run(
            words, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL
        )
        assert result.returncode == 0, f"{command}\n{result.stderr}"
        assert expected in result.stdout, command
        assert "Traceback" not in result.stderr, result.stderr
    assert (folder / "medium.mp4").stat().st_size > 1000
    assert {path.suffix for path in (folder / "out").iterdir()} == {".md", ".csv", ".tex", ".png", ".svg", ".html"}

    command = next(command for command in commands if command.startswith("mlflow ui "))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [
        str(Path(sys.executable).parent / "mlflow"),
        *shlex.split(command)[1:],
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    server = subprocess.Popen(words, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while not healthy(port):
            assert server.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.5)
    finally:
        for process in [*psutil.Process(server.pid).children(recursive=True), server]:
            process.terminate()
        server.wait(30)


def changed(words: list[str], options: list[str]) -> list[str]:
    """A command with other options, each in the place of its own; what --set sets is added."""
    replaced = {option for option in options if option.startswith("--") and option != "--set"}
    kept, skipping = [], False
    for word in words:
        skipping = word in replaced or (skipping and not word.startswith("--"))
        if not skipping:
            kept.append(word)
    return [*kept, *options]


def healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
