"""The papers' toy experiments: Diffusion-QL's two bandits, ERDP's two steps on a line and its optimal sampling."""

import hashlib
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import numpy as np

from erdp_core.agent_configs import ALGORITHM_VERSIONS
from erdp_core.command_line import Parser, counted, run
from erdp_core.errors import UserError, suggestion
from orchestration import cluster
from orchestration.ledger import Ledger, Record
from results.toy_figures import write_toy_figure
from sweeps.toy_problems import (
    ACTION_SPREAD,
    BANDIT_ROWS,
    BANDIT_SPREAD,
    CENTRES,
    COMMON,
    COMMON_PLACE,
    LINE_EPISODES,
    PEAKS,
    RARE_PLACE,
    REWARD_NOISE,
    REWARD_SPREAD,
    REWARDS,
    bandit,
    true_first_values,
)
from sweeps.toy_sampling import PICTURE_STEPS, PICTURED, POINTS, STEPS, reconstructions, there_and_back
from sweeps.toy_training import GRID, SAMPLES, Arrays, Variant, trained

EXAMPLES = """\
  python sweeps/toys.py --toy bandit-corners      Diffusion-QL clones and improves, with 2, 5, 10 and 50 diffusion steps
  python sweeps/toys.py --toy two-steps           ERDP with and without its parts, and every other method, 5 seeds
  python sweeps/toys.py --toy sampling            data brought back by optimal sampling and by the reverse SDE
  python sweeps/toys.py --toy process             data on their way to noise and back"""

TOYS = (*CENTRES, "two-steps", "sampling", "process")
UNTRAINED = {"sampling": reconstructions, "process": there_and_back}
DIFFUSION_STEPS = (2, 5, 10, 50)
BANDIT_STEPS = 8_000
"""Of the paper's 1,000 epochs of 100 batches."""
LINE_STEPS = 5_000
SEEDS = tuple(range(5))

# Rate, eta and batch of Diffusion-QL's bandits: its paper's.
_BANDIT = {"width": 128, "batch_size": 100, "eta": 2.5, "actor_lr": 3e-4, "critic_lr": 3e-4}
_SMALL = {"width": 64, "batch_size": 128, "actor_lr": 1e-3}
_VALUES = {**_SMALL, "critic_lr": 1e-3}
_ENSEMBLE = {**_VALUES, "M": 8}
_ERDP = {**_ENSEMBLE, "diffusion_loss": "noise", "action_clip": True, "alpha": 0.05, "beta": 2.0, "ema_from": 100}


def bandit_variants(toy: str, steps: int) -> list[Variant]:
    """Cloning and Q-learning for each number of diffusion steps, the longest first."""
    return [
        Variant(toy, f"{name}, N = {T}", "diffusion-ql", steps, {**_BANDIT, "T": T, "eta": eta})
        for T in sorted(DIFFUSION_STEPS, reverse=True)
        for name, eta in (("Q-learning", _BANDIT["eta"]), ("cloning", 0.0))
    ]


def line_variants(steps: int) -> list[Variant]:
    """ERDP with and without its parts, then the other methods."""
    erdp: dict[str, dict[str, Any]] = {
        "erdp": {},
        "erdp without entropy": {"alpha": 0.0},
        "erdp without ensemble": {"M": 1},
        "erdp without either": {"M": 1, "alpha": 0.0},
        "erdp, least of the members": {"pessimism": "min"},
        "erdp, T = 10": {"T": 10},  # as few steps of optimal sampling keep little of the data's spread
    }
    others: dict[str, dict[str, Any]] = {
        "bc-diffusion": {**_SMALL, "diffusion_loss": "noise", "action_clip": True},
        "diffusion-ql": {**_VALUES, "eta": 1.0, "ema_from": 100},
        "bc": _SMALL,
        "td3-bc": _VALUES,
        "iql": _VALUES,
        "cql": {**_VALUES, "cloning_steps": steps // 10, "conservative_weight": 1.0, "sampled_actions": 4},
        "msg": _ENSEMBLE,
        "idql": _VALUES,
        "edp": _VALUES,
        "gaussian-ensemble": {**_ENSEMBLE, "beta": 2.0, "alpha": 0.05},
    }
    variants = [Variant("two-steps", label, "erdp", steps, {**_ERDP, **own}, SEEDS) for label, own in erdp.items()]
    return variants + [Variant("two-steps", method, method, steps, own, SEEDS) for method, own in others.items()]


def variants_of(toy: str, steps: int | None) -> list[Variant]:
    """What a toy trains, with so many steps each, or the toy's own number; some train nothing."""
    if toy in UNTRAINED:
        return []
    if toy == "two-steps":
        return line_variants(LINE_STEPS if steps is None else steps)
    return bandit_variants(toy, BANDIT_STEPS if steps is None else steps)


def name_of(toy: str, variants: Sequence[Variant]) -> str:
    """A toy's name in the ledger, with a hash of all that its arrays depend on."""
    request: list[Any] = [caption(toy), STEPS, PICTURED]  # which have the problem's numbers
    request += [[asdict(variant), variant.config.to_dict(), ALGORITHM_VERSIONS[variant.method]] for variant in variants]
    return f"{toy}-{hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()[:6]}"


def command(argv: Sequence[str] | None) -> int:
    """Train what the ledger lacks of a toy, draw it, say where its figure is; returns 0, or 1 if a variant failed."""
    parser = Parser(str(__doc__), EXAMPLES)
    parser.add_argument("--toy", required=True, metavar="NAME", help=", ".join(TOYS))
    parser.add_argument("--steps", type=int, metavar="N", help="training steps of a variant (default: the toy's own)")
    parser.add_argument(
        "--ledger", default=os.environ.get("ERDP_LEDGER") or "runs",
        help="where the numbers and the figure go (default: $ERDP_LEDGER, else runs under the current directory)",
    )  # fmt: skip
    parser.add_argument("--address", default="local", help="Ray: local, auto or HOST:PORT (default: local)")
    arguments = parser.parse_args(argv)
    if arguments.toy not in TOYS:
        raise UserError(f"unknown toy {arguments.toy!r}: {suggestion(arguments.toy, TOYS)}")
    if arguments.steps is not None and arguments.steps < 1:
        raise UserError(f"--steps {arguments.steps} is less than 1")
    if arguments.steps is not None and arguments.toy in UNTRAINED:
        raise UserError(f"--steps {arguments.steps}: the toy {arguments.toy} trains nothing")
    variants = variants_of(arguments.toy, arguments.steps)
    ledger, name = Ledger.open(arguments.ledger, create=True), name_of(arguments.toy, variants)
    print(f"ledger: {ledger.root}")
    if name in ledger.toys():
        print(f"{name}: done before")
    elif not variants:
        keep(ledger, name, arguments.toy, [], 0.0, UNTRAINED[arguments.toy]())
    elif not train(ledger, name, arguments.toy, variants, arguments.address):
        return 1
    with ledger.writing():
        for path in write_toy_figure(ledger, name, ledger.root / "toys"):
            print(f"wrote {path}")
    return 0


def train(ledger: Ledger, name: str, toy: str, variants: Sequence[Variant], address: str) -> bool:
    """Train every variant, a core for each, and keep what their figure shows; False where one failed."""
    started = time.monotonic()
    print(f"{name}: {counted(len(variants), 'variant')} of {variants[0].steps:,} steps", flush=True)
    arrays: Arrays = {}
    records = [asdict(variant) for variant in variants]
    try:
        for index, (found, seconds) in cluster.each(trained, variants, address):
            records[index]["seconds"] = round(seconds, 1)
            arrays |= {f"{index}/{key}": values for key, values in found.items()}
            print(f"[{time.monotonic() - started:.0f} s] {variants[index].label}: {seconds:.0f} s", flush=True)
    except cluster.TaskError as error:
        print(f"failed: {variants[error.index].label}: {error}", file=sys.stderr)
        return False
    keep(ledger, name, toy, records, time.monotonic() - started, arrays | problem(toy))
    return True


def keep(ledger: Ledger, name: str, toy: str, variants: list[Record], seconds: float, arrays: Arrays) -> None:
    """Write a toy's arrays, with what its figure says of them."""
    trained_for = [f"Each is trained for {variants[0]['steps']:,} steps."] if variants else []
    record = {"toy": toy, "variants": variants, "seconds": round(seconds, 1), "caption": [*caption(toy), *trained_for]}
    record["versions"] = {package: version(package) for package in ("erdp-bench", "torch", "numpy")}
    with ledger.writing():
        ledger.write_toy(name, record, arrays)


def problem(toy: str) -> Arrays:
    """What a figure shows of the problem itself."""
    if toy == "two-steps":
        grid = np.linspace(-1, 1, GRID)
        return {"grid": grid, "true_values": true_first_values(grid)}
    return {
        "centres": np.array(CENTRES[toy]),
        "rewards": np.array(REWARDS),
        "spread": np.array(BANDIT_SPREAD),
        "data": bandit(toy).actions[:SAMPLES].numpy(),
    }


def caption(toy: str) -> list[str]:
    """What a reader needs to know of the problem."""
    if toy == "two-steps":
        peaks = " and ".join(f"{height:g} at {place:g} (spread {spread:g})" for height, place, spread in PEAKS)
        return [
            "Two steps on a line from 0, each as far as its action; arriving pays the sum of two peaks: "
            f"{peaks}, with noise of {REWARD_NOISE:g}. Data: {LINE_EPISODES:,} episodes, {COMMON:.0%} of the actions "
            f"around {COMMON_PLACE:g}, the others around {RARE_PLACE:g} (spread {ACTION_SPREAD:g}). The paper's Figure "
            "1 (arXiv 2402.04080) has no numbers: these are ours.",
        ]
    if toy == "sampling":
        return [
            f"{POINTS:,} points of a spiral, gone to noise and brought back in T steps, the score being that of the "
            "true a_0. Optimal sampling takes each step from the posterior of Eq. 7 of arXiv 2402.04080, the reverse "
            "SDE is taken by Euler steps; the data are ours. Below each panel: root mean square distance to a_0.",
        ]
    if toy == "process":
        return [
            f"The mean-reverting SDE of arXiv 2402.04080 with T = {PICTURE_STEPS}: above, {POINTS:,} points of a "
            "spiral, which is ours, on their way to noise (Eq. 4); below, other noise brought back by optimal sampling "
            "(Eq. 7), the true a_0 in place of a network's estimate.",
        ]
    return [
        f"{BANDIT_ROWS:,} actions of arXiv 2208.06193's bandit, as many around each centre (spread {BANDIT_SPREAD:g}); "
        f"numbers: mean rewards (spread {REWARD_SPREAD:g}). Diffusion-QL with N diffusion steps, eta "
        f"{_BANDIT['eta']:g}; 1,000 samples of its policy.",
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 1 a variant failed, 2 bad usage."""
    return run(command, argv, "nothing was kept: the same command begins anew")


if __name__ == "__main__":
    sys.exit(main())
