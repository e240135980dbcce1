"""What each ablation compares: columns with settings of their own, mostly of one method, and its paper's tasks.

Numbered tables are those of the ERDP paper (arXiv 2402.04080).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from erdp_core.tasks import TABLES
from orchestration.plan import Column

MEDIUM_EXPERT = tuple(name for name in TABLES["gym"] if "medium-expert" in name)
"""Of Diffusion-QL's ablations (arXiv 2208.06193)."""
MEDIUM = TABLES["antmaze"][2:4]
MEDIUM_AND_LARGE = TABLES["antmaze"][2:]
GYM_MEDIUM = tuple(name for name in TABLES["gym"] if name.endswith("-medium-v2"))
GYM_REPLAY = tuple(name for name in TABLES["gym"] if "medium-replay" in name)
OF_ALPHA = (*MEDIUM_AND_LARGE, *GYM_MEDIUM, *TABLES["adroit"], "kitchen-complete-v0", "kitchen-mixed-v0")
OF_STEPS = (*GYM_REPLAY, *MEDIUM_AND_LARGE, *TABLES["adroit"], *TABLES["kitchen"])
ALPHAS = (0, 0.01, 0.05, 0.1)
AUTOMATIC = Column("erdp, automatic alpha", "erdp", ("agent.temperature=automatic",))


@dataclass(frozen=True)
class Ablation:
    """Columns, the tasks that they are compared on unless others are named, and what they are."""

    about: str
    tasks: tuple[str, ...]
    columns: tuple[Column, ...]


def columns_of(method: str, setting: str, values: Sequence[object], settings: Sequence[str] = ()) -> tuple[Column, ...]:
    """One column for each value of a setting, all with further settings."""
    symbol = setting.rpartition(".")[2]
    return tuple(Column(f"{method}, {symbol} = {value}", method, (f"{setting}={value}", *settings)) for value in values)


def with_settings(columns: Sequence[Column], *settings: str) -> tuple[Column, ...]:
    """The same columns, each with further settings."""
    return tuple(replace(column, settings=(*column.settings, *settings)) for column in columns)


# With Table 3's T = 5 where Table 1 has 10 (Adroit, Kitchen); the other domains have no other.
_OF_ALPHA = with_settings((*columns_of("erdp", "agent.alpha", ALPHAS), AUTOMATIC), "agent.T=5")
ABLATIONS: Mapping[str, Ablation] = {
    "alpha": Ablation("the entropy's temperature (Table 3)", OF_ALPHA, _OF_ALPHA),
    "alpha-alone": Ablation(
        "the entropy's temperature with one critic and without the maximum in the backup, as in the first version",
        MEDIUM_AND_LARGE,
        with_settings(_OF_ALPHA, "agent.M=1", "agent.max_q_backup=false"),
    ),
    "critics": Ablation(
        "critics of the ensemble (Tables 4 and 7, Figure 8)",
        MEDIUM_AND_LARGE,
        columns_of("erdp", "agent.M", (1, 2, 4, 16, 64)),
    ),
    "beta": Ablation("pessimism (Table 8, Figure 3)", MEDIUM, columns_of("erdp", "agent.beta", (1, 2, 4))),
    "steps": Ablation("diffusion steps (Table 9)", OF_STEPS, columns_of("erdp", "agent.T", (3, 5, 10))),
    "max-q": Ablation(
        "the maximum in the backup (Table 10)",
        MEDIUM_AND_LARGE,
        columns_of("erdp", "agent.max_q_backup", ("true", "false")),
    ),
    "selection": Ablation(
        "which evaluation counts (Table 11): read the same runs with --protocol offline and paper",
        TABLES["antmaze"],
        (Column("diffusion-ql", "diffusion-ql"), Column("erdp", "erdp")),
    ),
    "time": Ablation(
        "seconds of training and evaluation (Table 5)",
        ("antmaze-medium-play-v0",),
        (
            *(Column(f"Gaussian, M = {M}", "gaussian-ensemble", (f"agent.M={M}",)) for M in (2, 64)),
            *(
                Column(f"diffusion, T = {T}, M = {M}", "erdp", (f"agent.T={T}", f"agent.M={M}"))
                for T in (5, 10)
                for M in (2, 64)
            ),
        ),
    ),
    "objective": Ablation(
        "objective and entropy as in the published code, and as printed",
        MEDIUM_AND_LARGE,
        tuple(
            Column(
                f"{objective} objective, {entropy} entropy",
                "erdp",
                (f"agent.objective={objective}", f"agent.entropy={entropy}"),
            )
            for objective in ("released", "paper")
            for entropy in ("released", "paper")
        ),
    ),
    "candidates": Ablation(
        "actions to choose from", MEDIUM_AND_LARGE, columns_of("erdp", "agent.candidates", (1, 10, 50, 200))
    ),
    "loss": Ablation(
        "the noise network's loss", GYM_MEDIUM, columns_of("erdp", "agent.diffusion_loss", ("noise", "likelihood"))
    ),
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
        columns_of("diffusion-ql", "agent.T", (2, 5, 10, 20)),
    ),
}
