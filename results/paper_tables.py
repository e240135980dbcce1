"""The tables of the ERDP paper (arXiv 2402.04080): what each prints, and which of our runs are its cells.

A cell of ours is whatever runs of the ledger have the cell's config, whoever asked for them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pandas as pd

PAPER = Path(__file__).with_name("paper")


@dataclass(frozen=True)
class PaperColumn:
    """A column as printed, and what of ours it is."""

    head: str
    method: str | None = None
    """None: reported only."""
    settings: tuple[str, ...] = ()
    """`agent.T=5`, beside the domain's."""
    protocol: str | None = None
    """Of this column, where the table is about protocols; else the reader's choice, `paper` unless another is named."""
    printed: str | None = None
    """The file's name for it, where that is not its head."""

    @property
    def printed_name(self) -> str:
        """The file's name for it."""
        return self.printed or self.head

    @property
    def printed_protocol(self) -> str | None:
        """Protocol of the printed numbers; None where it is none of ours, or not one alone."""
        return self.protocol or {"erdp": "paper", "diffusion-ql": "offline"}.get(self.method or "")


@dataclass(frozen=True)
class PaperPart:
    """A table, or a part of one with columns of its own."""

    file: str
    """Stem of the file of printed numbers."""
    columns: tuple[PaperColumn, ...]
    command: str
    """What trains it."""
    label: str = ""
    """Of a part."""

    @property
    def frame(self) -> pd.DataFrame:
        """The printed numbers by task, in the paper's order."""
        return _frame(self.file)

    @property
    def tasks(self) -> tuple[str, ...]:
        """In the paper's order."""
        return tuple(map(str, self.frame.index))

    def printed(self, task: str, column: PaperColumn) -> tuple[float | None, float | None]:
        """Mean and spread as printed, each None where the paper has none."""
        if task not in self.frame.index:
            return None, None
        row = self.frame.loc[task]
        found = [row.get(name) for name in (column.printed_name, f"{column.printed_name} std")]
        mean, std = (None if value is None or pd.isna(value) else float(value) for value in found)
        return mean, std


@dataclass(frozen=True)
class PaperTable:
    """A numbered table of the paper."""

    number: int
    title: str
    parts: tuple[PaperPart, ...]
    notes: tuple[str, ...] = ()
    """How it was made, and its known slips."""


@cache
def _frame(file: str) -> pd.DataFrame:
    return pd.read_csv(PAPER / f"{file}.csv").set_index("task")


def _of_values(setting: str, values: Sequence[str], head: str = "{}", *settings: str) -> tuple[PaperColumn, ...]:
    """A column of ERDP for each value of a setting."""
    return tuple(PaperColumn(head.format(value), "erdp", (f"{setting}={value}", *settings)) for value in values)


# What other papers call it, and ours.
_METHODS: Mapping[str, str | None] = {
    "BC": "bc", "DT": None, "BCQ": None, "BEAR": None, "CQL": "cql", "IQL": "iql", "MSG": "msg", "IDQL-A": "idql",
    "IQL+EDP": "edp", "Diff-QL": "diffusion-ql",
}  # fmt: skip


def _of_methods(file: str) -> tuple[PaperColumn, ...]:
    """A column for each method of a main table; ERDP, which the paper calls Ours, is the last."""
    heads = [name for name in _frame(file).columns if name not in ("domain", "Ours")]
    return (*(PaperColumn(head, _METHODS[head]) for head in heads), PaperColumn("ERDP", "erdp", printed="Ours"))


def _main(file: str, table: str, label: str = "") -> PaperPart:
    columns = _of_methods(file)
    methods = ",".join(column.method for column in columns if column.method)
    return PaperPart(file, columns, f"orchestration/run_table.py --table {table} --methods {methods}", label)


def _ablation(file: str, columns: tuple[PaperColumn, ...], name: str) -> tuple[PaperPart, ...]:
    return (PaperPart(file, columns, f"sweeps/run_ablation.py --ablation {name}"),)


_MIXED = (
    "ERDP's column is the best evaluation in training, Diff-QL's was chosen offline; the paper took the others from "
    "theirs, under mixed protocols."
)
_SWAPPED = "The column of the defaults has medium-play and medium-diverse exchanged against Tables 2, 3, 7 and 11."
_BEST = "Best evaluation in training."
_AUTOMATIC = PaperColumn("auto", "erdp", ("agent.temperature=automatic", "agent.T=5"))
PAPER_TABLES: Mapping[int, PaperTable] = {
    table.number: table
    for table in (
        PaperTable(
            1,
            "Gym, Adroit and Kitchen",
            tuple(_main(f"table1_{domain}", domain, domain.capitalize()) for domain in ("gym", "adroit", "kitchen")),
            (_MIXED, "ERDP's Adroit and Kitchen are the T = 10 columns of Table 9."),
        ),
        PaperTable(2, "AntMaze", (_main("table2_antmaze", "antmaze"),), (_MIXED,)),
        PaperTable(
            3,
            "temperature of the entropy, alpha",
            _ablation(
                "table3_alpha",
                (*_of_values("agent.alpha", ("0", "0.01", "0.05", "0.1"), "{}", "agent.T=5"), _AUTOMATIC),
                "alpha",
            ),
            (_BEST, "T = 5 in every domain: the column of 0.01 is Table 9's of T = 5."),
        ),
        PaperTable(
            4,
            "critics of the ensemble, M (some of Table 7, which is shown whole)",
            _ablation("table7_ensemble_size", _of_values("agent.M", ("1", "2", "4", "16", "64"), "M={}"), "critics"),
            (_BEST,),
        ),
        PaperTable(
            7,
            "critics of the ensemble, M",
            _ablation("table7_ensemble_size", _of_values("agent.M", ("1", "2", "4", "16", "64"), "M={}"), "critics"),
            (_BEST,),
        ),
        PaperTable(
            8,
            "pessimism of the lower confidence bound, beta",
            _ablation("table8_lcb_beta", _of_values("agent.beta", ("1", "2", "4"), "beta={}"), "beta"),
            (_BEST, _SWAPPED),
        ),
        PaperTable(
            9,
            "diffusion steps, T",
            _ablation("table9_diffusion_steps", _of_values("agent.T", ("3", "5", "10"), "T={}"), "steps"),
            (_BEST, _SWAPPED),
        ),
        PaperTable(
            10,
            "the maximum in the backup",
            _ablation("table10_max_q_backup", _of_values("agent.max_q_backup", ("true", "false")), "max-q"),
            (_BEST, _SWAPPED),
        ),
        PaperTable(
            11,
            "which evaluation counts: chosen offline, or the best in training",
            _ablation(
                "table11_model_selection",
                tuple(
                    PaperColumn(f"{name} {how}", method, (), protocol, f"{printed} {how}")
                    for name, printed, method in (
                        ("Diffusion-QL", "Diffusion-QL", "diffusion-ql"), ("ERDP", "Ours", "erdp"),
                    )
                    for how, protocol in (("offline", "offline"), ("online", "paper"))
                ),
                "selection",
            ),
            ("Diffusion-QL's 77.6 and 46.6 are 76.6 and 46.4 in Table 2, and in its own paper.",),
        ),
    )
}  # fmt: skip
