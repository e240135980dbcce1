"""ERDP: what its losses are, and that the runs of a pack do not know of one another."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from erdp_core.agent import ERDP
from erdp_core.algorithms import make_algorithm
from erdp_core.config import RunConfig
from erdp_core.ensemble import lower_confidence_bound
from erdp_core.weights import Weights
from tests.small import algorithm, inputs, small_config, update


def erdp(configs: list[RunConfig], seeds: list[int]) -> ERDP:
    made = algorithm(configs, seeds)
    assert isinstance(made, ERDP)
    return made


def one(*settings: str) -> ERDP:
    return erdp([small_config(*settings)], [0])


def spread_critics(agent: ERDP) -> None:
    """Give the critics last layers that matter: as initialised, their values are nearly 0."""
    for index, weights in enumerate((agent.critics.weights, agent.critics.targets)):
        weights.flat.add_(0.3 * torch.randn(weights.flat.shape, generator=torch.Generator().manual_seed(index)))


def test_a_pack_shares_structure() -> None:
    with pytest.raises(ValueError, match="share method and structure"):
        make_algorithm([small_config(), small_config("agent.T=4")], [0, 1], 4, 2)


@pytest.mark.parametrize(
    "settings",
    [
        ("agent.M=1",),
        ("agent.M=1", "agent.objective=paper"),
        ("agent.T=1", "agent.alpha=0"),
        ("agent.T=2", "agent.entropy=paper", "agent.objective=paper"),
        ("agent.T=3",),
        ("agent.max_q_backup=true", "agent.max_q_actions=1"),
        ("agent.diffusion_loss=likelihood", "agent.action_clip=false"),
    ],
)
@pytest.mark.parametrize("batch", [1, 8])
def test_small_extremes_stay_finite(settings: tuple[str, ...], batch: int) -> None:
    agent = one(*settings, f"agent.batch_size={batch}")
    before = agent.policy.weights.flat.clone()
    for log in update(agent, [0], 5, batch):
        assert all(value.isfinite().all() for value in log.values()), log
    assert agent.policy.weights.flat.isfinite().all()
    assert agent.critics.weights.flat.isfinite().all()
    assert not torch.equal(agent.policy.weights.flat, before)


# --- Critic ---


def q_of_member(agent: ERDP, flat: Tensor, member: int, state: Tensor, action: Tensor) -> Tensor:
    """One member's value of one pair, from the flat weights and nothing else."""
    tensors, start = {}, 0
    for name, shape in agent.critics.ensemble.shapes.items():
        tensors[name] = flat[start : start + math.prod(shape)].view(shape)[member]
        start += math.prod(shape)
    hidden = torch.cat([state, action]).unsqueeze(0)
    layers = agent.config.layers
    for layer in range(1, layers + 2):
        hidden = hidden @ tensors[f"weight_{layer}"] + tensors[f"bias_{layer}"]
        if layer <= layers:
            hidden = torch.nn.functional.mish(hidden)
    return hidden[0, 0]


@pytest.mark.parametrize("max_q", [False, True])
def test_target_equals_a_loop(max_q: bool) -> None:
    settings = ("agent.max_q_actions=4", f"agent.max_q_backup={max_q}", "agent.T=3")
    configs = [small_config(*settings, f"agent.gamma={gamma}") for gamma in (0.9, 0.5)]
    agent = erdp(configs, [0, 1])
    spread_critics(agent)
    # The targets' actions are the averaged policy's, not the policy's own.
    agent.average.weights.flat.mul_(1.7)
    batch, noise = inputs(agent, [0, 1], 1)[0]
    assert batch.terminals.any()
    assert not batch.terminals.all()
    actions_each = 4 if max_q else 1
    actions = agent.policy.sample(agent.average.weights, batch.next_observations, noise["next_action"])
    expected = torch.zeros(2, 3, 8)
    for run, gamma in enumerate((0.9, 0.5)):
        for member in range(3):
            for row in range(8):
                values = [
                    q_of_member(
                        agent,
                        agent.critics.targets.flat[run],
                        member,
                        batch.next_observations[run, row],
                        actions[run, row * actions_each + index],
                    )
                    for index in range(actions_each)
                ]
                going_on = 1 - batch.terminals[run, row]
                expected[run, member, row] = batch.rewards[run, row] + gamma * going_on * max(values)
    torch.testing.assert_close(agent.target(batch, noise), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pessimism", ["lcb", "min"])
def test_shared_targets_are_the_pessimistic_value_of_all(pessimism: str) -> None:
    agent = one("agent.targets=shared", f"agent.pessimism={pessimism}", "agent.beta=2")
    spread_critics(agent)
    [(batch, noise)] = inputs(agent, [0], 1)
    actions = agent.policy.sample(agent.average.weights, batch.next_observations, noise["next_action"])
    q = agent.critics.target_q(batch.next_observations, actions)[0]
    value = q.amin(dim=0) if pessimism == "min" else q.mean(dim=0) - 2 * q.std(dim=0)
    expected = batch.rewards[0] + 0.99 * (1 - batch.terminals[0]) * value
    torch.testing.assert_close(agent.target(batch, noise)[0], expected.unsqueeze(0), rtol=1e-4, atol=1e-5)


def test_the_least_in_place_of_the_bound() -> None:
    """In the policy's loss, and in the choice among candidates."""
    least, bound = one("agent.pessimism=min", "agent.alpha=0"), one("agent.alpha=0")
    for agent in (least, bound):
        spread_critics(agent)
    [(batch, noise)] = inputs(least, [0], 1)
    _, a_0, _ = least.policy.diffusion_loss(batch.observations, batch.actions, noise)
    q = least.critics.q_of_actions(batch.observations, a_0.clamp(-1, 1))[0].detach()
    _, info = least.actor_loss(batch, noise, torch.ones(1))
    assert info["q_loss"].item() == pytest.approx((-q.amin(dim=0).mean() / q.abs().mean()).item(), rel=1e-4)
    drawn = acting_noise(least, 50, 3)
    states = torch.randn(1, 50, 4, generator=torch.Generator().manual_seed(4))
    assert not torch.equal(least.act(states, drawn), bound.act(states, drawn))


def test_critic_loss_is_a_mean_over_batch_and_members() -> None:
    agent = one()
    spread_critics(agent)
    batch, noise = inputs(agent, [0], 1)[0]
    target = agent.target(batch, noise)
    errors = [
        (
            q_of_member(agent, agent.critics.weights.flat[0], m, batch.observations[0, b], batch.actions[0, b]).item()
            - target[0, m, b].item()
        )
        ** 2
        for m in range(3)
        for b in range(8)
    ]
    loss, _ = agent.critic_loss(batch, noise)
    assert loss.item() == pytest.approx(np.mean(errors), rel=1e-4)


def test_target_critics_follow_by_tau() -> None:
    agent = one("agent.tau=0.25")
    old = agent.critics.targets.flat.clone()
    update(agent, [0], 1)
    torch.testing.assert_close(agent.critics.targets.flat, 0.75 * old + 0.25 * agent.critics.weights.flat)


# --- Actor ---


def log_normal(x: Tensor, mean: Tensor, variance: float) -> Tensor:
    density: Tensor = torch.distributions.Normal(mean, math.sqrt(variance)).log_prob(x)
    return density.sum(-1)


def test_paper_objective_equals_a_direct_computation() -> None:
    """Eq. 15 in its own words: L_diff - lambda E[LCB - alpha log p(a_1 | a_T)], lambda = eta / E|Q| of the data."""
    alpha, beta, eta = 0.3, 2.0, 1.7
    agent = one(
        "agent.objective=paper", "agent.entropy=paper", f"agent.alpha={alpha}", f"agent.beta={beta}", f"agent.eta={eta}"
    )
    spread_critics(agent)
    batch, noise = inputs(agent, [0], 1)[0]
    _, critic_info = agent.critic_loss(batch, noise)
    loss, info = agent.actor_loss(batch, noise, critic_info["q_scale_of_data"])

    sde = agent.sde
    theta_bar = [float(value) for value in sde.theta_bar]
    t = noise["t"][0]
    decay = torch.tensor([math.exp(-theta_bar[int(step)]) for step in t]).unsqueeze(-1)
    std = (1 - decay**2).sqrt()
    a_t = decay * batch.actions[0] + std * noise["eps"][0]
    eps_phi = agent.policy.network.eps_phi(agent.policy.weights, a_t.unsqueeze(0), noise["t"], batch.observations)[0]
    a_0 = (a_t - std * eps_phi) / decay
    lcbs, q_of_data = [], []
    for row in range(8):
        state = batch.observations[0, row]
        q = torch.stack(
            [q_of_member(agent, agent.critics.weights.flat[0], m, state, a_0[row].clamp(-1, 1)) for m in range(3)]
        )
        lcbs.append(q.mean() - beta * q.std())
        q_of_data += [
            q_of_member(agent, agent.critics.weights.flat[0], m, state, batch.actions[0, row]).abs().item()
            for m in range(3)
        ]
    T = agent.config.T
    a_1 = math.exp(-theta_bar[1]) * a_0 + math.sqrt(1 - math.exp(-2 * theta_bar[1])) * eps_phi
    a_T = noise["a_T"][0]
    log_p = (
        log_normal(a_T, math.exp(theta_bar[1] - theta_bar[T]) * a_1, 1 - math.exp(2 * (theta_bar[1] - theta_bar[T])))
        + log_normal(a_1, math.exp(-theta_bar[1]) * a_0, 1 - math.exp(-2 * theta_bar[1]))
        - log_normal(a_T, math.exp(-theta_bar[T]) * a_0, 1 - math.exp(-2 * theta_bar[T]))
    )
    scale = eta / float(np.mean(q_of_data))
    expected = ((eps_phi - noise["eps"][0]) ** 2).mean() - scale * (torch.stack(lcbs) - alpha * log_p).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
    assert info["entropy"].item() == pytest.approx(-log_p.mean().item(), rel=1e-4)
    gradient = agent.policy.weights.gradient(loss.sum())
    again = agent.policy.weights.gradient(expected)
    torch.testing.assert_close(gradient, again, rtol=1e-3, atol=1e-5)


def test_alpha_moves_the_entropy_and_beta_moves_towards_agreement() -> None:
    """The signs of Eq. 15: more temperature, more entropy; more pessimism, less spread among the critics."""
    results = {}
    for name, values in {"alpha": (0.0, 2.0), "beta": (0.0, 50.0)}.items():
        configs = [
            small_config("agent.actor_lr=0.003", "agent.critic_lr=0", "agent.alpha=0", f"agent.{name}={value}")
            for value in values
        ]
        agent = erdp(configs, [0, 0])
        generator = torch.Generator().manual_seed(5)
        for weights in (agent.critics.weights, agent.critics.targets):
            weights.flat.add_(0.3 * torch.randn(weights.flat.shape[1], generator=generator))
        logs = update(agent, [0, 0], 60)
        results[name] = logs
        if name == "beta":
            batch, noise = inputs(agent, [0, 0], 1)[0]
            actions = agent.policy.sample(agent.policy.weights, batch.observations, noise["next_action"])
            spread = agent.critics.ensemble.q(agent.critics.weights, batch.observations, actions).std(dim=1).mean(dim=1)
            assert spread[1] < spread[0]
    entropy = torch.stack([log["entropy"] for log in results["alpha"][-20:]]).mean(dim=0)
    assert entropy[1] > entropy[0]


def test_the_actor_step_gives_critics_no_gradient() -> None:
    agent = one()
    (batch, noise), (later, later_noise) = inputs(agent, [0], 2)
    agent.update(batch, noise)
    _, info = agent.critic_loss(later, later_noise)
    loss, _ = agent.actor_loss(later, later_noise, info["q_scale_of_data"])
    assert not any(agent.critics.weights[name].requires_grad for name in agent.critics.ensemble.shapes)
    assert not info["q_scale_of_data"].requires_grad
    reached, seen = [loss.grad_fn], set()
    leaves = []
    while reached:
        node = reached.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            leaves.append(node.variable)
        reached += [following for following, _ in node.next_functions]
    own = {agent.policy.weights[name].data_ptr() for name in agent.policy.network.shapes}
    assert {leaf.data_ptr() for leaf in leaves} == own


def test_averaged_policy_starts_at_ema_from_and_moves_every_ema_every() -> None:
    agent = one("agent.ema_from=4", "agent.ema_every=3", "agent.ema_decay=0.8")
    moved = []
    for step, (batch, noise) in enumerate(inputs(agent, [0], 14)):
        old = agent.average.weights.flat.clone()
        agent.update(batch, noise)
        if not torch.equal(agent.average.weights.flat, old):
            moved.append(step)
            torch.testing.assert_close(agent.average.weights.flat, 0.8 * old + 0.2 * agent.policy.weights.flat.detach())
    assert moved == [6, 9, 12]


# --- Acting ---


def acting_noise(agent: ERDP, episodes: int, candidates: int, seed: int = 0) -> dict[str, Tensor]:
    drawn = agent.draw_acting_noise(torch.Generator().manual_seed(seed), episodes, candidates)
    return {name: value.unsqueeze(0) for name, value in drawn.items()}


def test_one_candidate_is_the_policys_own_sample() -> None:
    agent = one()
    observations = torch.randn(1, 6, 4, generator=torch.Generator().manual_seed(1))
    noise = acting_noise(agent, 6, 1)
    sample = agent.policy.sample(agent.policy.weights, observations, noise["chain"].flatten(1, 2))
    assert torch.equal(agent.act(observations, noise), sample)
    assert sample.shape == (1, 6, 2)
    assert sample.abs().max() <= 1


def test_candidates_are_chosen_with_softmax_of_the_targets_lcb() -> None:
    agent = one("agent.beta=0.5")
    spread_critics(agent)
    agent.critics.targets.flat.mul_(2)
    draws, candidates = 20_000, 4
    observation = torch.randn(1, 1, 4, generator=torch.Generator().manual_seed(1))
    chain = torch.randn(1, 1, candidates, agent.config.T, 2, generator=torch.Generator().manual_seed(2))
    noise = acting_noise(agent, draws, candidates)
    noise["chain"] = chain.expand(1, draws, -1, -1, -1)
    chosen = agent.act(observation.expand(1, draws, 4), noise)[0]

    actions = agent.policy.sample(agent.policy.weights, observation, chain.flatten(1, 2))
    lcb = lower_confidence_bound(agent.critics.ensemble.q(agent.critics.targets, observation, actions), agent.beta)[0]
    expected = draws * torch.softmax(lcb, dim=0)
    counts = torch.cdist(chosen, actions[0]).argmin(dim=1).bincount(minlength=candidates)
    assert expected.min() > 50
    assert expected.max() / expected.min() > 1.5, "the candidates are too much alike to test the choice"
    assert (
        stats.chisquare(counts.numpy(), expected.double().numpy() / expected.double().sum().item() * draws).pvalue
        > 1e-3
    )


def test_acting_in_chunks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = erdp([small_config()] * 2, [0, 1])
    spread_critics(agent)
    observations = torch.randn(2, 7, 4, generator=torch.Generator().manual_seed(1))
    noise = {name: torch.cat([value, value.flip(1)]) for name, value in acting_noise(agent, 7, 5).items()}
    whole = agent.act(observations, noise)
    calls = []
    sample = agent.policy.sample

    def counted(weights: Weights, states: Tensor, chain: Tensor) -> Tensor:
        calls.append(states.shape[1])
        return sample(weights, states, chain)

    monkeypatch.setattr(agent.policy, "sample", counted)
    monkeypatch.setattr("erdp_core.candidates.ACTING_BYTES", 3 * 2 * 5 * 3 * 16 * 4 * 3)
    chunked = agent.act(observations, noise)
    assert calls == [3, 3, 1]
    torch.testing.assert_close(chunked, whole, rtol=1e-5, atol=1e-6)
