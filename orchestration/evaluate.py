"""Evaluate a finished run's policy on fresh episodes, and film one of them."""

import argparse
import difflib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from erdp_core.command_line import Parser, run
from erdp_core.errors import UserError
from erdp_core.tasks import Task
from orchestration.ledger import Ledger, LedgerError, Record, RunFolder

if TYPE_CHECKING:
    from erdp_core.algorithms import Algorithm
    from erdp_core.evaluation import Environment
    from orchestration.plan import Run

EXAMPLES = """\
  python orchestration/evaluate.py pointmaze-umaze.erdp.seed0
  python orchestration/evaluate.py hopper-medium-v2.erdp.seed3 --episodes 20 --policy last --video hopper.mp4"""

FRESH = 0
"""Step that the fresh episodes are drawn for. Training evaluates after an interval at the earliest, so none of its
seeds, whatever the run's, is ever used here."""
SHOWN_MATCHES = 8


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read and check the options. Raises UserError for numbers out of range."""
    parser = Parser(__doc__ or "", EXAMPLES)
    parser.add_argument("run", metavar="RUN", help="a run's id, or a part of it that no other run has")
    parser.add_argument("--episodes", type=int, default=100, metavar="N", help="how many (default: 100)")
    parser.add_argument(
        "--policy", choices=("best", "last"), default="best",
        help="that of the best evaluation in training, or of the last (default: best)",
    )  # fmt: skip
    parser.add_argument("--candidates", type=int, metavar="N", help="actions to choose from (default: the run's)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the episodes (default: 0)")
    parser.add_argument(
        "--ledger", default=os.environ.get("ERDP_LEDGER") or "runs",
        help="folder of the runs (default: $ERDP_LEDGER, else runs under the current directory)",
    )  # fmt: skip
    parser.add_argument("--video", type=Path, metavar="FILE.mp4", help="film the first episode")
    options = parser.parse_args(argv)
    for name, low, high in (("episodes", 1, 10_000), ("candidates", 1, 10_000), ("seed", 0, 2**31 - 1)):
        value = getattr(options, name)
        if value is not None and not low <= value <= high:
            raise UserError(f"--{name} is from {low} to {high}, not {value}")
    if not options.run:
        raise UserError("name a run: its id, or a part of it")
    return options


def find_run(ledger: Ledger, name: str) -> RunFolder:
    """The run of that id, else the only one that has `name` in its id.

    Raises UserError where there is none (the nearest is named) or more than one (they are listed).
    """
    runs = {folder.run_id: folder for folder in ledger.runs()}
    if name in runs:
        return runs[name]
    if not runs:
        raise UserError(f"the ledger {ledger.root} has no run yet: train a table first, or name another with --ledger")
    matches = [run_id for run_id in runs if name in run_id]
    if not matches:
        nearest = difflib.get_close_matches(name, runs, n=1, cutoff=0.0)[0]
        raise UserError(f"no run {name!r} in {ledger.root}: did you mean {nearest!r}?")
    if len(matches) > 1:
        more = f" and {len(matches) - SHOWN_MATCHES} more" if len(matches) > SHOWN_MATCHES else ""
        raise UserError(f"{name!r} is part of {len(matches)} runs: {', '.join(matches[:SHOWN_MATCHES])}{more}")
    return runs[matches[0]]


def read_record(folder: RunFolder) -> Record:
    """What a finished run is. Raises UserError where it is not finished, LedgerError where its record is damaged."""
    if folder.status != "finished":
        failure = folder.failure()
        why = f"failed ({failure['reason']})" if failure else "is not finished: run its table again to go on with it"
        raise UserError(f"run {folder.run_id} {why}")
    return folder.record()


def load_policy(folder: RunFolder, which: str, run: "Run", device: str) -> tuple["Algorithm", int]:
    """The run's algorithm with the best or the last of its policies, and that policy's step.

    Raises LedgerError where the policy is missing or damaged.
    """
    from erdp_core.algorithms import make_algorithm
    from erdp_core.trainer import unpack_state

    step = folder.best_step() if which == "best" else run.config.trainer.steps
    content = None if step is None else folder.policies.read(step)
    if step is None or content is None:
        other = "last" if which == "best" else "best"
        raise LedgerError(
            f"the {which} policy of run {folder.run_id} is missing or damaged: try --policy {other}, "
            "or delete the run's folder and train it anew"
        )
    sizes = run.dataset["observation_size"], run.dataset["action_size"]
    algorithm = make_algorithm([run.config], [run.seed], *sizes, device)
    algorithm.load_policy_state(0, unpack_state(content))
    return algorithm, step


def summary(task: Task, returns: npt.NDArray[np.float64]) -> list[str]:
    """Lines about the returns [E] of the episodes: mean and sample standard deviation, as return and as score."""
    scores = np.array([task.score(float(episode)) for episode in returns])
    count = len(returns)
    lines = []
    for what, values, digits in (("return", returns, 3), ("score", scores, 1)):
        spread = f", sample std {values.std(ddof=1):.{digits}f} over" if count > 1 else " of"
        lines.append(f"{what}: mean {values.mean():.{digits}f}{spread} {count} episode{'s' if count > 1 else ''}")
    if (task.reference_min, task.reference_max) == (0.0, 1.0) and np.isin(returns, (0.0, 1.0)).all():
        lines.append(f"successes: {int(returns.sum())} of {count}")
    return lines


def command(argv: Sequence[str] | None) -> int:
    """Run the command line; returns 0."""
    options = parse(argv)
    if options.video is not None:
        from erdp_core.video import check_target

        check_target(options.video)
    ledger = Ledger.open(options.ledger)
    folder = find_run(ledger, options.run)
    record = read_record(folder)

    mujoco_version = import_mujoco()
    import torch

    from erdp_core.environments.make import make_environment
    from erdp_core.evaluation import evaluate
    from erdp_core.video import EpisodeRecorder, record_video
    from orchestration.plan import Run

    one = Run.from_record(record)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    algorithm, step = load_policy(folder, options.policy, one, device)
    candidates = options.candidates or algorithm.candidates
    if candidates > 1 and not hasattr(one.config.agent, "candidates"):
        raise UserError(f"{one.method} acts by one sample, it has nothing to choose by: leave --candidates out")

    print(f"ledger: {ledger.root}")
    print(f"run: {folder.run_id}")
    print(f"policy: {options.policy}, step {step} of {one.config.trainer.steps}")
    print(f"environment: {one.environment.name}, mujoco {mujoco_version}")
    trained_with = record["versions"]["mujoco"]
    if trained_with != mujoco_version:
        print(
            f"warning: the run was evaluated with mujoco {trained_with}, not {mujoco_version}: returns may differ",
            file=sys.stderr,
        )
    print(f"episodes: {options.episodes}, seed {options.seed}, candidates {candidates}, on {device}", flush=True)

    film = EpisodeRecorder(make_environment(one.environment))
    environments: list[Environment] = [film]
    environments += [make_environment(one.environment) for _ in range(options.episodes - 1)]
    returns = evaluate(algorithm, [environments], [options.seed], FRESH, candidates, [True])[0]
    for line in summary(one.task, returns):
        print(line)
    if options.video is not None:
        print(f"filming the first episode: {len(film.actions)} steps, return {returns[0]:.3f}", flush=True)
        record_video(one.environment, film, options.video)
        print(f"video: {options.video.absolute()}")
    return 0


def import_mujoco() -> str:
    """Import mujoco, whatever MUJOCO_GL says: evaluating draws nothing. Returns its version."""
    wanted = os.environ.get("MUJOCO_GL")
    os.environ["MUJOCO_GL"] = "disable"
    try:
        import mujoco
    finally:
        if wanted is None:
            del os.environ["MUJOCO_GL"]
        else:
            os.environ["MUJOCO_GL"] = wanted
    return str(mujoco.__version__)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    return run(command, argv, "no episode of it is kept")


if __name__ == "__main__":
    sys.exit(main())
