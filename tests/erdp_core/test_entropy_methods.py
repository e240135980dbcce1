"""The baselines with a squashed Gaussian, and those with a diffusion and implicit values, each against its formula."""

import math
from typing import TypeVar

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from erdp_core.baselines.cql import CQL
from erdp_core.baselines.edp import EDP
from erdp_core.baselines.gaussian_ensemble import GaussianEnsemble
from erdp_core.baselines.idql import IDQL
from erdp_core.baselines.msg import MSG
from erdp_core.gaussian_policy import SquashedGaussianPolicy
from tests.small import algorithm, inputs, small_config, update

Method = TypeVar("Method", CQL, MSG, GaussianEnsemble, IDQL, EDP)
NAMES = {CQL: "cql", MSG: "msg", GaussianEnsemble: "gaussian-ensemble", IDQL: "idql", EDP: "edp"}


def one(cls: type[Method], *settings: str) -> Method:
    made = algorithm([small_config(*settings, method=NAMES[cls])], [0])
    assert isinstance(made, cls)
    return made


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def spread(weights: Tensor, seed: int = 0) -> None:
    """Give critics last layers that matter."""
    with torch.no_grad():
        weights.add_(0.3 * torch.randn(weights.shape, generator=torch.Generator().manual_seed(seed)))


def plain_q(tensors: dict[str, Tensor], state: Tensor, action: Tensor, member: int, activation: str = "relu") -> float:
    hidden = torch.cat([state, action])
    for layer in (1, 2, 3):
        hidden = hidden @ tensors[f"weight_{layer}"][member] + tensors[f"bias_{layer}"][member, 0]
        if layer < 3:
            hidden = torch.relu(hidden) if activation == "relu" else torch.nn.functional.mish(hidden)
    return hidden.item()


# --- The squashed Gaussian ---


def policy_of_one_dimension() -> SquashedGaussianPolicy:
    return SquashedGaussianPolicy([small_config(method="cql")], [0], 3, 1, torch.device("cpu"))


def test_the_density_integrates_to_one_and_is_that_of_the_samples() -> None:
    policy = policy_of_one_dimension()
    state = torch.tensor([[[0.3, -1.0, 0.5]]])
    edges = torch.linspace(-1, 1, 4001)
    middles = ((edges[1:] + edges[:-1]) / 2).view(1, -1, 1)
    density = policy.log_probability(state.expand(1, middles.shape[1], 3), middles).exp()[0].detach()
    assert (density.sum() * 2 / 4000).item() == pytest.approx(1, abs=5e-3)
    samples, log_density = policy.sample(state, normal(1, 1, 20_000, 1))
    again = policy.log_probability(state.expand(1, 20_000, 3), samples)
    inside = samples[0, :, 0].abs() < 0.999  # nearer to 1 rounding shows
    torch.testing.assert_close(again[0][inside], log_density[0][inside], rtol=1e-3, atol=2e-3)
    counts, _ = np.histogram(samples[0, :, 0].detach().numpy(), bins=20, range=(-1, 1))
    expected = density.view(20, -1).sum(dim=1).numpy() * 2 / 4000
    many = expected * 20_000 > 20
    assert stats.chisquare(counts[many], expected[many] / expected[many].sum() * counts[many].sum()).pvalue > 1e-3


def test_several_actions_of_a_state_are_its_own() -> None:
    policy = policy_of_one_dimension()
    states, eps = normal(1, 4, 3), normal(1, 4, 5, 1, seed=1)
    actions, log_density = policy.sample(states, eps)
    assert actions.shape == (1, 20, 1)
    for row in range(4):
        alone, its_density = policy.sample(states[:, row : row + 1], eps[:, row : row + 1])
        torch.testing.assert_close(actions[:, 5 * row : 5 * row + 5], alone)
        torch.testing.assert_close(log_density[:, 5 * row : 5 * row + 5], its_density)


def test_the_temperature_falls_where_the_entropy_is_above_its_target() -> None:
    agent = one(MSG, "agent.temperature_lr=0.1")
    for log_probability, direction in ((-5.0, -1), (5.0, 1)):
        before = agent.temperature.alpha.item()
        agent.temperature.optimiser.first_moment.zero_()
        agent.temperature.step(torch.full((1, 8), log_probability), torch.tensor(1))
        assert np.sign(agent.temperature.alpha.item() - before) == direction


# --- CQL ---


def test_cqls_sum_over_actions_by_enumeration() -> None:
    """Row by row, action by action: log sum exp(Q - log density) over uniform ones, those at s and those at s'."""
    agent = one(CQL, "agent.sampled_actions=2", "agent.conservative_weight=3", "agent.gamma=0.9")
    spread(agent.critics.weights.flat)
    spread(agent.critics.targets.flat, 1)
    [(batch, noise)] = inputs(agent, [0], 1)
    loss, info = agent.critic_loss(batch, noise)
    critics, targets = agent.critics.weights.of_run[0], agent.critics.targets.of_run[0]
    conservative, squared = 0.0, 0.0
    for row in range(8):
        state, after = batch.observations[0, row], batch.next_observations[0, row]
        next_action, _ = agent.policy.sample(after[None, None], noise["next_action"][:, row : row + 1])
        value = min(plain_q(targets, after, next_action[0, 0], member) for member in range(2))
        y = (batch.rewards[0, row] + 0.9 * (1 - batch.terminals[0, row]) * value).item()
        now, density_now = agent.policy.sample(state[None, None], noise["now"][:, row : row + 1])
        later, density_later = agent.policy.sample(after[None, None], noise["later"][:, row : row + 1])
        candidates = [
            *((noise["uniform"][0, row, k], 2 * math.log(0.5)) for k in range(2)),
            *((now[0, k], density_now[0, k].item()) for k in range(2)),
            *((later[0, k], density_later[0, k].item()) for k in range(2)),
        ]
        for member in range(2):
            of_data = plain_q(critics, state, batch.actions[0, row], member)
            squared += (of_data - y) ** 2 / 8
            exponents = [plain_q(critics, state, action, member) - density for action, density in candidates]
            conservative += (math.log(sum(math.exp(one_) for one_ in exponents)) - of_data) / 8
    assert info["critic_loss"].item() == pytest.approx(squared, rel=1e-4)
    assert info["conservative_loss"].item() == pytest.approx(conservative, rel=1e-4)
    assert loss.item() == pytest.approx(squared + 3 * conservative, rel=1e-4)


def test_the_critics_gradient_is_that_of_all_it_holds() -> None:
    """Along a direction of the critics' weights, against a difference of losses."""
    agent = one(CQL, "agent.sampled_actions=2")
    spread(agent.critics.weights.flat)
    [(batch, noise)] = inputs(agent, [0], 1)
    loss, _ = agent.critic_loss(batch, noise)
    gradient = agent.critics.weights.gradient(loss.sum())
    direction = torch.randn(gradient.shape, generator=torch.Generator().manual_seed(3))
    start, ends = agent.critics.weights.flat.detach().clone(), []
    for sign in (1, -1):
        with torch.no_grad():
            agent.critics.weights.flat.copy_(start + sign * 1e-3 * direction)
        ends.append(agent.critic_loss(batch, noise)[0].item())
    assert (ends[0] - ends[1]) / 2e-3 == pytest.approx((gradient * direction).sum().item(), rel=0.02)


def test_cql_clones_at_first() -> None:
    agent = one(CQL, "agent.cloning_steps=2")
    spread(agent.critics.weights.flat)
    [(batch, noise)] = inputs(agent, [0], 1)
    actions, log_probability = agent.policy.sample(batch.observations, noise["action"])
    of_data = agent.policy.log_probability(batch.observations, batch.actions)
    q = torch.tensor(
        [
            min(
                plain_q(agent.critics.weights.of_run[0], batch.observations[0, row], actions[0, row], m) for m in (0, 1)
            )
            for row in range(8)
        ]
    )
    for count, gain in ((1, of_data[0]), (2, of_data[0]), (3, q)):
        agent.count.fill_(count)
        loss, _ = agent.actor_loss(batch, noise)
        assert loss.item() == pytest.approx((log_probability[0] - gain).mean().item(), rel=1e-4)


# --- MSG ---


def test_msgs_losses_against_a_loop() -> None:
    """Each member backs up its own target copy; all of them are held down where the policy goes."""
    agent = one(MSG, "agent.conservative_weight=0.5", "agent.gamma=0.9", "agent.beta=2")
    spread(agent.critics.weights.flat)
    spread(agent.critics.targets.flat, 1)
    [(batch, noise)] = inputs(agent, [0], 1)
    loss, _ = agent.critic_loss(batch, noise)
    critics, targets = agent.critics.weights.of_run[0], agent.critics.targets.of_run[0]
    expected, bound = 0.0, 0.0
    new, log_probability = agent.policy.sample(batch.observations, noise["action"])
    for row in range(8):
        state, after = batch.observations[0, row], batch.next_observations[0, row]
        next_action, _ = agent.policy.sample(after[None, None], noise["next_action"][:, row : row + 1])
        action, _ = agent.policy.sample(state[None, None], noise["conservative_action"][:, row : row + 1])
        for member in range(3):
            value = plain_q(targets, after, next_action[0, 0], member)
            y = (batch.rewards[0, row] + 0.9 * (1 - batch.terminals[0, row]) * value).item()
            of_data = plain_q(critics, state, batch.actions[0, row], member)
            expected += ((of_data - y) ** 2 + 0.5 * (plain_q(critics, state, action[0, 0], member) - of_data)) / 24
        values = [plain_q(critics, state, new[0, row], member) for member in range(3)]
        bound += (np.mean(values) - 2 * np.std(values, ddof=1)) / 8
    assert loss.item() == pytest.approx(expected, rel=1e-4)
    actor_loss, _ = agent.actor_loss(batch, noise)
    assert actor_loss.item() == pytest.approx(log_probability.mean().item() - bound, rel=1e-4)


# --- ERDP's objective with a Gaussian ---


def test_the_gaussians_objective() -> None:
    agent = one(GaussianEnsemble, "agent.alpha=0.3", "agent.beta=2", "agent.eta=1.7")
    spread(agent.critics.weights.flat)
    [(batch, noise)] = inputs(agent, [0], 1)
    actions, log_probability = agent.policy.sample(batch.observations, noise["action"])
    critics = agent.critics.weights.of_run[0]
    values = np.array(
        [
            [plain_q(critics, batch.observations[0, row], actions[0, row], member, "mish") for member in range(3)]
            for row in range(8)
        ]
    )
    lcb = (values.mean(axis=1) - 2 * values.std(axis=1, ddof=1)).mean()
    cloning = -agent.policy.log_probability(batch.observations, batch.actions).mean().item()
    entropy = -log_probability.mean().item()
    expected = cloning - 1.7 * lcb / np.abs(values).mean() - 0.3 * entropy / log_probability.abs().mean().item()
    loss, _ = agent.actor_loss(batch, noise)
    assert loss.item() == pytest.approx(expected, rel=1e-4)


# --- Diffusions with implicit values ---


def test_edp_weighs_the_diffusion_loss_by_advantage() -> None:
    agent = one(EDP, "agent.inverse_temperature=2")
    [(batch, noise)] = inputs(agent, [0], 1)
    advantages = torch.linspace(-2, 4, 8).unsqueeze(0)
    losses = []
    for row in range(8):
        one_row = {name: value[:, row : row + 1] for name, value in noise.items()}
        loss, _, _ = agent.policy.diffusion_loss(
            batch.observations[:, row : row + 1], batch.actions[:, row : row + 1], one_row
        )
        losses.append(min(math.exp(2 * float(advantages[0, row])), 100) * loss.item())
    weighted, plain = agent.actor_loss(batch, noise, advantages)
    assert weighted.item() == pytest.approx(np.mean(losses), rel=1e-4)
    assert plain.item() == pytest.approx(
        agent.policy.diffusion_loss(batch.observations, batch.actions, noise)[0].item(), rel=1e-5
    )


def test_idql_acts_by_the_best_of_its_samples() -> None:
    agent = one(IDQL)
    spread(agent.values.critics.targets.flat)
    drawn = agent.draw_acting_noise(torch.Generator().manual_seed(0), 6, 4)
    states = torch.randn(1, 6, 4, generator=torch.Generator().manual_seed(1))
    chosen = agent.act(states, {name: value[None] for name, value in drawn.items()})
    samples = agent.policy.sample(agent.average, states, drawn["chain"][None].flatten(1, 2)).view(6, 4, 2)
    targets = agent.values.critics.targets.of_run[0]
    for row in range(6):
        values = [
            min(plain_q(targets, states[0, row], action, member) for member in range(2)) for action in samples[row]
        ]
        torch.testing.assert_close(chosen[0, row], samples[row, int(np.argmax(values))])


def test_idqls_policy_is_that_of_cloning() -> None:
    """Rewards move its values and not its policy."""
    one_, other = one(IDQL), one(IDQL)
    for batch, noise in inputs(one_, [0], 5):
        one_.update(batch, noise)
        other.update(batch._replace(rewards=batch.rewards + 1), noise)
    assert torch.equal(one_.policy.weights.flat, other.policy.weights.flat)
    assert not torch.equal(one_.values.trained.weights.flat, other.values.trained.weights.flat)
    assert update(one_, [0], 1)[0]["diffusion_loss"].shape == (1,)
