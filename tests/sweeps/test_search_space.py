"""Ranges of a search: what they propose, and mistakes told in one line."""

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from erdp_core.config import parse_settings, resolve
from erdp_core.errors import UserError
from erdp_core.tasks import get_task
from sweeps.search_space import DEFAULT_SPACE, Range, parse_space


def test_ranges_as_written() -> None:
    assert parse_space(DEFAULT_SPACE, "erdp") == (Range("agent.alpha", 0.001, 0.3, is_log=True, is_whole=False),)
    whole, plain = parse_space(["agent.M=1:64:log", "agent.beta=0:8"], "erdp")
    assert whole == Range("agent.M", 1, 64, is_log=True, is_whole=True)
    assert plain == Range("agent.beta", 0, 8, is_log=False, is_whole=False)
    assert plain.symbol == "beta"


@pytest.mark.parametrize(
    ("text", "method", "message"),
    [
        ("agent.alpha", "erdp", "--space takes KEY=LOW:HIGH or KEY=LOW:HIGH:log, not 'agent.alpha'"),
        ("agent.alpha=1", "erdp", "--space takes KEY=LOW:HIGH"),
        ("agent.alpha=0.1:1:linear", "erdp", "--space takes KEY=LOW:HIGH"),
        ("agent.alhpa=0.1:1", "erdp", "did you mean 'agent.alpha'"),
        ("agent.alpha=0.1:1", "iql", "is no number of iql's"),
        ("agent.temperature=0:1", "erdp", "is no number of erdp's"),
        ("agent.max_q_backup=0:1", "erdp", "is no number of erdp's"),
        ("trainer.steps=10:100", "erdp", "is no number of erdp's"),
        ("agent.alpha=1:0.1", "erdp", "1 is not less than 0.1"),
        ("agent.alpha=0.1:0.1", "erdp", "0.1 is not less than 0.1"),
        ("agent.alpha=0:1:log", "erdp", "begins above 0, not at 0"),
        ("agent.alpha=0.1:1000", "erdp", r"is outside \[0.0, 100.0\]"),
        ("agent.alpha=low:1", "erdp", "is not of type float"),
        ("agent.alpha=0.1:nan", "erdp", "is outside"),
        ("agent.M=1.5:3", "erdp", "is not of type int"),
    ],
)
def test_mistakes(text: str, method: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_space([text], method)


def test_a_setting_has_one_range() -> None:
    with pytest.raises(UserError, match=r"--space gives agent.alpha twice"):
        parse_space(["agent.alpha=0.1:1", "agent.alpha=0.2:1"], "erdp")


def test_whole_numbers_are_written_whole() -> None:
    assert parse_space(["agent.ema_from=1:1000000"], "erdp")[0].setting(1_000_000) == "agent.ema_from=1000000"
    assert parse_space(["agent.alpha=0.001:1"], "erdp")[0].setting(0.0123456) == "agent.alpha=0.01235"


@given(seed=st.integers(0, 1000), is_log=st.booleans())
def test_what_is_proposed_is_a_setting_within_the_range(seed: int, is_log: bool) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    ranges = (Range("agent.alpha", 0.001, 0.3, is_log, is_whole=False), Range("agent.M", 2, 64, is_log, is_whole=True))
    proposed = [one.proposed(study.ask()) for one in ranges]
    found = parse_settings(proposed)["agent"]
    assert 0.001 <= found["alpha"] <= 0.3
    assert 2 <= found["M"] <= 64
    assert resolve(get_task("pointmaze-umaze"), "erdp", "smoke", proposed).to_dict()["agent"]["M"] == found["M"]
    assert len(proposed[0].partition("=")[2].lstrip("0.").replace(".", "").split("e")[0]) <= 4  # digits to type
