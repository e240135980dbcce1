"""From a run's evaluations to its score, and from the scores of a cell's seeds to mean, spread and interval.

A protocol says how a run's evaluations become one number; every table and figure names its own.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from erdp_core.config import PROTOCOLS
from erdp_core.errors import UserError, suggestion

LAST_K = 5
SETTLED = 4e-3
"""Interval means of the diffusion loss that differ by less than this have settled (ERDP's offline model selection)."""

CONFIDENCE = 0.95


def check_protocol(protocol: str) -> str:
    """The protocol itself. Raises UserError that names the nearest one where there is none of that name."""
    if protocol not in PROTOCOLS:
        raise UserError(f"unknown protocol {protocol!r}: {suggestion(protocol, PROTOCOLS)}")
    return protocol


def run_score(
    scores: Sequence[float],
    protocol: str,
    diffusion_losses: Sequence[float] | None = None,
    choice: int | None = None,
) -> float:
    """The score of one run under a protocol.

    scores: [E], one an evaluation, in order of step.
    diffusion_losses: [E], mean of the diffusion loss over the interval that ended at each evaluation, NaN where there
    is none; None for a method that has no diffusion loss. Only `offline` reads them.
    choice: for methods that `offline` selects by order: take the evaluation whose loss is the (choice + 1)-th lowest.

    Raises UserError for an unknown protocol, ValueError where there is no evaluation or the lengths differ.
    """
    check_protocol(protocol)
    if not len(scores):
        raise ValueError("a run without evaluations has no score")
    if protocol == "paper":
        return float(max(scores))
    if protocol == "last-k":
        return float(np.mean(scores[-LAST_K:]))
    if protocol == "offline" and diffusion_losses is not None:
        if len(diffusion_losses) != len(scores):
            raise ValueError(f"{len(scores)} scores, but {len(diffusion_losses)} interval means of the diffusion loss")
        losses = np.asarray(diffusion_losses, dtype=float)
        if choice is not None:
            known = np.flatnonzero(np.isfinite(losses))
            if not known.size:
                return float(scores[-1])
            in_order = known[np.argsort(losses[known], kind="stable")]
            return float(scores[in_order[min(choice, len(in_order) - 1)]])
        # A comparison with NaN is false: an interval without a mean has not settled.
        changes = np.abs(np.diff(losses))
        settled = np.flatnonzero(changes < SETTLED)
        if settled.size:
            return float(scores[settled[0] + 1])
    return float(scores[-1])


@dataclass(frozen=True)
class Difference:
    """Of the means of two cells."""

    mean: float
    low: float | None
    high: float | None
    """Welch's 95% interval, which takes neither equal spreads nor paired seeds for granted; None for one seed."""


def difference(ours: Sequence[float], theirs: Sequence[float]) -> Difference:
    """By how much the mean of our scores [n] is above that of theirs [m], one score a seed.

    Raises ValueError where one of them has none.
    """
    if not ours or not theirs:
        raise ValueError("a cell without scores has no mean")
    mean = math.fsum(ours) / len(ours) - math.fsum(theirs) / len(theirs)
    if min(len(ours), len(theirs)) < 2:
        return Difference(mean, None, None)
    if len(set(ours)) == len(set(theirs)) == 1:
        return Difference(mean, mean, mean)
    interval = stats.ttest_ind(ours, theirs, equal_var=False).confidence_interval(CONFIDENCE)
    return Difference(mean, float(interval.low), float(interval.high))


@dataclass(frozen=True)
class CellStatistics:
    """What the scores of a cell's n seeds say."""

    mean: float
    n: int
    std: float | None
    """Sample standard deviation over seeds (ddof 1); None for one seed."""
    low: float | None
    high: float | None
    """Student-t interval of the mean at 95%, n - 1 degrees of freedom; None for one seed."""


def cell_statistics(scores: Sequence[float]) -> CellStatistics:
    """Mean, sample standard deviation and 95% Student-t interval of scores [n], one a seed, in any order.

    Raises ValueError where there are none, or one is not finite.
    """
    n = len(scores)
    if not n:
        raise ValueError("a cell without scores has no statistics")
    if not all(math.isfinite(score) for score in scores):
        raise ValueError(f"a score is not finite: {list(scores)}")
    # fsum does not depend on the order of the seeds.
    mean = math.fsum(scores) / n
    if n == 1:
        return CellStatistics(mean, n, None, None, None)
    std = math.sqrt(math.fsum((score - mean) ** 2 for score in scores) / (n - 1))
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * std / math.sqrt(n)
    return CellStatistics(mean, n, std, mean - half, mean + half)
