"""What each ablation compares: columns of one method with settings of their own, and the tasks that its paper has."""

from collections.abc import Mapping
from dataclasses import dataclass

from erdp_core.tasks import TABLES
from orchestration.plan import Column

MEDIUM_EXPERT = tuple(name for name in TABLES["gym"] if "medium-expert" in name)
"""Of Diffusion-QL's ablations (arXiv 2208.06193)."""
MEDIUM_AND_LARGE = TABLES["antmaze"][2:]
"""Of the ERDP paper's (arXiv 2402.04080)."""


@dataclass(frozen=True)
class Ablation:
    """Columns, the tasks that they are compared on unless others are named, and what they are."""

    about: str
    tasks: tuple[str, ...]
    columns: tuple[Column, ...]


def _values(method: str, setting: str, symbol: str, values: tuple[object, ...]) -> tuple[Column, ...]:
    """One column for each value of a setting."""
    return tuple(Column(f"{method}, {symbol} = {value}", method, (f"{setting}={value}",)) for value in values)


ABLATIONS: Mapping[str, Ablation] = {
    "parts": Ablation(
        "ERDP without its parts",
        MEDIUM_AND_LARGE,
        (
            Column("erdp", "erdp"),
            Column("no entropy", "erdp", ("agent.alpha=0",)),
            Column("no ensemble", "erdp", ("agent.M=1",)),
            Column("least of the members", "erdp", ("agent.pessimism=min",)),
            Column("shared targets", "erdp", ("agent.targets=shared",)),
            Column("Gaussian policy", "gaussian-ensemble"),
        ),
    ),
    "diffusion-ql-parts": Ablation(
        "Diffusion-QL's parts: its Table 2 without the CVAE policies",
        MEDIUM_EXPERT,
        (
            Column("BC-Diffusion", "diffusion-ql", ("agent.eta=0", "agent.candidates=1")),
            # The policy clones; the critics back up the best of its samples, and choose among them.
            Column("BCQ-Diffusion", "diffusion-ql", ("agent.eta=0", "agent.max_q_backup=true")),
            Column("Diffusion-QL", "diffusion-ql"),
        ),
    ),
    "diffusion-ql-steps": Ablation(
        "Diffusion-QL with N diffusion steps",
        MEDIUM_EXPERT,
        _values("diffusion-ql", "agent.T", "N", (2, 5, 10, 20)),
    ),
}
