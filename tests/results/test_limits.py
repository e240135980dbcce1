"""Tables and the report of a ledger of a thousand runs: time, memory, and that neither torch nor ray is loaded."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from erdp_core.agent_configs import METHODS
from erdp_core.tasks import TABLES

EVALUATIONS = 20
EPISODES = 100
SEEDS = range(5)
MEASURED = """
import importlib, json, re, sys, time
module, *arguments = sys.argv[1:]
status = importlib.import_module(module).main(arguments)
# This process's own peak; that of getrusage is at least its parent's.
[peak] = re.findall(r"VmHWM:\\s*(\\d+) kB", open("/proc/self/status").read())
print(json.dumps({
    "status": status,
    "seconds": time.process_time(),
    "gibibytes": int(peak) / 2**20,
    "loaded": [name for name in ("torch", "ray", "mlflow", "optuna") if name in sys.modules],
}))
"""


@pytest.fixture
def thousand(maker: Any) -> Any:
    """20 tasks, 10 methods, 5 seeds, 20 evaluations each of 100 episodes in two ways."""
    returns = [0.123456789] * EPISODES
    for place, task in enumerate(TABLES["all"]):
        for rank, method in enumerate(list(METHODS)[:10]):
            for seed in SEEDS:
                run = maker.run(task, method, seed, status="started", source="d4rl", profile="paper")
                config = run.record()["config"]["trainer"]
                height = 20 + 3 * place + 2 * rank + seed
                evaluations, training = [], []
                for number in range(1, EVALUATIONS + 1):
                    step, score = number * config["interval"], height * number / EVALUATIONS
                    single = {"score": score / 2, "returns": returns}
                    evaluations.append(
                        {"step": step, "score": score, "returns": returns, "seconds": 1.0, "one_candidate": single}
                    )
                    training.append(
                        {"step": step, "seconds": 60.0, "steps_per_second": 9.0, "losses": {"diffusion_loss": 1 / step}}
                    )
                # Written whole, as flushing each of 40,000 lines to disk would take minutes.
                for name, lines in (("evaluations", evaluations), ("training", training)):
                    (run.path / f"{name}.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
                run.finish({"step": config["steps"]})
    maker.plan("all", table="all", profile="paper", source="d4rl")
    return maker


def test_a_thousand_runs(thousand: Any, tmp_path: Path) -> None:
    """Limits on a quiet machine, held here as processor time."""
    places = ["--ledger", str(thousand.ledger.root), "--out", str(tmp_path / "out")]
    commands = {
        "results.make_tables": ["--table", "all"],
        "results.make_tables of the paper": ["--table", "1"],
        "results.make_report": [],
    }
    for name, arguments in commands.items():
        done = subprocess.run(
            [sys.executable, "-c", MEASURED, name.partition(" ")[0], *arguments, *places],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        measured = json.loads(done.stdout.splitlines()[-1])
        print(f"{name}: {measured['seconds']:.1f} s, {measured['gibibytes']:.2f} GiB")
        assert measured["status"] == 0
        assert measured["seconds"] < 10
        assert measured["gibibytes"] < 1
        assert measured["loaded"] == []
    page = (tmp_path / "out" / "report.html").read_text()
    assert "1,000 runs: 1,000 finished" in page
