"""What holds for every method: packs, isolation, states, acting."""

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from erdp_core.agent_configs import METHODS, PACKED_NUMBERS
from erdp_core.algorithms import Algorithm, Batch
from erdp_core.config import RunConfig
from tests.small import algorithm, assert_states_close, inputs, small_config, transitions, update

FLOAT32 = 2e-5
"""Between packs of different sizes: the order of sums differs, and learning carries it on."""
SETTINGS = (
    "agent.ema_from=2",
    "agent.ema_every=1",
    "agent.lr_decay=cosine",
    "agent.normalise_returns=true",
    "agent.reward_scale=1",
    "agent.cloning_steps=3",
)
VALUES = {
    "alpha": (0.0, 0.5),
    "beta": (0.0, 8.0),
    "eta": (0.1, 3.0),
    "gamma": (0.5, 0.99),
    "tau": (0.005, 0.5),
    "actor_lr": (1e-4, 1e-2),
    "critic_lr": (1e-4, 1e-2),
    "grad_norm": (0.01, 0.0),
    "ema_decay": (0.5, 0.995),
    "q_weight": (0.1, 3.0),
    "policy_noise": (0.0, 1.0),
    "noise_clip": (0.01, 1.0),
    "expectile": (0.5, 0.99),
    "inverse_temperature": (0.1, 10.0),
    "reward_scale": (0.1, 2.0),
    "reward_shift": (-2.0, 1.0),
    "temperature_lr": (1e-4, 0.1),
    "conservative_weight": (0.1, 5.0),
    "actor_tau": (0.001, 0.5),
    "entropy_target": (-2.0, 1.0),
    "alpha_lr": (1e-4, 1e-2),
}
"""Two values of each packed number that come to different runs."""


def config_of(method: str, *settings: str) -> RunConfig:
    """A small one; a rate at which ten updates show."""
    return small_config(*SETTINGS, "agent.actor_lr=0.003", *settings, method=method)


def made(configs: list[RunConfig], seeds: list[int]) -> Algorithm:
    """A pack that has seen its data."""
    found = algorithm(configs, seeds)
    data = transitions()
    found.prepare(
        Batch(
            *(
                torch.from_numpy(column)
                for column in (data.observations, data.actions, data.next_observations, data.rewards, data.terminals)
            )
        )
    )
    return found


def acting(one: Algorithm, runs: int) -> Tensor:
    """Actions of all runs for the same states and noise."""
    drawn = one.draw_acting_noise(torch.Generator().manual_seed(0), 5, one.candidates)
    noise = {name: value.expand(runs, *value.shape).clone() for name, value in drawn.items()}
    return one.act(torch.randn(1, 5, 4, generator=torch.Generator().manual_seed(1)).expand(runs, -1, -1), noise)


@pytest.mark.parametrize("method", METHODS)
def test_a_run_alone_and_in_a_pack_come_to_the_same(method: str) -> None:
    config = config_of(method)
    alone, together = made([config], [3]), made([config] * 5, [0, 1, 2, 3, 4])
    log_alone, log_together = update(alone, [3], 20), update(together, [0, 1, 2, 3, 4], 20)
    assert_states_close(together, 3, alone, 0, FLOAT32)
    for name, value in log_together[-1].items():
        assert value.shape == (5,)
        torch.testing.assert_close(value[3], log_alone[-1][name][0], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(together.state(2)["actor"], together.state(3)["actor"], atol=1e-2)


@pytest.mark.parametrize("method", METHODS)
def test_nan_in_one_run_leaves_the_others_bit_identical(method: str) -> None:
    seeds = [0, 1, 2]
    well, ill = (made([config_of(method)] * 3, seeds) for _ in range(2))
    state = ill.state(1)
    state["actor"][:] = math.nan
    ill.load_state(1, state)
    logs = update(ill, seeds, 10)
    update(well, seeds, 10)
    assert any(value[1].isnan() for name, value in logs[0].items() if name.endswith("loss"))
    for run in (0, 2):
        assert_states_close(ill, run, well, run, 0.0)
    ours, theirs = acting(ill, 3), acting(well, 3)
    assert torch.equal(ours[[0, 2]], theirs[[0, 2]])


def packed_numbers() -> list[tuple[str, str]]:
    return [
        (method, item.name)
        for method, cls in METHODS.items()
        for item in dataclasses.fields(cls)
        if item.name in PACKED_NUMBERS
    ]


@pytest.mark.parametrize(("method", "name"), packed_numbers())
def test_packed_numbers_act_as_in_packs_of_their_own(method: str, name: str) -> None:
    settings = {
        "reward_scale": ("agent.normalise_returns=false",),
        "entropy_target": ("agent.temperature=automatic",),
        "alpha_lr": ("agent.temperature=automatic",),
    }.get(name, ())
    configs = [config_of(method, *settings, f"agent.{name}={value}") for value in VALUES[name]]
    together = made(configs, [0, 0])
    update(together, [0, 0], 10)
    for run, config in enumerate(configs):
        alone = made([config], [0])
        update(alone, [0], 10)
        assert_states_close(together, run, alone, 0, FLOAT32)
    differ = [
        not torch.equal(value, together.state(1)[key]) for key, value in together.state(0).items() if key != "count"
    ]
    assert any(differ), f"{name} changes nothing"


@pytest.mark.parametrize("method", METHODS)
def test_a_state_is_all_that_training_goes_on_from(method: str) -> None:
    config = config_of(method)
    steady, resumed = made([config] * 2, [0, 1]), algorithm([config] * 2, [5, 6])
    steps = inputs(steady, [0, 1], 12)
    for batch, noise in steps[:7]:
        steady.update(batch, noise)
    for run in range(2):
        resumed.load_state(run, steady.state(run))
    for batch, noise in steps[7:]:
        steady.update(batch, noise)
        resumed.update(batch, noise)
    for run in range(2):
        assert_states_close(resumed, run, steady, run, 0.0)


@pytest.mark.parametrize("method", METHODS)
def test_a_policy_state_is_all_that_acting_needs(method: str) -> None:
    trained, loaded = made([config_of(method)], [0]), algorithm([config_of(method)], [8])
    update(trained, [0], 5)
    assert not torch.equal(acting(loaded, 1), acting(trained, 1))
    loaded.load_policy_state(0, trained.policy_state(0))
    actions = acting(loaded, 1)
    assert torch.equal(actions, acting(trained, 1))
    assert actions.shape == (1, 5, 2)
    assert actions.abs().max() <= 1


@pytest.mark.parametrize("method", METHODS)
def test_updates_are_a_function_of_seed_and_data(method: str) -> None:
    one, other, another = (made([config_of(method)], [seed]) for seed in (0, 0, 1))
    for pack, seed in ((one, 0), (other, 0), (another, 1)):
        update(pack, [seed], 5)
    assert_states_close(one, 0, other, 0, 0.0)
    assert not torch.equal(one.state(0)["actor"], another.state(0)["actor"])
