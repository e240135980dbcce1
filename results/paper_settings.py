"""The paper's tables that are not of scores: times (5) and hyperparameters (6), beside this version's."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from erdp_core.config import resolve
from erdp_core.tasks import TABLES, TASKS
from results.matching import FinishedRun, RunsByConfig
from results.paper_tables import PAPER
from results.table_layout import PrintedCell, PrintedTable
from results.tables import GAP

TIMES, HYPERPARAMETERS = 5, 6
PRINTED = "as printed in arXiv 2402.04080"
# What Table 6 calls it, and the agent's setting.
SETTINGS: Mapping[str, str] = {
    "policy_lr": "actor_lr", "eta": "eta", "max_q_backup": "max_q_backup", "grad_norm": "grad_norm",
    "loss": "diffusion_loss", "action_clip": "action_clip", "T": "T",
}  # fmt: skip
TIMES_COMMAND = "python sweeps/run_ablation.py --ablation time --seeds 0,"


def hyperparameter_blocks() -> tuple[dict[str, PrintedTable], pd.DataFrame]:
    """Table 6 as printed, and what profile paper has in its place; then both as a frame, a row a domain and setting."""
    frame = pd.read_csv(PAPER / "table6_hyperparameters.csv", dtype=str).set_index("domain")
    rows: list[dict[str, str]] = [
        {
            "domain": str(domain),
            "setting": str(name),
            "printed": str(text),
            "here": _here(str(domain), SETTINGS[str(name)]),
        }
        for domain, values in frame.iterrows()
        for name, text in values.items()
    ]
    others = [f"{row['setting']} of {row['domain']}" for row in rows if _plain(row["printed"]) != _plain(row["here"])]
    title = f"Table {HYPERPARAMETERS} of the paper: hyperparameters of ERDP in each domain"

    def block(what: str, column: str, remarks: Sequence[str]) -> PrintedTable:
        cells = {
            domain: [PrintedCell(row[column]) for row in rows if row["domain"] == domain] for domain in frame.index
        }
        of_domains = [((str(domain),), found) for domain, found in cells.items()]
        return PrintedTable(f"{title}; {what}", ("domain",), list(SETTINGS), of_domains, None, [], remarks)

    verdict = f"Other than printed: {', '.join(others)}." if others else "All as printed."
    blocks = {"printed": block(PRINTED, "printed", []), "measured": block("profile paper here", "here", [verdict])}
    return blocks, pd.DataFrame(rows)


def _here(domain: str, setting: str) -> str:
    """The value that most of a domain's tasks have, then those that have another."""
    tasks_of: dict[str, list[str]] = {}
    for task in TABLES[domain]:
        value = resolve(TASKS[task], "erdp", "paper").to_dict()["agent"][setting]
        tasks_of.setdefault(str(value).lower() if isinstance(value, bool) else f"{value}", []).append(task)
    usual, *others = sorted(tasks_of, key=lambda value: -len(tasks_of[value]))
    exceptions = [f"{value} for {', '.join(tasks_of[value])}" for value in others]
    return f"{usual} ({'; '.join(exceptions)})" if exceptions else usual


def _plain(text: str) -> str:
    """A number as Python writes it, whatever way it was written; other text as it is."""
    try:
        return f"{float(text):g}"
    except ValueError:
        return text


def times_blocks(runs: RunsByConfig, profile: str) -> tuple[dict[str, PrintedTable], pd.DataFrame]:
    """Table 5 as printed, and the seconds that the ledger's runs took; then those as a frame, a row each."""
    frame = pd.read_csv(PAPER / "table5_time.csv")
    title = f"Table {TIMES} of the paper: seconds of training and of evaluation"
    labels = [_label(row) for row in frame.itertuples()]
    printed = [
        ((label,), [PrintedCell(f"{float(value):g}") for value in values])
        for label, values in zip(labels, frame.iloc[:, 3:].itertuples(index=False), strict=True)
    ]
    found = _times(frame, labels, runs, profile)
    measured = [
        ((row["policy"], row["task"], row["device"]), [PrintedCell(row[name]) for name in ("training", "evaluation")])
        for row in found
    ] or [((label, GAP, GAP), [PrintedCell(GAP, mark="a")] * 2) for label in labels]
    blocks = {
        "printed": PrintedTable(
            f"{title}; {PRINTED}",
            ("policy",),
            ("training, 1,000 steps", "evaluation, 1,000 steps of the environment"),
            printed,
            None,
            [],
            [
                'Printed in minutes ("11m"), which cannot be: at 11 minutes a thousand steps, a million take 183 '
                "hours, where the text says 8. Probably what is printed as minutes are seconds."
            ],
        ),
        "measured": PrintedTable(
            f"{title}; measured here",
            ("policy", "task", "device"),
            ("training, 1,000 steps", "evaluation, an episode"),
            measured,
            None,
            [] if found else [("a", f"not trained: {TIMES_COMMAND} --profile {profile}")],
            [
                f"Profile {profile}. Seconds of a whole pack: runs that trained together took them together. Without "
                "each run's first interval, in which its step is compiled."
            ],
        ),
    }
    return blocks, pd.DataFrame(found)


def _label(row: Any) -> str:
    steps = f", T = {row.diffusion_steps}" if row.policy == "diffusion" else ""
    return f"{row.policy}{steps}, M = {row.critics}"


def _times(frame: pd.DataFrame, labels: Sequence[str], runs: RunsByConfig, profile: str) -> list[dict[str, Any]]:
    found = []
    for label, row in zip(labels, frame.itertuples(), strict=True):
        method = "erdp" if row.policy == "diffusion" else "gaussian-ensemble"
        settings = [f"agent.M={row.critics}", *([f"agent.T={row.diffusion_steps}"] if method == "erdp" else [])]
        for task in runs.tasks:
            of_device: dict[str, list[FinishedRun]] = {}
            for run in runs.cell(task, method, profile, settings):
                of_device.setdefault(str(run.record["versions"].get("device")), []).append(run)
            for device, same in of_device.items():
                training = [_training_seconds(run) for run in same]
                evaluation = [_evaluation_seconds(run) for run in same]
                found.append(
                    {
                        "policy": label,
                        "task": task,
                        "device": device,
                        "runs": len(same),
                        "training": _mean_text(training),
                        "evaluation": _mean_text(evaluation),
                    }
                )
    return found


def _training_seconds(run: FinishedRun) -> float:
    """Of 1,000 steps; NaN where there is a single interval."""
    lines = run.training[1:]
    first = run.training[0]["step"] if run.training else 0
    return 1_000 * float(sum(line["seconds"] for line in lines)) / (lines[-1]["step"] - first) if lines else math.nan


def _evaluation_seconds(run: FinishedRun) -> float:
    """Of an episode, with one candidate or with several; NaN where there is none."""
    episodes = sum(
        len(line["returns"]) + len(line.get("one_candidate", {}).get("returns", ())) for line in run.evaluations
    )
    return float(sum(line["seconds"] for line in run.evaluations)) / episodes if episodes else math.nan


def _mean_text(values: Sequence[float]) -> str:
    known = [value for value in values if math.isfinite(value)]
    return f"{math.fsum(known) / len(known):.3g}" if known else GAP
