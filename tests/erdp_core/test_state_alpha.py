"""The automatic temperature: its loss by hand, and a case whose optimum is known."""

import math

import pytest
import torch

from erdp_core import entropy
from erdp_core.agent import ERDP
from erdp_core.config import RunConfig
from erdp_core.errors import ConfigError
from erdp_core.sde import MeanRevertingSDE
from erdp_core.state_alpha import StateAlpha
from tests.small import algorithm, assert_states_close, inputs, small_config, update

AUTOMATIC = ("agent.temperature=automatic", "agent.T=3")


def made(*configs: RunConfig) -> ERDP:
    agent = algorithm(list(configs), list(range(len(configs))))
    assert isinstance(agent, ERDP)
    return agent


def test_it_begins_at_alpha_and_stays_positive() -> None:
    begins = torch.tensor([0.001, 0.01, 2.0, 100.0])
    configs = [small_config(*AUTOMATIC, f"agent.alpha={alpha}") for alpha in begins.tolist()]
    alpha = StateAlpha(configs, range(4), 4, 2, torch.device("cpu"))
    states = 100 * torch.randn(4, 50, 4)
    torch.testing.assert_close(alpha(states), begins.unsqueeze(1).expand(4, 50), rtol=1e-4, atol=0)


@pytest.mark.parametrize("objective", ["released", "paper"])
def test_losses_by_hand(objective: str) -> None:
    """alpha(s) weighs each state's entropy and learns from it; neither's gradients reach the other."""
    agent = made(small_config(*AUTOMATIC, f"agent.objective={objective}", "agent.entropy_target=-0.5"))
    [(batch, noise)] = inputs(agent, [0], 1)
    assert agent.state_alpha is not None
    alpha = agent.state_alpha(batch.observations)[0].detach()
    loss, info = agent.actor_loss(batch, noise, torch.tensor([3.0]))

    _, a_0, _ = agent.policy.diffusion_loss(batch.observations, batch.actions, noise)
    sample_entropy = entropy.released(agent.sde, a_0, noise["a_T"])[0].detach()
    q = agent.critics.q_of_actions(batch.observations, a_0.clamp(-1, 1))[0].detach()
    bonus = (alpha * sample_entropy).mean()
    weight = 1 / sample_entropy.abs().mean() if objective == "released" else agent.eta[0] / 3.0
    scale = q.abs().mean() if objective == "released" else torch.tensor(3.0)
    lcb = agent.pessimistic(q.unsqueeze(0)).mean()
    expected = info["diffusion_loss"][0] - agent.eta[0] * lcb / scale - weight * bonus
    torch.testing.assert_close(loss[0].detach(), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        info["alpha_loss"][0].detach(), (alpha * (sample_entropy + 0.5 * 2)).mean(), rtol=1e-4, atol=1e-5
    )
    of_policy = torch.autograd.grad(
        info["alpha_loss"].sum(), list(agent.policy.weights.named.values()), allow_unused=True, retain_graph=True
    )
    of_alpha = torch.autograd.grad(loss.sum(), list(agent.state_alpha.weights.named.values()), allow_unused=True)
    assert all(gradient is None for gradient in (*of_policy, *of_alpha))


def test_it_finds_the_temperature_of_a_gaussian_that_answers_best() -> None:
    """A policy N(0, var) paid -c(s) a^2 / 2 answers alpha with var = alpha / c: at its target entropy
    alpha(s) = c(s) e^(2 H) / (2 pi e)."""
    target = 0.3
    settings = (*AUTOMATIC, f"agent.entropy_target={target}", "agent.alpha=0.5", "agent.alpha_lr=0.003")
    alpha = StateAlpha([small_config(*settings)], [0], 1, 1, torch.device("cpu"))
    cost = torch.tensor([1.0, 2.0, 4.0])
    states = torch.tensor([-1.0, 0.0, 1.0]).view(1, 3, 1)
    count = torch.zeros((), dtype=torch.int64)
    for _ in range(4_000):
        count += 1
        values = alpha(states)
        best = 0.5 * torch.log(2 * math.pi * math.e * values / cost)
        alpha.step(alpha.loss(values, best), count, torch.ones(1, dtype=torch.float64))
    optimum = cost * math.exp(2 * target) / (2 * math.pi * math.e)
    torch.testing.assert_close(alpha(states)[0].detach(), optimum, rtol=0.05, atol=0.0)


@pytest.mark.parametrize(("T", "low", "high"), [(5, 0.77, 0.85), (10, 0.12, 0.16)])
def test_released_entropies_lie_in_a_narrow_range(T: int, low: float, high: float) -> None:
    sde, a_T = MeanRevertingSDE(T), torch.randn(20_000, 8, generator=torch.Generator().manual_seed(0))
    for size in (0.0, 0.5, 1.0):
        assert low < entropy.released(sde, torch.full_like(a_T, size), a_T).mean() / 8 < high


def test_a_pack_and_a_resumed_run_are_as_alone() -> None:
    configs = [small_config(*AUTOMATIC, f"agent.entropy_target={target}") for target in (-1.0, 3.0)]
    together, alone, resumed = made(*configs), made(configs[0]), made(configs[0])
    update(together, [0, 1], 6)
    logs = update(alone, [0], 6)
    assert_states_close(together, 0, alone, 0, 2e-5)
    assert {"alpha", "alpha_loss"} <= logs[0].keys()
    assert not torch.equal(together.state(0)["alpha"], together.state(1)["alpha"])
    resumed.load_state(0, alone.state(0))
    assert_states_close(resumed, 0, alone, 0, 0.0)


def test_it_needs_somewhere_to_begin() -> None:
    with pytest.raises(ConfigError, match=r"agent.temperature=automatic begins with agent.alpha, which is 0"):
        small_config(*AUTOMATIC, "agent.alpha=0")
