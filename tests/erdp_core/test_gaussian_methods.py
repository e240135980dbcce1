"""The baselines with Gaussian or deterministic policies, each against its formula."""

import math
from typing import TypeVar

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from erdp_core.algorithms import Batch
from erdp_core.baselines.bc import BC
from erdp_core.baselines.iql import IQL
from erdp_core.baselines.td3_bc import TD3BC
from erdp_core.implicit_q import episode_returns, expectile_loss
from erdp_core.mlp import MLP
from erdp_core.weights import Weights
from tests.small import algorithm, inputs, small_config, update

Method = TypeVar("Method", BC, IQL, TD3BC)
NAMES = {BC: "bc", IQL: "iql", TD3BC: "td3-bc"}


def one(cls: type[Method], *settings: str) -> Method:
    made = algorithm([small_config(*settings, method=NAMES[cls])], [0])
    assert isinstance(made, cls)
    return made


def plain(tensors: dict[str, Tensor], inputs_: Tensor, member: int | None = None) -> Tensor:
    """A network of two hidden ReLU layers, row by row."""
    hidden = inputs_
    for layer in (1, 2, 3):
        weight, bias = tensors[f"weight_{layer}"], tensors[f"bias_{layer}"]
        weight, bias = (weight, bias) if member is None else (weight[member], bias[member, 0])
        hidden = hidden @ weight + bias
        hidden = torch.relu(hidden) if layer < 3 else hidden
    return hidden


def spread(critics: Weights) -> None:
    """Give critics last layers that matter."""
    critics.flat.add_(0.3 * torch.randn(critics.flat.shape, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("activation", ["relu", "mish"])
def test_a_network_is_the_product_of_its_layers(activation: str) -> None:
    network = MLP(3, 2, 8, 2, "relu" if activation == "relu" else "mish")
    weights = Weights(network.shapes, 2, "cpu")
    for run in range(2):
        network.initialise(weights.of_run[run], torch.Generator().manual_seed(run))
    rows = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(7))
    for run in range(2):
        hidden = rows[run]
        for layer in (1, 2, 3):
            tensors = weights.of_run[run]
            hidden = hidden @ tensors[f"weight_{layer}"] + tensors[f"bias_{layer}"]
            if layer < 3:
                hidden = torch.relu(hidden) if activation == "relu" else torch.nn.functional.mish(hidden)
        torch.testing.assert_close(network(weights, rows)[run], hidden, rtol=1e-4, atol=1e-5)


# --- Behaviour cloning ---


def test_cloning_maximises_the_density_of_the_data() -> None:
    agent = one(BC)
    [(batch, _)] = inputs(agent, [0], 1)
    with torch.no_grad():
        agent.policy.weights["log_std"][:] = torch.tensor([-0.5, 0.3])
    mean = torch.tanh(plain(agent.policy.weights.of_run[0], batch.observations[0])).detach().numpy()
    density = stats.norm.logpdf(batch.actions[0].numpy(), mean, np.exp([-0.5, 0.3])).sum(axis=1)
    assert agent.actor_loss(batch).item() == pytest.approx(-density.mean(), rel=1e-5)


def test_cloning_learns_mean_and_spread() -> None:
    """Actions that are 0.5 +- 0.2 whatever the state."""
    agent = one(BC, "agent.actor_lr=0.01", "agent.batch_size=256")
    random = torch.Generator().manual_seed(0)
    for _ in range(400):
        states = torch.randn(1, 256, 4, generator=random)
        actions = 0.5 + 0.2 * torch.randn(1, 256, 2, generator=random)
        zeros = torch.zeros(1, 256)
        agent.update(Batch(states, actions, states, zeros, zeros), {})
    states = torch.randn(1, 200, 4, generator=random)
    torch.testing.assert_close(agent.act(states, {}).mean(dim=1), torch.full((1, 2), 0.5), atol=0.05, rtol=0)
    torch.testing.assert_close(agent.policy.weights["log_std"].exp(), torch.full((1, 2), 0.2), atol=0.03, rtol=0)


# --- TD3+BC ---


def test_td3_targets_are_the_smaller_target_of_a_noisy_action() -> None:
    agent = one(TD3BC, "agent.policy_noise=0.4", "agent.noise_clip=0.5", "agent.gamma=0.9")
    spread(agent.critics.targets)
    [(batch, noise)] = inputs(agent, [0], 1)
    targets = agent.target(batch, noise)
    assert (0.4 * noise["next_action"]).abs().max() > 0.5, "nothing would be clipped"
    for row in range(8):
        state = batch.next_observations[0, row]
        added = (0.4 * noise["next_action"][0, row]).clamp(-0.5, 0.5)
        action = (torch.tanh(plain(agent.target_policy.of_run[0], state)) + added).clamp(-1, 1)
        pair = torch.cat([state, action])
        values = [plain(agent.critics.targets.of_run[0], pair, member).item() for member in range(2)]
        expected = batch.rewards[0, row] + 0.9 * (1 - batch.terminals[0, row]) * min(values)
        assert targets[0, 0, row].item() == pytest.approx(expected.item(), rel=1e-4, abs=1e-5)


def test_td3_actor_weighs_value_against_cloning() -> None:
    agent = one(TD3BC, "agent.q_weight=1.5")
    spread(agent.critics.weights)
    [(batch, _)] = inputs(agent, [0], 1)
    actions = torch.tanh(plain(agent.policy.weights.of_run[0], batch.observations[0])).detach()
    q = plain(agent.critics.weights.of_run[0], torch.cat([batch.observations[0], actions], dim=1), 0)
    expected = -1.5 * q.mean() / q.abs().mean() + ((actions - batch.actions[0]) ** 2).mean()
    loss, _ = agent.actor_loss(batch)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)


def test_td3_updates_policy_and_targets_in_their_turn() -> None:
    agent = one(TD3BC, "agent.policy_every=3", "agent.tau=0.1")
    before = {name: tensor.clone() for name, tensor in agent.tensors.items()}
    moved = []
    for batch, noise in inputs(agent, [0], 6):
        agent.update(batch, noise)
        after = {name: tensor.clone() for name, tensor in agent.tensors.items()}
        moved.append({name for name in after if not torch.equal(before[name], after[name])})
        before = after
    critics = {"critics", "critics_first_moment", "critics_second_moment"}
    actors = {"actor", "actor_first_moment", "actor_second_moment", "target_policy", "target_critics"}
    assert moved == [critics, critics, critics | actors] * 2


def test_td3_sees_states_as_the_data_have_them() -> None:
    agent = one(TD3BC)
    data = torch.tensor([[1.0, 10.0, 0.0, 5.0], [3.0, 30.0, 0.0, 5.0]])
    zeros = torch.zeros(2)
    agent.prepare(Batch(data, torch.zeros(2, 2), data, zeros, zeros))
    seen = agent.normalised(data.unsqueeze(0))[0]
    expected = torch.tensor([[-1 / 1.001, -10 / 10.001, 0, 0], [1 / 1.001, 10 / 10.001, 0, 0]])
    torch.testing.assert_close(seen, expected)
    plainly = one(TD3BC, "agent.normalise_states=false")
    plainly.prepare(Batch(data, torch.zeros(2, 2), data, zeros, zeros))
    assert torch.equal(plainly.normalised(data.unsqueeze(0))[0], data)


# --- IQL ---


@pytest.mark.parametrize("expectile", [0.5, 0.7, 0.9])
def test_the_expectile_of_a_known_distribution(expectile: float) -> None:
    """What minimises the loss over samples of a normal distribution is its expectile."""
    samples = torch.randn(1, 20_000, generator=torch.Generator().manual_seed(0))
    value = torch.zeros(1, 1, requires_grad=True)
    for _ in range(300):
        [gradient] = torch.autograd.grad(expectile_loss(samples - value, torch.tensor([expectile])).sum(), value)
        with torch.no_grad():
            value -= gradient
    assert value.item() == pytest.approx(stats.expectile(samples[0].double().numpy(), alpha=expectile), abs=1e-3)
    # That of the standard normal itself: 0 = E[|expectile - 1(x < e)| (x - e)].
    e = value.item()
    above = stats.norm.pdf(e) - e * stats.norm.sf(e)
    below = -stats.norm.pdf(e) - e * stats.norm.cdf(e)
    assert expectile * above + (1 - expectile) * below == pytest.approx(0, abs=0.01)


def test_iqls_update_is_its_formulas() -> None:
    """The losses of one update, from values computed row by row before and after that of V."""
    agent = one(IQL, "agent.expectile=0.8", "agent.inverse_temperature=2", "agent.reward_scale=0.5",
                "agent.reward_shift=-1", "agent.actor_lr=0", "agent.gamma=0.9")  # fmt: skip
    for weights in (agent.values.critics.weights, agent.values.critics.targets):
        weights.flat.add_(0.3 * torch.randn(weights.flat.shape, generator=torch.Generator().manual_seed(1)))
    [(batch, noise)] = inputs(agent, [0], 1)
    pairs = torch.cat([batch.observations[0], batch.actions[0]], dim=1)
    q = torch.stack([plain(agent.values.critics.targets.of_run[0], pairs, m) for m in range(2)]).amin(dim=0).squeeze(1)
    online = [plain(agent.values.critics.weights.of_run[0], pairs, m).squeeze(1) for m in range(2)]
    error = q - plain(agent.values.trained.weights.of_run[0], batch.observations[0]).squeeze(1)
    value_loss = (torch.where(error < 0, 0.2, 0.8) * error**2).mean()
    log_probability = agent.policy.log_probability(batch.observations, batch.actions)[0].detach()
    info = agent.update(batch, noise)
    value, next_value = (
        plain(agent.values.trained.weights.of_run[0], states[0]).squeeze(1)
        for states in (batch.observations, batch.next_observations)
    )
    actor_loss = -((2 * (q - value)).exp().clamp(max=100) * log_probability).mean()
    targets = 0.5 * batch.rewards[0] - 1 + 0.9 * (1 - batch.terminals[0]) * next_value
    critic_loss = sum(((one_ - targets) ** 2).mean() for one_ in online)
    assert info["value_loss"].item() == pytest.approx(value_loss.item(), rel=1e-4)
    assert info["actor_loss"].item() == pytest.approx(actor_loss.item(), rel=1e-4)
    assert info["critic_loss"].item() == pytest.approx(float(critic_loss), rel=1e-4)


def test_weights_of_actions_are_limited() -> None:
    agent = one(IQL, "agent.inverse_temperature=10")
    [(batch, _)] = inputs(agent, [0], 1)
    log_probability = agent.policy.log_probability(batch.observations, batch.actions).detach()
    loss = agent.actor_loss(batch, torch.full((1, 8), 50.0))
    assert loss.item() == pytest.approx(-100 * log_probability.mean().item(), rel=1e-5)


def test_only_the_policys_rate_decays() -> None:
    """At the last step a half cosine is 0; values and critics learn as ever."""
    agent = one(IQL)
    assert agent.lr_decay == "cosine"
    agent.count.fill_(agent.steps)
    before = {name: tensor.clone() for name, tensor in agent.tensors.items()}
    update(agent, [0], 1)
    assert torch.equal(agent.tensors["actor"], before["actor"])
    assert not torch.equal(agent.tensors["value"], before["value"])
    assert not torch.equal(agent.tensors["critics"], before["critics"])


def test_returns_of_episodes() -> None:
    """Three episodes: one that is terminal, one that is cut, one that the data end in."""
    starts = torch.tensor([[0.0], [1.0], [9.0], [10.0], [20.0]])
    ends = torch.tensor([[1.0], [2.0], [10.0], [11.0], [21.0]])
    rewards, terminals = torch.tensor([1.0, 2.0, 3.0, 4.0, 7.0]), torch.tensor([0.0, 1.0, 0.0, 0.0, 0.0])
    data = Batch(starts, torch.zeros(5, 1), ends, rewards, terminals)
    assert episode_returns(data).tolist() == [3.0, 7.0, 7.0]
    agent = one(IQL, "agent.normalise_returns=true", "agent.reward_scale=1")
    agent.prepare(data)
    assert agent.values.reward_scale.item() == pytest.approx(1000 / 4)
    agent.prepare(data._replace(rewards=torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0])))
    assert agent.values.reward_scale.item() == 1.0


def test_terminal_rows_that_go_on_begin_a_new_episode() -> None:
    states = torch.arange(4.0).unsqueeze(1)
    data = Batch(states[:3], torch.zeros(3, 1), states[1:], torch.ones(3), torch.tensor([0.0, 1.0, 0.0]))
    assert episode_returns(data).tolist() == [2.0, 1.0]
    assert not math.isnan(float(episode_returns(data).sum()))
