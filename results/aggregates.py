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

Scores = Sequence[npt.NDArray[np.float64]]
RESAMPLES = 2_000
TRIMMED = 0.25
"""Of all runs, at each end."""


@dataclass(frozen=True)
class Estimate:
    """A number and its interval."""

    value: float
    low: float
    high: float


def interquartile_mean(scores: Scores) -> float:
    """Mean of the middle half of all runs of all tasks."""
    return float(stats.trim_mean(np.concatenate(scores), TRIMMED))


def mean_over_tasks(scores: Scores) -> float:
    """Mean over tasks of their means over seeds."""
    return float(np.mean([np.mean(of_task) for of_task in scores]))


def probability_of_improvement(ours: Scores, theirs: Scores) -> float:
    """Mean over tasks of P(a run of ours scores more than one of theirs), ties counting half."""
    chances = [
        np.mean((x[:, None] > y[None]) + 0.5 * (x[:, None] == y[None])) for x, y in zip(ours, theirs, strict=True)
    ]
    return float(np.mean(chances))


def performance_profile(scores: Scores, thresholds: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Share of runs above each threshold, [K], every task counting the same."""
    shares = [(of_task[:, None] > thresholds).mean(axis=0) for of_task in scores]
    found: npt.NDArray[np.float64] = np.mean(shares, axis=0)
    return found


def bootstrap(
    statistic: Callable[..., float | npt.NDArray[np.float64]],
    *methods: Scores,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Lower and upper end of a statistic's interval; a method's seeds are drawn apart from the others'.

    Raises ValueError where a task has a single seed: there is nothing to resample.
    """
    if any(len(of_task) < 2 for scores in methods for of_task in scores):
        raise ValueError("an interval needs two seeds for each task")
    random = np.random.default_rng(seed)
    found = []
    for _ in range(resamples):
        drawn = [[random.choice(of_task, len(of_task)) for of_task in scores] for scores in methods]
        found.append(statistic(*drawn))
    tail = 50 * (1 - confidence)
    low, high = np.percentile(np.array(found), [tail, 100 - tail], axis=0)
    return low, high


def estimate(statistic: Callable[..., float], *methods: Scores, seed: int = 0) -> Estimate:
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
