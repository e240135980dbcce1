"""What stands behind one cell of a table: its runs, their data and settings, every evaluation, every protocol."""

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from erdp_core.command_line import Parser, counted, run
from erdp_core.config import PROTOCOLS
from erdp_core.errors import UserError, suggestion
from orchestration.ledger import Ledger, Record
from results.command_line import matching_plans
from results.estimators import cell_statistics, check_protocol
from results.frames import read_plan
from results.matching import FinishedRun
from results.tables import number

EXAMPLES = """\
  python results/explain.py pointmaze pointmaze-medium erdp
  python results/explain.py ablation-alpha pointmaze-medium "erdp, alpha = 0.1" --protocol last-k"""
LEVELS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Cell:
    """A cell of a plan: its finished runs, and why the others do not count."""

    plan: str
    task: str
    method: str
    protocol: str
    runs: tuple[FinishedRun, ...]
    gaps: tuple[tuple[int, str], ...]
    """Seed and reason."""


def find(ledger: Ledger, plan: str, task: str, method: str, protocol: str | None) -> Cell:
    """A cell of a plan. Raises UserError for a task or method that the plan has not, with the nearest."""
    frames = read_plan(ledger, plan, ledger.plans()[plan])
    for what, name, valid in (("task", task, frames.plan["tasks"]), ("method", method, frames.plan["methods"])):
        if name not in valid:
            raise UserError(f"{plan} has no {what} {name!r}: {suggestion(name, valid)}")
    rows = frames.runs[(frames.runs["task"] == task) & (frames.runs["method"] == method)]
    counted_rows = rows[rows["gap"] == ""].sort_values("seed")
    folders = [ledger.run(run_id) for run_id in counted_rows["run_id"]]
    lacking = rows[rows["gap"] != ""].sort_values("seed")
    return Cell(
        plan,
        task,
        method,
        check_protocol(protocol or frames.plan["protocol"]),
        tuple(FinishedRun(folder, folder.record()) for folder in folders),
        tuple((int(seed), str(gap)) for seed, gap in zip(lacking["seed"], lacking["gap"], strict=True)),
    )


def account(cell: Cell) -> str:
    """All of it in words."""
    lines = [f"{cell.task}, {cell.method} of {cell.plan}"]
    scores = [score for one in cell.runs if (score := one.score(cell.protocol)) is not None]
    if scores:
        found = cell_statistics(scores)
        spread = "" if found.std is None else f" ± {number(found.std)}"
        interval = "" if found.low is None else f", 95% interval {number(found.low)} to {number(found.high or 0.0)}"
        lines.append(f"{number(found.mean)}{spread} ({found.n}){interval}, by protocol {cell.protocol}")
        lines.append(f"  {cell.protocol}: scores are {PROTOCOLS[cell.protocol]}")
    lines += [f"  seed {seed}: {gap}" for seed, gap in cell.gaps]
    for what, say in (("data", _data), ("evaluated in", _environment), ("settings", _settings), ("made by", _versions)):
        lines += _told(what, cell.runs, say)
    if cell.runs:
        lines += ["", *_by_protocol(cell.runs), "", *_curves(cell.runs)]
    return "\n".join(lines)


def _told(what: str, runs: Sequence[FinishedRun], say: Callable[[Record], str]) -> list[str]:
    """What the runs' records say, once where all say the same."""
    seeds_of: dict[str, list[str]] = {}
    for one in runs:
        seeds_of.setdefault(say(one.record), []).append(str(one.record["seed"]))
    if len(seeds_of) == 1:
        return [f"{what}: {next(iter(seeds_of))}"]
    return [f"{what} (seeds {', '.join(seeds)}): {text}" for text, seeds in seeds_of.items()]


def _data(record: Record) -> str:
    data = record["dataset"]
    notes = "".join(f"; {note.removesuffix('.')}" for note in data["notes"])
    return (
        f"{record['source']}, {counted(data['rows'], 'row')}, fingerprint {data['fingerprint']}, {data['path']}{notes}"
    )


def _environment(record: Record) -> str:
    options = ", ".join(f"{name}={value}" for name, value in record["environment"]["options"].items())
    mujoco = record["versions"].get("mujoco")
    name = record["environment"]["name"]
    return f"{name}{f' ({options})' if options else ''}{f', MuJoCo {mujoco}' if mujoco else ''}"


def _settings(record: Record) -> str:
    """What differs from the paper's setting of the task, in brackets."""
    changes = [
        f"{group}.{name}={value} ({paper[name]})"
        for group in ("agent", "trainer", "evaluation")
        for paper in [record["paper_config"][group]]
        for name, value in record["config"][group].items()
        if name in paper and paper[name] != value
    ]
    return f"profile {record['profile']}; other than profile paper (in brackets): {', '.join(changes) or 'nothing'}"


def _versions(record: Record) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    return f"{versions}; commit {record['git_commit'] or 'unknown'}; algorithm version {record['algorithm_version']}"


def _by_protocol(runs: Iterable[FinishedRun]) -> list[str]:
    """A line a run: its score under each protocol, and what it cost."""
    rows = [["seed", *PROTOCOLS, "steps", "hours", "run"]]
    for one in runs:
        scores = [one.score(protocol) for protocol in PROTOCOLS]
        hours = sum(line["seconds"] for line in one.training) / 3600
        rows.append(
            [
                str(one.record["seed"]),
                *("-" if score is None else number(score) for score in scores),
                f"{one.record['config']['trainer']['steps']:,}",
                f"{hours:.2f}",
                str(one.folder.path),
            ]
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    lines = ["  ".join([*map(str.rjust, row, widths), row[-1]]) for row in rows]
    return ["scores by protocol; hours of its pack's training", *lines]


def _curves(runs: Sequence[FinishedRun]) -> list[str]:
    """Every evaluation of every run, with a line of bars from 0 to the largest score of all."""
    highest = max((line["score"] for one in runs for line in one.evaluations), default=0.0)
    lines = ["evaluations: step and score, bars from 0 to the largest of all"]
    for one in runs:
        scores = [line["score"] for line in one.evaluations]
        bars = "".join(_bar(score, highest) for score in scores)
        points = ", ".join(f"{line['step']:,}: {number(line['score'])}" for line in one.evaluations)
        lines.append(f"seed {one.record['seed']}  {bars}  {points}")
    return lines


def _bar(score: float, highest: float) -> str:
    share = 0.0 if highest <= 0 else min(max(score / highest, 0.0), 1.0)
    return LEVELS[round(share * (len(LEVELS) - 1))]


def command(argv: Sequence[str] | None) -> int:
    """Print what stands behind the cell that is named; returns 0."""
    parser = Parser(str(__doc__), EXAMPLES)
    parser.add_argument("table", help="a table or plan of the ledger")
    parser.add_argument("task")
    parser.add_argument("method", help="the column's head: a method, or a column of an ablation")
    parser.add_argument("--profile", metavar="NAME", help="only plans of this profile")
    parser.add_argument("--protocol", metavar="NAME", help=f"{', '.join(PROTOCOLS)} (default: the plan's)")
    parser.add_argument(
        "--ledger", metavar="DIR", default=os.environ.get("ERDP_LEDGER") or "runs",
        help="the ledger (default: $ERDP_LEDGER, else runs under the current directory)",
    )  # fmt: skip
    arguments = parser.parse_args(argv)
    ledger = Ledger.open(arguments.ledger)
    plans = ledger.plans()
    names = matching_plans(ledger, arguments.table, arguments.profile)
    having = [
        name for name in names if arguments.task in plans[name]["tasks"] and arguments.method in plans[name]["methods"]
    ]
    # Where none has it, the first is asked all the same, and says what it has.
    cells = [find(ledger, name, arguments.task, arguments.method, arguments.protocol) for name in having or names[:1]]
    print("\n\n".join(map(account, cells)))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 2 bad usage."""
    return run(command, argv, "nothing was changed")


if __name__ == "__main__":
    sys.exit(main())
