"""Statistics over several tasks and methods: interquartile mean, improvement, profiles, inflation; with intervals.

Definitions of https://arxiv.org/abs/2108.13264. Scores of a method are a list of tasks, each an array [n] of its seeds'
scores; tasks may have different numbers of seeds. Intervals resample the seeds within each task (a stratified
bootstrap) and take percentiles, so that they say how another set of seeds might come out, not other tasks.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from results.estimators import CONFIDENCE, LAST_K

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
    statistic: Callable[..., Floats],
    *methods: Scores,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> tuple[Floats, Floats]:
    """Lower and upper end of a statistic's interval; a method's seeds are drawn apart from the others'.

    Raises ValueError where a task has a single seed: there is nothing to resample.
    """
    if any(of_task.shape[-1] < 2 for scores in methods for of_task in scores):
        raise ValueError("an interval needs two seeds for each task")
    random = np.random.default_rng(seed)
    drawn = [[random.choice(of_task, (resamples, len(of_task))) for of_task in scores] for scores in methods]
    tail = 50 * (1 - confidence)
    low, high = np.percentile(statistic(*drawn), [tail, 100 - tail], axis=0)
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
    last_k: float
    """Mean over runs of the mean of the last evaluations."""
    by_noise: float
    """What the best of as many equally good evaluations would gain from the episodes drawn alone."""
    runs: int

    @property
    def total(self) -> float:
        """Best less last: choice of the moment, and noise."""
        return self.best - self.last_k


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
        last_k=float(np.mean([curve[-LAST_K:].mean() for curve in curves])),
        by_noise=float(np.mean(gains)),
        runs=len(curves),
    )


def expected_maximum(count: int) -> float:
    """Expected largest of `count` independent standard normal numbers."""
    x = np.linspace(-12, 12, 4_801)
    density = count * stats.norm.pdf(x) * stats.norm.cdf(x) ** (count - 1)
    return float(np.trapezoid(x * density, x))


def coverage(
    interval: Callable[[npt.NDArray[np.float64]], tuple[float, float]],
    draw: Callable[[np.random.Generator, int], npt.NDArray[np.float64]],
    truth: float,
    n: int,
    repetitions: int = 2_000,
    seed: int = 0,
) -> Estimate:
    """How often an interval from n scores holds the truth, with the simulation's own 95% interval (Wilson's)."""
    random = np.random.default_rng(seed)
    held = 0
    for _ in range(repetitions):
        low, high = interval(draw(random, n))
        held += low <= truth <= high
    result = stats.binomtest(held, repetitions).proportion_ci(0.95, method="wilson")
    if math.isnan(result.low):
        raise ValueError("no repetitions")
    return Estimate(held / repetitions, result.low, result.high)
