"""The README's commands, run as they stand but for what makes them small."""

import os
import re
import shlex
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import gymnasium
import h5py
import numpy as np
import psutil
import pytest

ROOT = Path(__file__).parents[1]
SMOKE = "--profile smoke"
# What makes a command small, and what it must print; for commands that are not run here, where they are.
COMMANDS = {
    "python -m erdp_core.data collect pointmaze-umaze": ("", "60000 rows"),
    "python -m erdp_core.data list": ("", "pointmaze-large"),
    "python orchestration/run_table.py --table pointmaze --profile quick --methods": (
        f"{SMOKE} --seeds 2",
        "| pointmaze",
    ),
    "python orchestration/run_table.py --table antmaze --dry-run": ("", "30 without data"),
    "python orchestration/run_table.py --table pointmaze --profile quick --seeds 0,1 --set": (
        f"{SMOKE} --seeds 0, --tasks pointmaze-umaze",
        "| pointmaze-umaze ",
    ),
    "python orchestration/run_table.py --table gym": (f"{SMOKE} --seeds 1 --set evaluation.episodes=1", "| hopper-"),
    "python results/make_tables.py": ("", "each run's last evaluation"),
    "python results/make_figures.py": ("", "curves.svg"),
    "python -m orchestration.tracking": ("", "MLflow has the "),
    "python orchestration/evaluate.py": ("--episodes 2", "medium.mp4"),
}
ELSEWHERE = {
    "make table": "test_makefile.py",
    "make test": ".ci/run",
    "make lint": ".ci/run",
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
    """Where the commands run: a small recording of Hopper stands in for the user's file."""
    folder = tmp_path_factory.mktemp("readme")
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


def test_the_commands_of_the_readme_run(folder: Path) -> None:
    environment = {
        **{name: value for name, value in os.environ.items() if name not in ("ERDP_LEDGER", "MLFLOW_TRACKING_URI")},
        "MINARI_DATASETS_PATH": str(folder / "minari"),
        "D4RL_DATASET_DIR": str(folder / "d4rl"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    for scripts in ("orchestration", "results"):
        (folder / scripts).symlink_to(ROOT / scripts)
    commands = shell_commands((ROOT / "README.md").read_text())
    # Data first: the README shows tables before it says where data come from.
    for command in sorted(commands, key=lambda command: " collect " not in command):
        if command.startswith(tuple(ELSEWHERE)):
            continue
        smaller, expected = next(value for start, value in COMMANDS.items() if command.startswith(start))
        words = [sys.executable, *shlex.split(command)[1:], *shlex.split(smaller)]
        if words[1].startswith("results/"):
            words += ["--out", "out"]
        result = subprocess.run(
            words, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL
        )
        assert result.returncode == 0, f"{command}\n{result.stderr}"
        assert expected in result.stdout, command
        assert "Traceback" not in result.stderr, result.stderr
    assert (folder / "medium.mp4").stat().st_size > 1000
    assert {path.suffix for path in (folder / "out").iterdir()} == {".md", ".csv", ".tex", ".png", ".svg"}

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


def healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
