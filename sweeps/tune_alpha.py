"""Search for the alpha, or any other numbers of a method, that score best; then compare them with the default.

A trial trains the tuning seeds of every task; what falls behind the median of the trials before is given up on the
way. At the end the best and the default are trained with other seeds, and those scores are what is reported.
"""

import dataclasses
import hashlib
import json
import sys
import time
from collections.abc import Sequence
from statistics import fmean

from erdp_core.agent_configs import METHODS
from erdp_core.command_line import Parser, counted, run
from erdp_core.config import RunConfig, resolve
from erdp_core.errors import UserError
from erdp_core.task_file import add_task_files
from erdp_core.tasks import TASKS, get_task
from orchestration.cluster import joined
from orchestration.grid import print_costs, print_plan, print_settings, train_missing
from orchestration.ledger import Ledger
from orchestration.options import Options, add_options, check_names, checked, chosen_tasks, parse_seeds
from orchestration.plan import Column, Plan, Run
from orchestration.run_table import plan_of, run_plan
from orchestration.tracking import BackgroundTracker, default_uri
from results.estimators import cell_statistics, difference
from results.frames import read_plan
from results.study_figures import write_study_figure
from results.table_files import write_table
from results.tables import Column as TableColumn
from results.tables import Table, build_table
from sweeps.search_space import DEFAULT_SPACE, Range, parse_space
from sweeps.study import Proposal, Study, open_storage, settings_text, storage_errors, trial_label

TABLE = "tune"
ONE_WAY = "evaluation.one_candidate=false"
"""Trials are evaluated as the method acts, and no other way: it costs episodes."""
EXAMPLES = """\
  python sweeps/tune_alpha.py --tasks pointmaze-medium --profile quick --trials 16
  python sweeps/tune_alpha.py --tasks antmaze-umaze-v0 --space agent.alpha=0.001:1:log agent.beta=1:8
  python sweeps/tune_alpha.py --tasks hopper-medium-v2 --method iql --space agent.expectile=0.6:0.95"""


def command(argv: Sequence[str] | None) -> int:
    """Run the command line; returns 0 when the comparison is complete, 1 when some of its runs are missing."""
    parser = Parser(str(__doc__), EXAMPLES)
    parser.add_argument("--method", default="erdp", help=f"{', '.join(METHODS)} (default: erdp)")
    parser.add_argument(
        "--space", nargs="+", action="extend", default=[], metavar="KEY=LOW:HIGH[:log]",
        help=f"numbers of the method to search, :log by orders of magnitude (default: {' '.join(DEFAULT_SPACE)})",
    )  # fmt: skip
    parser.add_argument("--trials", type=int, default=16, metavar="N", help="of the search in all (default: 16)")
    parser.add_argument("--batch", type=int, default=4, metavar="N", help="trials trained together (default: 4)")
    parser.add_argument(
        "--tuning-seeds", default="100,101,102", metavar="SEEDS",
        help="seeds of every trial, none of them of --seeds, which are for the comparison (default: 100,101,102)",
    )  # fmt: skip
    parser.add_argument(
        "--storage", metavar="PLACE",
        help="where Optuna keeps the search: a journal file, or postgresql://... (default: a journal in the ledger)",
    )  # fmt: skip
    add_options(parser, protocol="last-k")
    arguments = parser.parse_args(argv)
    check_names("method", [arguments.method], METHODS)
    for option in ("trials", "batch"):
        if getattr(arguments, option) < 1:
            raise UserError(f"--{option} {getattr(arguments, option)} is less than 1")
    own = add_task_files(arguments.task_file)
    named = arguments.tasks or list(own)
    if not named:
        raise UserError("name the tasks of the search with --tasks")
    tasks = chosen_tasks(named, tuple(TASKS), "the registry")
    options = checked(arguments, TABLE, tasks, (arguments.method,))
    ranges = parse_space(arguments.space or DEFAULT_SPACE, arguments.method)
    for setting in options.settings:
        if setting.partition("=")[0] in [one.key for one in ranges]:
            raise UserError(f"--set {setting} is what the search varies: leave it out, or out of --space")
    search = Search(options, ranges, parse_seeds(arguments.tuning_seeds, "--tuning-seeds"))
    if options.dry_run:
        search.show(arguments.trials)
        return 0
    return search.run(arguments.trials, arguments.batch, arguments.storage)


class Search:
    """A search for settings of one method over some tasks."""

    def __init__(self, options: Options, ranges: Sequence[Range], tuning_seeds: Sequence[int]) -> None:
        """Raises UserError for seeds that would tune and report, and for tasks that cannot be searched together."""
        both = sorted({*options.seeds} & {*tuning_seeds})
        if both:
            raise UserError(
                f"seeds of --tuning-seeds and of --seeds at once: {', '.join(map(str, both))}: what is reported must "
                "come from seeds that the search never saw"
            )
        self.options = options
        self.method = options.methods[0]
        self.ranges = tuple(ranges)
        self._tuning = dataclasses.replace(options, seeds=tuple(tuning_seeds))
        for one in self.ranges:
            for end in (one.low, one.high):
                self._config(options.tasks[0], one.setting(end))
        self._trainer = self._config(options.tasks[0]).trainer
        for task in options.tasks[1:]:
            other = self._config(task).trainer
            if (other.steps, other.interval) != (self._trainer.steps, self._trainer.interval):
                raise UserError(
                    f"{options.tasks[0]} trains {self._trainer.steps:,} steps in intervals of "
                    f"{self._trainer.interval:,}, {task} {other.steps:,} in intervals of {other.interval:,}: search "
                    "them apart, or set trainer.steps and trainer.interval with --set"
                )
        for one, values in self._defaults_by_task():
            if len(set(values.values())) > 1:
                texts = ", ".join(f"{value:g} for {task}" for task, value in values.items())
                raise UserError(f"the default of {one.key} is {texts}: search them apart")
        self._base = plan_of(self._tuning, [Column(self.method, self.method, (ONE_WAY,))])
        if self._base.gaps:
            raise UserError(self._base.gaps[0])
        # Runs are named by what determines their results: data, settings, version of the method.
        run_ids = [run.run_id for run in self._base.runs]
        definition = [self._base.name, run_ids, [dataclasses.astuple(one) for one in self.ranges]]
        digest = hashlib.sha256(json.dumps(definition).encode()).hexdigest()[:6]
        self.name = f"{TABLE}-{'-'.join(one.symbol for one in self.ranges)}-{options.profile}-{digest}"

    def _config(self, task: str, *settings: str) -> RunConfig:
        return resolve(get_task(task), self.method, self.options.profile, (*self.options.settings, *settings))

    @property
    def rungs(self) -> tuple[int, ...]:
        """Steps at which trials are given up or go on, about a third and two thirds of the way; then the last."""
        steps, interval = self._trainer.steps, self._trainer.interval
        thirds = (max(1, round(steps / interval * part / 3)) * interval for part in (1, 2))
        return tuple(sorted({*thirds, steps}))

    def show(self, trials: int) -> None:
        """Print what would be trained, and what one trial costs."""
        ledger = Ledger(self.options.ledger)
        if self.options.probe:
            ledger = Ledger.open(self.options.ledger, create=True)
        print_plan(self._base, ledger, self._base.runs)
        print_settings(self._base)
        print(f"search {self.name}: {counted(trials, 'trial')} of {counted(len(self._base.runs), 'run')} each")
        for one in self.ranges:
            print(f"  {one.key} from {one.low:g} to {one.high:g}{', by orders of magnitude' if one.is_log else ''}")
        print(f"  given up below the median at steps {', '.join(f'{rung:,}' for rung in self.rungs[:-1]) or 'none'}")
        print("one trial:")
        print_costs(ledger, self._base.runs, self.options.probe)

    def run(self, trials: int, batch: int, place: str | None) -> int:
        """Search, compare, say what came of it; returns 0, or 1 when runs of the comparison are missing."""
        ledger = Ledger.open(self.options.ledger, create=True)
        place = place or str(ledger.root / "studies" / f"{self.name}.journal")
        print(f"ledger: {ledger.root}\nsearch: {self.name}")
        with storage_errors(place), ledger.writing():
            study = Study(self.name, open_storage(place), self.ranges, ledger.root / "studies" / f"{self.name}.drivers")
            with study:
                if all(one.low <= value <= one.high for one, value in self._defaults()):
                    study.propose_first({one.key: value for one, value in self._defaults()})
                tracker = BackgroundTracker(ledger, self.options.tracking_uri or default_uri(ledger))
                try:
                    self._search(study, ledger, tracker, trials, batch)
                finally:
                    warning = tracker.close()
                if warning:
                    print(f"warning: {warning}", file=sys.stderr)
                if study.at_work:
                    print(f"{counted(study.at_work, 'trial')} are at work elsewhere: the last to finish compares")
                    return 0
                return self._compare(study, ledger)

    def _defaults_by_task(self) -> list[tuple[Range, dict[str, float]]]:
        agents = {task: dataclasses.asdict(self._config(task).agent) for task in self.options.tasks}
        return [(one, {task: agent[one.symbol] for task, agent in agents.items()}) for one in self.ranges]

    def _defaults(self) -> list[tuple[Range, float]]:
        return [(one, values[self.options.tasks[0]]) for one, values in self._defaults_by_task()]

    def _search(self, study: Study, ledger: Ledger, tracker: BackgroundTracker, trials: int, size: int) -> None:
        batch = study.batch(size, trials)
        if not batch:
            return
        with joined(self.options.address):
            while batch:
                self._train(batch, study, ledger, tracker)
                batch = study.batch(size, trials)

    def _train(self, batch: Sequence[Proposal], study: Study, ledger: Ledger, tracker: BackgroundTracker) -> None:
        """Train a batch from rung to rung, and tell the study what became of each trial."""
        print("\n".join(proposal.label for proposal in batch), flush=True)
        live = list(batch)
        for rung in self.rungs:
            plan = self._plan(study, ledger)
            runs_of = {
                one.label: [cell.run for cell in plan.cells if cell.method == one.label and cell.run] for one in live
            }
            started = time.monotonic()
            problems = self._reach(rung, plan, [run for runs in runs_of.values() for run in runs], ledger, tracker)
            hours = (time.monotonic() - started) / 3600 / len(live)
            values = self._values(ledger) if rung == self.rungs[-1] else {}
            for proposal in live.copy():
                runs = runs_of[proposal.label]
                study.add_hours(proposal, hours)
                reasons = [problems[run.run_id] for run in runs if run.run_id in problems]
                if rung == self.rungs[-1] and proposal.label not in values:
                    reasons.append("has a score that is not finite")
                if reasons:
                    study.fail(proposal, reasons[0])
                    print(f"{proposal.label}: failed: {reasons[0]}", flush=True)
                    live.remove(proposal)
                    continue
                reports = self._reports(runs, ledger, rung)
                for step, value in reports:
                    study.report(proposal, step, value)
                if rung == self.rungs[-1]:
                    study.finish(proposal, values[proposal.label])
                    print(f"{proposal.label}: {values[proposal.label]:.1f}", flush=True)
                elif study.is_hopeless(proposal):
                    study.prune(proposal)
                    print(f"{proposal.label}: given up at step {rung:,} with {reports[-1][1]:.1f}", flush=True)
                    live.remove(proposal)
            if not live:
                break
        self._draw(study, ledger, tracker)

    def _plan(self, study: Study, ledger: Ledger) -> Plan:
        """The plan of all trials so far, which the ledger keeps under the search's name."""
        trials = [trial for trial in study.record() if trial["settings"]]
        columns = [
            Column(trial_label(trial["number"], trial["settings"]), self.method, (*trial["settings"], ONE_WAY))
            for trial in trials
        ]
        plan = plan_of(self._tuning, columns)
        given_up = [one.label for one, trial in zip(columns, trials, strict=True) if trial["state"] == "pruned"]
        pruned = [cell.run.run_id for cell in plan.cells if cell.run and cell.method in given_up]
        with ledger.writing():
            ledger.write_plan(self.name, {**plan.record(), "name": self.name, "pruned": pruned})
        return plan

    def _reach(
        self, rung: int, plan: Plan, runs: Sequence[Run], ledger: Ledger, tracker: BackgroundTracker
    ) -> dict[str, str]:
        """Train runs until a step. Returns problems by run id."""

        def is_there(run: Run) -> bool:
            folder = ledger.run(run.run_id)
            return folder.status in ("finished", "failed") or max(folder.checkpoints.steps(), default=0) >= rung

        missing = {run.run_id: run for run in runs if not is_there(run)}
        problems: dict[str, str] = {}
        if missing:
            problems = train_missing(plan, ledger, list(missing.values()), tracker, self.options.address, rung)
        failures = {run.run_id: ledger.run(run.run_id).failure() for run in runs}
        problems |= {run_id: failure["reason"] for run_id, failure in failures.items() if failure}
        if any(run_id not in problems and not is_there(run) for run_id, run in missing.items()):
            raise KeyboardInterrupt  # Tune takes an interrupt for the wish to end, and returns
        return problems

    def _reports(self, runs: Sequence[Run], ledger: Ledger, rung: int) -> list[tuple[int, float]]:
        """Step and mean score over a trial's runs, of each evaluation up to a rung."""
        scores: dict[int, list[float]] = {}
        for one in runs:
            for line in ledger.run(one.run_id).evaluations():
                if line["step"] <= rung:
                    scores.setdefault(line["step"], []).append(line["score"])
        return [(step, fmean(found)) for step, found in sorted(scores.items()) if len(found) == len(runs)]

    def _table(self, name: str, ledger: Ledger) -> Table:
        return build_table(read_plan(ledger, name, ledger.plans()[name]), self.options.protocol)

    def _values(self, ledger: Ledger) -> dict[str, float]:
        """Of each trial whose runs have all finished, by its label: the mean over tasks of the means over seeds."""
        table = self._table(self.name, ledger)
        cells = {
            column.method: [table.cells[task, column] for task in table.tasks]
            for column in table.columns
            if column.acting == "candidates"
        }
        return {
            label: fmean(fmean(cell.scores) for cell in of_trial)
            for label, of_trial in cells.items()
            if all(len(cell.scores) == len(self._tuning.seeds) for cell in of_trial)
        }

    def _draw(self, study: Study, ledger: Ledger, tracker: BackgroundTracker) -> None:
        """Bring the search's record, figure and table up to date."""
        plan = self._plan(study, ledger)
        record = {
            "search": self.name,
            "space": [dataclasses.asdict(one) for one in self.ranges],
            "default": {one.key: value for one, value in self._defaults()},
            "trials": study.record(),
            "importances": study.importances(),
            "caption": [
                f"Profile {self.options.profile}, {', '.join(self.options.tasks)}, {self.method}; value of a trial: "
                f"mean over tasks and seeds {', '.join(map(str, self._tuning.seeds))} of the score by protocol "
                f"{self.options.protocol}. These seeds tuned: the best value is too good, compare it with other seeds.",
            ],
        }
        folder = ledger.root / "tables" / self.name
        with ledger.writing():
            ledger.write_study(self.name, record)
        paths = [*write_study_figure(ledger, self.name, folder), *write_table(self._table(self.name, ledger), folder)]
        tracker.sync([run.run_id for run in plan.runs])
        tracker.log_artifacts(self.name, TABLE, paths)

    def _compare(self, study: Study, ledger: Ledger) -> int:
        """Train the best and the default with the seeds for reporting, and say what the search was worth."""
        self._plan(study, ledger)  # which a search that was complete before has not written
        trials, best = study.record(), study.best
        states = [trial["state"] for trial in trials]
        print(
            f"\n{counted(len(trials), 'trial')}: {states.count('finished')} finished, {states.count('pruned')} given "
            f"up, {states.count('failed')} failed"
        )
        if best is None:
            raise UserError("no trial has finished: see above why, and search another --space")
        tuned = tuple(best.user_attrs["settings"])
        default = tuple(one.setting(value) for one, value in self._defaults())
        print(f"best: trial {best.number}, {settings_text(tuned)}: {best.value:.1f} with the seeds that tuned")
        columns = [Column(f"default, {settings_text(default)}", self.method)]
        if tuned != default:
            columns.append(Column(f"tuned, {settings_text(tuned)}", self.method, tuned))
        plan = plan_of(dataclasses.replace(self.options, table=f"{TABLE}d"), columns)
        status = run_plan(plan, self.options)
        table = self._table(plan.name, ledger)
        print(f"\nwith seeds {', '.join(map(str, self.options.seeds))}, which the search never saw:")
        found = [self._of_seeds(table, column.label) for column in columns]
        for column, scores in zip(columns, found, strict=True):
            print(f"  {column.label}: {_mean_text(scores)}")
        if len(columns) == 2 and all(found):
            gain = difference(found[1], found[0])
            interval = "" if gain.low is None else f" (95% interval {gain.low:+.1f} to {gain.high:+.1f})"
            print(f"  gain: {gain.mean:+.1f}{interval}")
        elif len(columns) == 1:
            print("  the default is the best that was found")
        run_ids = {cell["run_id"] for cell in ledger.plans()[self.name]["cells"]}
        episodes = sum(_episodes(ledger, run_id) for run_id in run_ids)
        hours = sum(trial["hours"] for trial in trials)
        print(f"the search took {counted(episodes, 'episode')} of evaluation and {hours:.2f} hours")
        for path in sorted((ledger.root / "tables" / self.name).glob("*-search.*")):
            print(f"  {path}")
        if len(columns) == 2:
            print(f"to use what it found: --set {' '.join(tuned)}")
        return status

    def _of_seeds(self, table: Table, label: str) -> list[float]:
        """Mean over tasks of each seed that every task has."""
        cells = [table.cells[task, TableColumn(label, "candidates")] for task in table.tasks]
        scores = [dict(zip(cell.seeds, cell.scores, strict=True)) for cell in cells]
        return [fmean(of_task[seed] for of_task in scores) for seed in sorted(set.intersection(*map(set, scores)))]


def _mean_text(scores: Sequence[float]) -> str:
    if not scores:
        return "no seed has finished"
    found = cell_statistics(scores)
    interval = "" if found.low is None else f"95% interval {found.low:.1f} to {found.high:.1f}; "
    return f"{found.mean:.1f} ({interval}{counted(found.n, 'seed')})"


def _episodes(ledger: Ledger, run_id: str) -> int:
    """Episodes that a run's evaluations took."""
    lines = ledger.run(run_id).evaluations()
    return sum(len(line["returns"]) + len(line.get("one_candidate", {}).get("returns", ())) for line in lines)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    return run(command, argv)


if __name__ == "__main__":
    sys.exit(main())
