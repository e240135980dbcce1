"""Place states of datasets in the plane by t-SNE, for Figure 7 of the paper: near one another, whatever they returned.

arXiv 2402.04080 shows 1,000 states of each task, coloured by the return of their trajectories.
"""

import hashlib
import json
import os
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version

import numpy as np
import torch
from sklearn.manifold import TSNE

from erdp_core.algorithms import Batch
from erdp_core.command_line import Parser, run
from erdp_core.data.load import SOURCES, load_dataset
from erdp_core.data.transitions import Dataset
from erdp_core.errors import UserError
from erdp_core.implicit_q import episode_numbers, episode_returns
from erdp_core.task_file import add_task_files
from erdp_core.tasks import TASKS, get_task
from orchestration.ledger import Ledger, Record
from orchestration.options import check_names, chosen_tasks, parse_files
from results.toy_figures import write_toy_figure

TOY = "states"
STATES = 1_000
PERPLEXITY = 30.0
EXAMPLES = """\
  python sweeps/embed_states.py --tasks hopper-medium-replay-v2 walker2d-medium-replay-v2
  python sweeps/embed_states.py --tasks pointmaze-medium --ledger runs"""


def command(argv: Sequence[str] | None) -> int:
    """Embed what the options name, unless the ledger has it, and draw it; returns 0."""
    parser = Parser(str(__doc__), EXAMPLES)
    parser.add_argument(
        "--task-file", nargs="+", action="extend", default=[], metavar="FILE.toml", help="your own tasks"
    )
    parser.add_argument("--tasks", nargs="+", required=True, metavar="TASK", help="whose data")
    parser.add_argument("--source", default="auto", help=f"where data come from: {', '.join(SOURCES)} (default: auto)")
    parser.add_argument(
        "--data", nargs="+", action="extend", default=[], metavar="TASK=FILE", help="a file in D4RL's HDF5 layout"
    )
    parser.add_argument(
        "--ledger", default=os.environ.get("ERDP_LEDGER") or "runs",
        help="where the numbers and the figure go (default: $ERDP_LEDGER, else runs under the current directory)",
    )  # fmt: skip
    arguments = parser.parse_args(argv)
    add_task_files(arguments.task_file)
    check_names("source", [arguments.source], SOURCES)
    tasks = chosen_tasks(arguments.tasks, tuple(TASKS), "the registry")
    files = parse_files(arguments.data, tasks)
    datasets = {task: load_dataset(get_task(task), arguments.source, files.get(task)) for task in tasks}
    for task, dataset in datasets.items():
        if len(dataset.transitions) <= PERPLEXITY:
            raise UserError(f"the data of {task} have {len(dataset.transitions)} states, t-SNE needs more than 30")
    ledger, name = Ledger.open(arguments.ledger, create=True), name_of(datasets)
    print(f"ledger: {ledger.root}")
    if name in ledger.toys():
        print(f"{name}: done before")
    else:
        embed(ledger, name, datasets)
    with ledger.writing():
        for path in write_toy_figure(ledger, name, ledger.root / "toys"):
            print(f"wrote {path}")
    return 0


def name_of(datasets: dict[str, Dataset]) -> str:
    """A name with a hash of all that the embedding depends on."""
    request = [[task, dataset.fingerprint] for task, dataset in datasets.items()] + [[STATES, PERPLEXITY]]
    return f"{TOY}-{hashlib.sha256(json.dumps(request).encode()).hexdigest()[:6]}"


def embed(ledger: Ledger, name: str, datasets: dict[str, Dataset]) -> None:
    """Keep, for each task, `places` [K, 2] and `returns` [K] of K of its states, drawn without replacement."""
    started = time.monotonic()
    arrays = {}
    for task, dataset in datasets.items():
        data = dataset.transitions
        count = min(STATES, len(data))
        rows = np.sort(np.random.default_rng(0).choice(len(data), count, replace=False))
        states = data.observations[rows].astype(np.float64)
        spread = states.std(axis=0)
        # A coordinate in metres would otherwise outweigh the angles.
        scaled = (states - states.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
        arrays[f"{task}/places"] = TSNE(perplexity=PERPLEXITY, random_state=0).fit_transform(scaled).astype(np.float32)
        columns = (data.observations, data.actions, data.next_observations, data.rewards, data.terminals)
        batch = Batch(*(torch.from_numpy(np.asarray(column)) for column in columns))
        arrays[f"{task}/returns"] = episode_returns(batch)[episode_numbers(batch)[rows]].numpy()
        print(f"[{time.monotonic() - started:.0f} s] {task}: {count:,} states", flush=True)
    record: Record = {
        "toy": TOY,
        "tasks": list(datasets),
        "variants": [],
        "seconds": round(time.monotonic() - started, 1),
        "caption": [
            f"Up to {STATES:,} states of each task's data ("
            + "; ".join(f"{task}: {one.source}, {one.fingerprint}" for task, one in datasets.items())
            + f"), each coordinate scaled to a standard deviation of 1, placed by t-SNE (perplexity {PERPLEXITY:g}); "
            "colour: return, as recorded, of the episode that a state is from."
        ],
        "versions": {package: version(package) for package in ("erdp-bench", "scikit-learn", "numpy")},
    }
    with ledger.writing():
        ledger.write_toy(name, record, arrays)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 2 bad usage."""
    return run(command, argv, "nothing was kept: the same command begins anew")


if __name__ == "__main__":
    sys.exit(main())
