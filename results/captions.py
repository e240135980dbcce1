"""What stands under every table and figure: where its numbers come from and how they are to be read."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pandas as pd

from erdp_core.config import PROTOCOLS
from erdp_core.tasks import CUSTOM, TABLES, TASKS
from results.frames import Acting, PlanFrames

PAPER_TASKS = frozenset(TABLES["all"])


def column_label(method: str, acting: Acting) -> str:
    """How a method is named in a table's head and a figure's legend."""
    return method if acting == "candidates" else f"{method}, 1 candidate"


def caption(frames: PlanFrames, protocol: str, scores: str = "scores") -> tuple[str, ...]:
    """Sentences on the runs that count: profile, source, protocol, environments, sizes, data, comparability.

    scores: what the protocol made, in words: "scores" under a table, "the table's scores" under anything else.
    """
    counted = frames.runs[frames.runs["gap"] == ""]
    plan = frames.plan
    source = _per_task(frames, counted, "source") if len(counted) else plan["source"]
    lines = [f"Profile {plan['profile']}, source {source}, protocol {protocol}: {scores} are {PROTOCOLS[protocol]}."]
    if plan["settings"]:
        lines.append(f"Settings: {', '.join(plan['settings'])}.")
    if not len(counted):
        return (*lines, f"No run has finished yet ({_seeds(plan['seeds'])}).")
    environments = _distinct(counted["environment"])
    versions = _distinct(counted["mujoco"])
    lines.append(
        f"{'Environment' if len(environments) == 1 else 'Environments'}: {', '.join(environments)}"
        + (f" (MuJoCo {', '.join(versions)})." if versions else ".")
    )
    lines.append(
        f"{_per_task(frames, counted, 'steps', '{:,}'.format)} steps, an evaluation every "
        f"{_per_task(frames, counted, 'interval', '{:,}'.format)} steps over "
        f"{_per_task(frames, counted, 'episodes')} episodes, {_seeds(plan['seeds'])}."
    )
    labels_of: dict[str, list[str]] = {}
    for method, actings in frames.actings.items():
        if "one candidate" in actings:
            choice = _per_task(frames, counted[counted["method"] == method], "candidates")
            labels_of.setdefault(choice, []).append(column_label(method, "one candidate"))
    for choice, labels in labels_of.items():
        lines.append(
            f"{'; '.join(labels)}: the policy's own sample acts, instead of one chosen among {choice} candidates."
        )
    changes = _changes(frames, counted)
    if changes:
        lines.append(f"Agents differ from profile paper (in brackets): {changes}.")
    for note, of in _notes(frames, counted, "notes").items():
        lines.append(f"Data{'' if of is None else f' of {of}'}: {note.removesuffix('.')}.")
    lines.extend(_comparability(frames, counted))
    return tuple(lines)


def _changes(frames: PlanFrames, counted: pd.DataFrame) -> str:
    """What agents differ in: first what all share, then for each other set of methods what they do."""
    methods_of: dict[str, dict[str, None]] = {}
    for method, changes in counted[["method", "changes"]].itertuples(index=False):
        for change in changes:
            methods_of.setdefault(change, {})[method] = None
    of_tasks = _notes(frames, counted, "changes")
    groups: dict[tuple[str, ...], list[str]] = {}
    for change, methods in methods_of.items():
        groups.setdefault(tuple(methods), []).append(change)
    told = []
    for owners, changes in sorted(groups.items(), key=lambda group: -len(group[0])):
        # What all tasks share comes first: after a task's name it would be read as that task's.
        in_order = sorted(changes, key=lambda change: of_tasks[change] is not None)
        listed = ", ".join(change if (of := of_tasks[change]) is None else f"{change} in {of}" for change in in_order)
        is_of_all = set(owners) == set(counted["method"])
        told.append(listed if is_of_all else f"{', '.join(owners)}: {listed}")
    return "; ".join(told)


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'' if len(seeds) == 1 else 's'} {', '.join(map(str, seeds))}"


def _distinct(values: Iterable[Any]) -> list[str]:
    return [str(value) for value in dict.fromkeys(values) if value is not None]


def _task_names(tasks: Iterable[str], plan_tasks: Sequence[str]) -> str:
    """Tasks in the plan's order; a domain's name for all of the plan's tasks of that domain."""
    chosen = set(tasks)
    names: list[str] = []
    for task in plan_tasks:
        if task not in chosen:
            continue
        domain = _domain(task)
        siblings = {other for other in plan_tasks if _domain(other) == domain}
        names.append(domain if len(siblings) > 1 and siblings <= chosen else task)
    return ", ".join(dict.fromkeys(names))


def _domain(task: str) -> str:
    return TASKS[task].domain if task in TASKS and task not in TABLES.get(CUSTOM, ()) else task


def _per_task(frames: PlanFrames, runs: pd.DataFrame, column: str, show: Callable[[Any], str] = str) -> str:
    """A column's value, or its values each with the tasks that have it."""
    tasks_of: dict[Any, list[str]] = {}
    for task, value in runs[["task", column]].drop_duplicates().itertuples(index=False):
        tasks_of.setdefault(value, []).append(task)
    if len(tasks_of) == 1:
        return show(next(iter(tasks_of)))
    return ", ".join(f"{show(value)} ({_task_names(tasks, frames.plan['tasks'])})" for value, tasks in tasks_of.items())


def _notes(frames: PlanFrames, counted: pd.DataFrame, column: str) -> dict[str, str | None]:
    """Everything in a column of tuples, each with the tasks that it holds for; None where it holds for all.

    All are the tasks of the methods that have it: what is said of critics holds for all tasks of methods with critics.
    """
    tasks_of: dict[str, list[str]] = {}
    methods_of: dict[str, set[str]] = {}
    for task, method, notes in counted[["task", "method", column]].itertuples(index=False):
        for note in notes:
            tasks_of.setdefault(note, []).append(task)
            methods_of.setdefault(note, set()).add(method)
    return {
        note: None
        if set(tasks) == set(counted["task"][counted["method"].isin(methods_of[note])])
        else _task_names(tasks, frames.plan["tasks"])
        for note, tasks in tasks_of.items()
    }


def _comparability(frames: PlanFrames, counted: pd.DataFrame) -> list[str]:
    """The sentence that keeps numbers of another setting from being set beside the paper's, where it applies."""
    paper = counted[counted["task"].isin(PAPER_TASKS)]
    if not len(paper):
        return []
    plan = frames.plan
    reasons: list[str] = []
    other = paper[paper["source"] != "d4rl"]
    if len(other):
        sources = " and ".join(_distinct(other["source"]))
        whose = "" if set(other["task"]) == set(paper["task"]) else f" of {_task_names(other['task'], plan['tasks'])}"
        reasons.append(f"the source of the data{whose} is {sources}, not d4rl")
    moved = paper[paper["environment"] != paper["task"].map(lambda task: TASKS[task].environment.name)]
    if len(moved):
        where = ", ".join(_distinct(moved["environment"]))
        reasons.append(f"{_task_names(moved['task'], plan['tasks'])} was evaluated in {where}")
    if plan["profile"] != "paper":
        reasons.append(f"the profile is {plan['profile']}, not paper")
    if plan["settings"]:
        reasons.append("settings were changed")
    if not reasons:
        return []
    return [f"The scores are not comparable with the paper's printed numbers: {'; '.join(reasons)}."]
