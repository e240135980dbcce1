"""Statistics over tasks against cases worked out by hand, and against simulation."""

import numpy as np
import pytest
from scipy import stats

from results.aggregates import (
    bootstrap,
    estimate,
    expected_maximum,
    inflation,
    interquartile_mean,
    mean_over_tasks,
    performance_profile,
    probability_of_improvement,
)

A, B = np.array([1.0, 2.0, 3.0, 4.0]), np.array([10.0, 20.0, 30.0, 100.0])


def test_interquartile_mean_by_hand() -> None:
    """Of 1, 2, 3, 4, 10, 20, 30, 100 the middle four."""
    assert interquartile_mean([A, B]) == (3 + 4 + 10 + 20) / 4
    assert mean_over_tasks([A, B]) == (2.5 + 40) / 2
    assert mean_over_tasks([np.array([2.0]), B]) == 21.0  # each task counts once, however many its seeds


def test_improvement_by_hand() -> None:
    """On the first task 3 of 4 pairs, one of them a tie; on the second all of them."""
    ours = [np.array([2.0, 3.0]), np.array([5.0])]
    theirs = [np.array([1.0, 3.0]), np.array([4.0, 1.0])]
    assert probability_of_improvement(ours, theirs) == pytest.approx(((1 + 0 + 1 + 0.5) / 4 + 1) / 2)
    assert probability_of_improvement(ours, theirs) + probability_of_improvement(theirs, ours) == pytest.approx(1)


def test_profile_by_hand() -> None:
    thresholds = np.array([0.0, 2.0, 25.0, 200.0])
    np.testing.assert_allclose(performance_profile([A, B], thresholds), [1, (0.5 + 1) / 2, (0 + 0.5) / 2, 0])


def test_the_bootstrap_stays_within_its_task() -> None:
    """Without spread within a task nothing moves, however far tasks are apart."""
    low, high = bootstrap(mean_over_tasks, [np.zeros(5), np.full(5, 100.0)])
    assert low == high == 50.0
    found = estimate(interquartile_mean, [A, B])
    assert found.low < found.value < found.high
    assert estimate(interquartile_mean, [A, B]) == found
    with pytest.raises(ValueError, match="needs two seeds"):
        bootstrap(mean_over_tasks, [A, np.array([1.0])])


def test_the_bootstrap_is_scipys_at_wider_percentiles() -> None:
    """One task of 10 seeds: t(9) at 97.5% is 2.262157, times sqrt(10 / 9) = 2.384522, which leaves 0.855% a side."""
    scores = np.random.default_rng(3).normal(50, 10, size=10)
    low, high = bootstrap(mean_over_tasks, [scores], resamples=50_000)
    wider = 1 - 2 * 0.00855
    theirs = stats.bootstrap(
        (scores,), np.mean, method="percentile", n_resamples=50_000, confidence_level=wider, random_state=1
    )
    assert low == pytest.approx(theirs.confidence_interval.low, abs=0.2)
    assert high == pytest.approx(theirs.confidence_interval.high, abs=0.2)


@pytest.mark.parametrize(("count", "expected"), [(1, 0.0), (2, 1 / np.sqrt(np.pi)), (3, 1.5 / np.sqrt(np.pi))])
def test_the_largest_of_normal_numbers(count: int, expected: float) -> None:
    assert expected_maximum(count) == pytest.approx(expected, abs=1e-6)


def test_inflation_of_equally_good_evaluations_is_noise_alone() -> None:
    random = np.random.default_rng(0)
    curves = list(50 + 4.0 * random.normal(size=(4_000, 20)))
    found = inflation(curves, [4.0] * len(curves))
    assert found.total == pytest.approx(found.by_noise, abs=0.2)
    assert found.by_noise == pytest.approx(4 * 1.867, abs=0.01)
    assert found.last == pytest.approx(50, abs=0.2)
    with pytest.raises(ValueError, match="2 runs, but 1 spreads"):
        inflation([A, B], [1.0])
