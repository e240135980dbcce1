"""Statistics over several tasks and methods: interquartile mean, improvement, profiles, inflation; with intervals.

Definitions of https://arxiv.org/abs/2108.13264. Scores of a method are a list of tasks, each an array [n] of its seeds'
scores; tasks may have different numbers of seeds. Intervals resample the seeds within each task (a stratified
bootstrap), so that they say how another set of seeds might come out, not other tasks.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from results.estimators import CONFIDENCE

Floats = npt.NDArray[np.float64]
Scores = Sequence[Floats]
"""A method's, an array [..., n] for each task; what is before the seeds are resamples."""
RESAMPLES = 2_000
TRIMMED = 0.25
"""Of all runs, at each end."""


@dataclass(frozen=True)
class Estimate:
    """A number and its interval."""

    value: float
    low: float
    high: float


def interquartile_mean(scores: Scores) -> Floats:
    """Mean of the middle half of all runs of all tasks, [...]."""
    found: Floats = np.asarray(stats.trim_mean(np.concatenate(scores, axis=-1), TRIMMED, axis=-1))
    return found


def mean_over_tasks(scores: Scores) -> Floats:
    """Mean over tasks of their means over seeds, [...]."""
    found: Floats = np.mean([of_task.mean(axis=-1) for of_task in scores], axis=0)
    return found


def probability_of_improvement(ours: Scores, theirs: Scores) -> Floats:
    """Mean over tasks of P(a run of ours scores more than one of theirs), ties counting half, [...]."""
    chances = []
    for our, their in zip(ours, theirs, strict=True):
        x, y = our[..., :, None], their[..., None, :]
        chances.append(((x > y) + 0.5 * (x == y)).mean(axis=(-2, -1)))
    found: Floats = np.mean(chances, axis=0)
    return found


def performance_profile(scores: Scores, thresholds: Floats) -> Floats:
    """Share of runs above each of K thresholds, [..., K], every task counting the same."""
    shares = [(of_task[..., :, None] > thresholds).mean(axis=-2) for of_task in scores]
    found: Floats = np.mean(shares, axis=0)
    return found


def bootstrap(
    statistic: Callable[..., Floats], *methods: Scores, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[Floats, Floats]:
    """Lower and upper end of a statistic's interval; a method's seeds are drawn apart from the others'.

    Expanded percentiles (Hesterberg, https://arxiv.org/abs/1411.5279): resampling n seeds understates
    their spread by sqrt((n - 1) / n) and knows no Student t, so that plain percentiles hold the truth too rarely with
    few seeds; of a mean of normal scores these are Student's interval.

    Raises ValueError where a task has a single seed: there is nothing to resample.
    """
    counts = [of_task.shape[-1] for scores in methods for of_task in scores]
    if min(counts) < 2:
        raise ValueError("an interval needs two seeds for each task")
    random = np.random.default_rng(seed)
    drawn = [[random.choice(of_task, (resamples, len(of_task))) for of_task in scores] for scores in methods]
    n, freedom = sum(counts) / len(counts), sum(counts) - len(counts)
    spread = math.sqrt(n / (n - 1)) * stats.t.ppf((1 + CONFIDENCE) / 2, freedom)
    tail = stats.norm.cdf(-spread)
    low, high = np.quantile(statistic(*drawn), [tail, 1 - tail], axis=0)
    return low, high


def estimate(statistic: Callable[..., Floats], *methods: Scores, seed: int = 0) -> Estimate:
    """A statistic with its bootstrap interval."""
    low, high = bootstrap(statistic, *methods, seed=seed)
    return Estimate(float(statistic(*methods)), float(low), float(high))


@dataclass(frozen=True)
class Inflation:
    """How much the best of a run's evaluations says beyond what its policy is worth."""

    best: float
    """Mean over runs of the best evaluation: what the paper's protocol prints."""
    last: float
    """Mean over runs of the last evaluation."""
    by_noise: float
    """What the best of as many equally good evaluations would gain from the episodes drawn alone."""
    runs: int

    @property
    def total(self) -> float:
        """Best less last: choice of the moment, and noise."""
        return self.best - self.last


def inflation(curves: Sequence[npt.NDArray[np.float64]], spreads: Sequence[float]) -> Inflation:
    """The inflation of taking the best of a run's evaluations, over runs.

    curves: each run's evaluations in order, [E]. spreads: of each run, the standard deviation of one evaluation around
    its policy's true score, from its episodes: std over episodes / sqrt(episodes).
    """
    if len(curves) != len(spreads) or not curves:
        raise ValueError(f"{len(curves)} runs, but {len(spreads)} spreads")
    gains = [spread * expected_maximum(len(curve)) for curve, spread in zip(curves, spreads, strict=True)]
    return Inflation(
        best=float(np.mean([curve.max() for curve in curves])),
        last=float(np.mean([curve[-1] for curve in curves])),
        by_noise=float(np.mean(gains)),
        runs=len(curves),
    )


def expected_maximum(count: int) -> float:
    """Expected largest of `count` independent standard normal numbers."""
    x = np.linspace(-12, 12, 4_801)
    density = count * stats.norm.pdf(x) * stats.norm.cdf(x) ** (count - 1)
    return float(np.trapezoid(x * density, x))
