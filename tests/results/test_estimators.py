"""Scores and statistics against hand-computed cases, scipy, and properties that hold for any numbers."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from erdp_core.errors import UserError
from results.estimators import PROTOCOLS, cell_statistics, difference, run_score

SCORES = [10.0, 40.0, 30.0, 20.0, 60.0, 50.0, 55.0]
any_score = st.floats(-200, 200, allow_nan=False, width=32)


@pytest.mark.parametrize(
    ("protocol", "expected"),
    [("paper", 60.0), ("last", 55.0), ("last-k", (30.0 + 20.0 + 60.0 + 50.0 + 55.0) / 5), ("offline", 55.0)],
)
def test_protocols_by_hand(protocol: str, expected: float) -> None:
    assert run_score(SCORES, protocol) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([1.0, 0.5, 0.497, 0.4969, 0.3, 0.3, 0.3], 30.0),  # 0.5 -> 0.497 is the first change below 4e-3
        ([1.0, 0.5, 0.503, 0.2, 0.1, 0.05, 0.01], 30.0),  # a small rise has settled as well
        ([1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4], 55.0),  # never
        ([1.0, 0.996, 0.5, 0.4, 0.3, 0.2, 0.1], 55.0),  # 4e-3 itself is not below 4e-3 (0.0040000000000000036)
        ([1.0, math.nan, 1.0, 1.0, 0.5, 0.5, 0.5], 20.0),  # an interval without a mean compares with none
        ([math.nan] * 7, 55.0),
    ],
)
def test_offline_takes_the_first_evaluation_where_the_diffusion_loss_has_settled(
    losses: list[float], expected: float
) -> None:
    assert run_score(SCORES, "offline", losses) == expected


@pytest.mark.parametrize(("choice", "expected"), [(0, 20.0), (1, 60.0), (2, 10.0), (9, 30.0)])
def test_offline_takes_the_kth_lowest_diffusion_loss_where_the_method_says_so(choice: int, expected: float) -> None:
    losses = [0.4, 0.9, math.nan, 0.1, 0.2]
    assert run_score([10.0, 30.0, 40.0, 20.0, 60.0], "offline", losses, choice) == expected
    assert run_score([10.0, 30.0], "offline", [math.nan, math.nan], choice) == 30.0
    assert run_score([10.0, 30.0], "paper", [0.1, 0.2], choice) == 30.0


def test_one_evaluation_is_its_own_score() -> None:
    assert {run_score([42.0], protocol, [0.1]) for protocol in PROTOCOLS} == {42.0}


def test_misuse() -> None:
    with pytest.raises(UserError, match=r"unknown protocol 'papr': did you mean 'paper'\?"):
        run_score(SCORES, "papr")
    with pytest.raises(ValueError, match="without evaluations"):
        run_score([], "last")
    with pytest.raises(ValueError, match="7 scores, but 1"):
        run_score(SCORES, "offline", [0.1])
    with pytest.raises(ValueError, match="without scores"):
        cell_statistics([])
    with pytest.raises(ValueError, match="not finite"):
        cell_statistics([1.0, math.nan])


@given(st.lists(any_score, min_size=1, max_size=30), st.data())
def test_every_protocol_stays_within_the_evaluations(scores: list[float], data: st.DataObject) -> None:
    losses = data.draw(st.lists(st.floats(0, 1), min_size=len(scores), max_size=len(scores)))
    results = {protocol: run_score(scores, protocol, losses) for protocol in PROTOCOLS}
    assert results["paper"] == max(scores)
    assert all(min(scores) - 1e-9 <= result <= results["paper"] + 1e-9 for result in results.values())
    assert results["last"] in scores
    assert results["offline"] in scores


def test_statistics_by_hand() -> None:
    found = cell_statistics([2.0, 4.0, 9.0])
    assert (found.mean, found.n) == (5.0, 3)
    assert found.std == pytest.approx(math.sqrt((9 + 1 + 16) / 2))
    # t with 2 degrees of freedom at 97.5%: 4.302653.
    assert found.high == pytest.approx(5.0 + 4.302653 * math.sqrt(13) / math.sqrt(3), rel=1e-6)


def test_one_seed_has_no_spread() -> None:
    found = cell_statistics([71.5])
    assert (found.mean, found.n, found.std, found.low, found.high) == (71.5, 1, None, None, None)


@given(st.lists(any_score, min_size=2, max_size=40))
def test_statistics_agree_with_numpy_and_scipy(scores: list[float]) -> None:
    found = cell_statistics(scores)
    assert found.std is not None
    assert found.low is not None
    assert found.high is not None
    assert found.mean == pytest.approx(np.mean(scores), abs=1e-9)
    assert found.std == pytest.approx(np.std(scores, ddof=1), abs=1e-9)
    assert found.low <= found.mean <= found.high
    if len(set(scores)) > 1:
        interval = stats.ttest_1samp(scores, 0.0).confidence_interval(0.95)
        assert (found.low, found.high) == pytest.approx((interval.low, interval.high), abs=1e-6)


@given(st.lists(any_score, min_size=1, max_size=20).flatmap(lambda s: st.tuples(st.just(s), st.permutations(s))))
def test_the_order_of_seeds_changes_nothing(pair: tuple[list[float], list[float]]) -> None:
    assert cell_statistics(pair[0]) == cell_statistics(pair[1])


def test_a_difference_by_hand() -> None:
    """Variances 4 and 16 of 3 and 3 scores: standard error sqrt(20 / 3), Welch's degrees 400 / 136 = 2.941."""
    found = difference([52.0, 50.0, 54.0], [40.0, 36.0, 44.0])
    assert found.mean == pytest.approx(12.0)
    half = stats.t.ppf(0.975, 400 / 136) * math.sqrt(20 / 3)
    assert found.low == pytest.approx(12 - half)
    assert found.high == pytest.approx(12 + half)


def test_differences_of_few_scores() -> None:
    assert difference([1.0], [3.0, 4.0]).low is None
    equal = difference([2.0, 2.0], [1.0, 1.0, 1.0])
    assert (equal.mean, equal.low, equal.high) == (1.0, 1.0, 1.0)
    with pytest.raises(ValueError, match="without scores"):
        difference([], [1.0])


@given(st.lists(any_score, min_size=2, max_size=8), st.lists(any_score, min_size=2, max_size=8))
def test_a_difference_turned_round_is_its_negative(ours: list[float], theirs: list[float]) -> None:
    there, back = difference(ours, theirs), difference(theirs, ours)
    assert there.low is not None
    assert there.high is not None
    assert back.low == pytest.approx(-there.high, abs=1e-6)
    assert there.low <= there.mean + 1e-6
    assert there.mean <= there.high + 1e-6
