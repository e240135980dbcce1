"""Settings: what is valid, what the errors say, and that what is written is what is read."""

import csv
import dataclasses
import json
import typing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erdp_core.agent_configs import METHODS, PACKED_NUMBERS, BcDiffusionConfig, ErdpConfig
from erdp_core.config import PROFILES, EvaluationConfig, RunConfig, TrainerConfig, parse_settings, resolve, structure
from erdp_core.errors import ConfigError
from erdp_core.tasks import TABLES, TASKS, get_task


def values_of(cls: type[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Valid values for every field of a config class."""
    hints = typing.get_type_hints(cls)
    strategies: dict[str, st.SearchStrategy[Any]] = {}
    for item in dataclasses.fields(cls):
        hint, limits = hints[item.name], item.metadata
        if typing.get_origin(hint) is typing.Literal:
            strategies[item.name] = st.sampled_from(typing.get_args(hint))
        elif hint is bool:
            strategies[item.name] = st.booleans()
        elif hint is int:
            strategies[item.name] = st.integers(limits["low"], limits["high"])
        else:
            strategies[item.name] = st.floats(limits["low"], limits["high"])
    return st.fixed_dictionaries(strategies)


@st.composite
def configs(draw: st.DrawFn) -> RunConfig:
    method = draw(st.sampled_from(sorted(METHODS)))
    agent = draw(values_of(METHODS[method]))
    if method == "erdp" and agent["T"] < 3:
        agent["alpha"] = 0.0
    if method == "erdp" and agent["alpha"] == 0:
        agent["temperature"] = "fixed"
    if agent.get("normalise_returns"):
        agent["reward_scale"] = 1.0
    interval, number = draw(st.integers(1, 1000)), draw(st.integers(1, 1000))
    return RunConfig(
        method,
        METHODS[method](**agent),
        TrainerConfig(interval * number, interval),
        EvaluationConfig(**draw(values_of(EvaluationConfig))),
    )


@given(configs())
def test_round_trip_through_json(config: RunConfig) -> None:
    record = json.loads(json.dumps(config.to_dict()))
    assert RunConfig.from_dict(record) == config
    assert RunConfig.from_dict(record).to_dict() == record


@given(configs())
def test_settings_say_what_the_record_says(config: RunConfig) -> None:
    """Every setting as `--set KEY=VALUE` over any profile makes the same config."""
    settings = [
        f"{group}.{name}={value}"
        for group in ("agent", "trainer", "evaluation")
        for name, value in config.to_dict()[group].items()
    ]
    assert resolve(get_task("hopper-medium-v2"), config.method, "quick", settings) == config


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("task", TASKS)
def test_every_profile_resolves(task: str, method: str, profile: str) -> None:
    config = resolve(get_task(task), method, profile)
    assert config.method == method
    assert isinstance(config.agent, METHODS[method])
    assert config.trainer.steps % config.trainer.interval == 0


def test_the_papers_settings() -> None:
    """Table 6 and the text around it, for one task of each kind."""

    def paper(task: str) -> tuple[Any, ...]:
        config = resolve(get_task(task), "erdp", "paper")
        agent = config.agent
        assert isinstance(agent, ErdpConfig)
        assert (agent.M, agent.alpha, agent.beta, agent.gamma, agent.tau) == (64, 0.01, 4.0, 0.99, 0.005)
        assert (agent.width, agent.layers, agent.batch_size, agent.critic_lr) == (256, 3, 256, 3e-4)
        assert (agent.candidates, agent.ema_decay, agent.ema_every, agent.ema_from) == (50, 0.995, 5, 1000)
        return (agent.eta, agent.max_q_backup, agent.diffusion_loss, config.trainer.steps, config.evaluation.episodes)

    assert paper("walker2d-medium-v2") == (1.0, False, "likelihood", 2_000_000, 10)
    assert paper("antmaze-umaze-v0") == (2.0, False, "noise", 1_000_000, 100)
    assert paper("antmaze-umaze-diverse-v0") == (2.0, True, "noise", 1_000_000, 100)
    assert paper("pen-human-v1") == (0.1, False, "noise", 1_000_000, 100)
    assert paper("kitchen-partial-v0") == (0.005, False, "likelihood", 1_000_000, 100)


def test_settings_are_table_6() -> None:
    """As the paper prints it: `true (false for TASK)` is true but for that task."""
    with open(Path(__file__).parents[2] / "results" / "paper" / "table6_hyperparameters.csv", newline="") as file:
        printed = {row["domain"]: row for row in csv.DictReader(file)}
    assert {get_task(task).domain for task in TABLES["all"]} == set(printed)
    for task in TABLES["all"]:
        row = printed[get_task(task).domain]
        config = resolve(get_task(task), "erdp", "paper")
        agent = config.agent
        assert isinstance(agent, ErdpConfig)
        assert (agent.actor_lr, agent.eta) == (float(row["policy_lr"]), float(row["eta"]))
        assert (agent.grad_norm, agent.T) == (float(row["grad_norm"]), int(row["T"]))
        assert agent.diffusion_loss == row["loss"]
        assert agent.action_clip == (row["action_clip"] == "true")
        in_general, _, exception = row["max_q_backup"].partition(" ")
        assert agent.max_q_backup == (in_general == "true" and exception != f"(false for {task})")
        evaluations = {"gym": 40}.get(get_task(task).domain, 20)
        assert config.trainer.steps == evaluations * config.trainer.interval == evaluations * 50_000


def test_the_later_layer_is_the_stronger() -> None:
    settings = ["agent.M=7", "trainer.steps=10000", "agent.M=9"]
    config = resolve(get_task("antmaze-umaze-v0"), "erdp", "quick", settings)
    assert isinstance(config.agent, ErdpConfig)
    assert config.agent.M == 9  # the last of the settings
    assert config.agent.width == 128  # the profile
    assert config.trainer == TrainerConfig(10_000, 5_000)  # the setting, and the profile
    assert config.evaluation.episodes == 20  # the profile's own for this domain
    assert config.agent.eta == 2.0  # the domain
    assert not config.agent.max_q_backup  # the task


def test_settings_of_another_method_are_left_out() -> None:
    config = resolve(get_task("pointmaze-umaze"), "bc-diffusion", "smoke", ["agent.alpha=0.5", "agent.T=7"])
    assert isinstance(config.agent, BcDiffusionConfig)
    assert config.agent.T == 7


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("agent.alpa=1", ["'agent.alpa'", "'agent.alpha'"]),
        ("alpha=1", ["'alpha'", "agent.alpha"]),
        ("trainer.stpes=1", ["'trainer.stpes'", "'trainer.steps'"]),
        ("agent.alpha", ["KEY=VALUE", "'agent.alpha'"]),
        ("agent.T=5.5", ["agent.T", "'5.5'", "int"]),
        ("agent.alpha=much", ["agent.alpha", "'much'", "float"]),
        ("agent.max_q_backup=1", ["agent.max_q_backup", "'1'", "true or false"]),
        ("agent.objective=printed", ["agent.objective", "'printed'", "released, paper"]),
        ("agent.gamma=1.5", ["agent.gamma=1.5", "[0.0, 1.0]"]),
        ("agent.T=0", ["agent.T=0", "[1, 1000]"]),
        ("agent.alpha=nan", ["agent.alpha=nan", "[0.0, 100.0]"]),
        ("agent.eta=inf", ["agent.eta=inf", "[0.0, 1000.0]"]),
        ("agent.T=2", ["agent.T >= 3", "agent.T=2", "agent.alpha=0", "released"]),
        ("trainer.interval=7", ["trainer.steps=40", "trainer.interval=7"]),
        ("evaluation.episodes=0", ["evaluation.episodes=0", "[1, 100000]"]),
    ],
)
def test_errors_name_both_values_or_the_limits_or_the_nearest_name(setting: str, said: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        resolve(get_task("pointmaze-umaze"), "erdp", "smoke", [setting])
    message = str(error.value)
    assert all(part in message for part in said), message
    assert "\n" not in message


def test_errors_of_names() -> None:
    with pytest.raises(ConfigError, match="unknown profile 'qick': did you mean 'quick'"):
        resolve(get_task("pointmaze-umaze"), "erdp", "qick")
    with pytest.raises(ConfigError, match="unknown method 'erpd': did you mean 'erdp'"):
        resolve(get_task("pointmaze-umaze"), "erpd", "quick")
    record = resolve(get_task("pointmaze-umaze"), "erdp", "smoke").to_dict()
    with pytest.raises(ConfigError, match=r"unknown setting agent\.alhpa: did you mean 'alpha'"):
        RunConfig.from_dict({**record, "agent": {**record["agent"], "alhpa": 1}})
    with pytest.raises(ConfigError, match="unknown method 'x'"):
        RunConfig.from_dict({**record, "method": "x"})
    with pytest.raises(ConfigError, match="'bc-diffusion' does not go with ErdpConfig"):
        RunConfig("bc-diffusion", ErdpConfig(), TrainerConfig(), EvaluationConfig())


def test_a_scale_of_rewards_clashes_with_normalised_returns() -> None:
    with pytest.raises(ConfigError, match=r"agent.reward_scale=3 does nothing beside agent.normalise_returns=true"):
        resolve(get_task("hopper-medium-v2"), "iql", "paper", ["agent.reward_scale=3"])
    assert resolve(get_task("antmaze-umaze-v0"), "iql", "paper", ["agent.reward_scale=3"]).method == "iql"


def test_entropy_and_steps_clash_only_where_alpha_is_not_zero() -> None:
    assert ErdpConfig(T=1, alpha=0.0).T == 1
    assert ErdpConfig(T=2, entropy="paper").T == 2
    with pytest.raises(ConfigError, match=r"agent.entropy=paper needs agent.T >= 2, but agent.T=1.*it is 0.01"):
        ErdpConfig(T=1, entropy="paper")


@pytest.mark.parametrize("value", [True, "5", None, 5.0])
def test_types_are_checked(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"agent\.T=.* is not of type int"):
        ErdpConfig(T=value)


def test_a_whole_number_for_a_float_is_the_same_config() -> None:
    assert ErdpConfig(alpha=1) == ErdpConfig(alpha=1.0)
    assert json.dumps(ErdpConfig(alpha=1).alpha) == "1.0"
    assert parse_settings(["agent.alpha=1"]) == {"agent": {"alpha": 1.0}}


@given(configs(), st.data())
def test_structure_drops_exactly_the_packed_numbers(config: RunConfig, data: st.DataObject) -> None:
    """One changed field changes the structure unless it is a packed number."""
    fields = {item.name for item in dataclasses.fields(config.agent)}
    assert set(structure(config)["agent"]) == fields - PACKED_NUMBERS
    name = data.draw(st.sampled_from(sorted(fields)))
    value = data.draw(values_of(type(config.agent)))[name]
    if name == "T" and value < 3:
        value = 3
    if name == "alpha" and getattr(config.agent, "T", 3) < 3:
        return
    if ({name} & {"reward_scale", "normalise_returns"} and getattr(config.agent, "reward_scale", 1) != 1) or (
        name == "reward_scale" and getattr(config.agent, "normalise_returns", False)
    ):
        return
    other = dataclasses.replace(config, agent=dataclasses.replace(config.agent, **{name: value}))
    same = other == config or name in PACKED_NUMBERS
    assert (structure(other) == structure(config)) == same


def test_packed_numbers_are_numbers_of_some_method() -> None:
    """test_methods.py holds that each of them acts in a shared pack as in a pack of its own."""
    hints = {name: hint for cls in METHODS.values() for name, hint in typing.get_type_hints(cls).items()}
    assert {name for name in PACKED_NUMBERS if hints[name] is not float} == set()
    assert {name for name, hint in hints.items() if hint is float} == PACKED_NUMBERS
