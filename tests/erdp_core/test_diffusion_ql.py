"""Diffusion-QL: two whole updates against the published implementation, and what its losses are."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from erdp_core.algorithms import make_algorithm
from erdp_core.baselines.diffusion_ql import DiffusionQL
from erdp_core.config import resolve
from erdp_core.tasks import get_task
from erdp_core.weights import Weights
from tests.erdp_core.reference_update import (
    ACTOR_NAMES,
    assert_close,
    batch,
    draws,
    fill,
    packed,
    tolerances,
    transposed,
)
from tests.small import algorithm, inputs, small_config

REFERENCE = np.load(Path(__file__).parents[1] / "reference" / "diffusion_ql_update_reference.npz")
CRITIC_NAMES = [f"{kind}_{layer}" for layer in range(1, 5) for kind in ("weight", "bias")]


def both_critics(tensors: dict[str, Tensor]) -> list[Tensor]:
    """Q1's linear layers, then Q2's."""
    return [
        tensors[name][member].T if "weight" in name else tensors[name][member].squeeze(0)
        for member in range(2)
        for name in CRITIC_NAMES
    ]


@pytest.mark.parametrize("runs", [1, 2])
@pytest.mark.parametrize("variant", ["dql", "dql_maxq"])
def test_two_updates_equal_the_published_implementation(variant: str, runs: int) -> None:
    settings = [
        "agent.eta=1.5",
        "agent.actor_lr=0.0003",
        "agent.grad_norm=4",
        "agent.batch_size=16",
        f"agent.max_q_backup={'true' if 'maxq' in variant else 'false'}",
    ]
    config = resolve(get_task("hopper-medium-v2"), "diffusion-ql", "paper", settings)
    agent = make_algorithm([config] * runs, list(range(runs)), 5, 3)
    assert isinstance(agent, DiffusionQL)
    for run in range(runs):
        fill(transposed(agent.policy.weights.of_run[run], ACTOR_NAMES), 0.05)
        fill(transposed(agent.average.weights.of_run[run], ACTOR_NAMES), 0.04)
        fill(both_critics(agent.critics.weights.of_run[run]), 0.05)
        fill(both_critics(agent.critics.targets.of_run[run]), 0.04)

    allowed: dict[str, list[np.ndarray]] = {}
    for update in (1, 2):
        where = f"{variant}/update{update}"
        drawn = draws(REFERENCE, where)
        info = agent.update(
            batch(REFERENCE, runs),
            {
                "next_action": packed(np.stack(drawn[:5], axis=1), runs),
                "t": packed(drawn[6] + 1, runs),
                "eps": packed(drawn[7], runs),
                "new_action": packed(np.stack(drawn[8:13], axis=1), runs),
                "coin": torch.full((runs,), float(REFERENCE[f"{where}/coin"])),
            },
        )
        if update == 1:
            of_actor, of_critics = (
                {name: tensor[0] for name, tensor in weights.views(optimiser.second_moment)}
                for weights, optimiser in (
                    (agent.policy.weights, agent.policy.optimiser),
                    (agent.critics.weights, agent.critics.optimiser),
                )
            )
            allowed["actor"] = tolerances(transposed(of_actor, ACTOR_NAMES))
            allowed["critic"] = allowed["critic_target"] = tolerances(both_critics(of_critics))
        expected = {
            "diffusion_loss": "bc_loss",
            "q_loss": "ql_loss",
            "actor_loss": "actor_loss",
            "critic_loss": "critic_loss",
            "critic_grad_norm": "critic_grad_norm",
            "actor_grad_norm": "actor_grad_norm",
        }
        for run in range(runs):
            for ours, theirs in expected.items():
                assert info[ours][run].item() == pytest.approx(float(REFERENCE[f"{where}/{theirs}"]), rel=1e-4), ours
            for key, tensors in (
                ("actor", transposed(agent.policy.weights.of_run[run], ACTOR_NAMES)),
                ("critic", both_critics(agent.critics.weights.of_run[run])),
                ("critic_target", both_critics(agent.critics.targets.of_run[run])),
            ):
                assert_close(tensors, REFERENCE, f"{where}/{key}", allowed[key])


def spread(critics: Weights, scale: float) -> None:
    """Give critics last layers that matter."""
    critics.flat.add_(scale * torch.randn(critics.flat.shape, generator=torch.Generator().manual_seed(0)))


def one(*settings: str) -> DiffusionQL:
    made = algorithm([small_config(*settings, method="diffusion-ql")], [0])
    assert isinstance(made, DiffusionQL)
    return made


def test_the_coin_exchanges_the_critics() -> None:
    agent = one()
    spread(agent.critics.weights, 0.3)
    [(batch_, noise)] = inputs(agent, [0], 1)
    actions = agent.policy.differentiable_sample(batch_.observations, noise["new_action"]).detach()
    q = agent.critics.q_of_actions(batch_.observations, actions)[0]
    for coin, first, second in ((0.9, 0, 1), (0.1, 1, 0)):
        _, info = agent.actor_loss(batch_, {**noise, "coin": torch.tensor([coin])})
        expected = -q[first].mean() / q[second].abs().mean()
        assert info["q_loss"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_with_eta_0_it_clones_and_samples_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = one("agent.eta=0")

    def refuse(*_: object) -> Tensor:
        raise AssertionError("a sample with gradients")

    monkeypatch.setattr(agent.policy, "differentiable_sample", refuse)
    [(batch_, noise)] = inputs(agent, [0], 1)
    loss, info = agent.actor_loss(batch_, noise)
    assert torch.equal(loss.detach(), info["diffusion_loss"])


def test_the_sample_with_gradients_is_the_sample_without() -> None:
    agent = one()
    [(batch_, noise)] = inputs(agent, [0], 1)
    with_gradients = agent.policy.differentiable_sample(batch_.observations, noise["new_action"])
    without = agent.policy.sample(agent.policy.weights, batch_.observations, noise["new_action"])
    torch.testing.assert_close(with_gradients.detach(), without, rtol=1e-4, atol=1e-5)


def test_the_gradient_goes_through_the_whole_chain() -> None:
    """Against a difference of the Q loss along a direction of weights, in which every step's network takes part."""
    agent = one("agent.eta=1", "agent.width=8")
    spread(agent.critics.weights, 0.3)
    [(batch_, noise)] = inputs(agent, [0], 1)

    def value() -> Tensor:
        actions = agent.policy.differentiable_sample(batch_.observations, noise["new_action"])
        return agent.critics.q_of_actions(batch_.observations, actions).mean()

    gradient = agent.policy.weights.gradient(value())
    direction = torch.randn(gradient.shape, generator=torch.Generator().manual_seed(3))
    step = 1e-4
    with torch.no_grad():
        start = agent.policy.weights.flat.detach().clone()
        ends = []
        for sign in (1, -1):
            agent.policy.weights.flat.copy_(start + sign * step * direction)
            ends.append(value().item())
    assert (ends[0] - ends[1]) / (2 * step) == pytest.approx((gradient * direction).sum().item(), rel=0.02, abs=1e-4)


def test_candidates_are_chosen_with_softmax_of_the_smaller_target() -> None:
    agent = one()
    spread(agent.critics.targets, 0.5)
    candidates, draws_ = 3, 4000
    chain = agent.policy.draw_chain(torch.Generator().manual_seed(1), 1, candidates)
    drawn = agent.draw_acting_noise(torch.Generator().manual_seed(0), draws_, candidates)
    noise = {"gumbel": drawn["gumbel"][None], "chain": chain.expand(1, draws_, *chain.shape[1:]).clone()}
    state = torch.full((1, draws_, 4), 0.3)
    chosen = agent.act(state, noise)[0]
    actions = agent.policy.sample(agent.policy.weights, state[:, :1], chain)[0]
    q = agent.critics.target_q(state[:, :1], actions[None])[0].amin(dim=0)
    counts = torch.stack([(chosen - action).abs().amax(dim=1) < 1e-4 for action in actions]).sum(dim=1)
    assert counts.sum() == draws_
    expected = torch.softmax(q.double(), 0)
    assert expected.max() / expected.min() > 1.2
    assert stats.chisquare(counts.numpy(), expected.numpy() * draws_).pvalue > 1e-3


@pytest.mark.parametrize("max_q", [False, True])
def test_the_target_is_the_smaller_of_both(max_q: bool) -> None:
    agent = one(f"agent.max_q_backup={str(max_q).lower()}", "agent.max_q_actions=3")
    spread(agent.critics.targets, 0.3)
    [(batch_, noise)] = inputs(agent, [0], 1)
    targets = agent.target(batch_, noise)
    actions = agent.policy.sample(agent.average.weights, batch_.next_observations, noise["next_action"])
    count = 3 if max_q else 1
    for row in range(8):
        values = []
        for member in range(2):
            of_actions = [
                plain_q(
                    agent.critics.targets.of_run[0],
                    member,
                    batch_.next_observations[0, row],
                    actions[0, row * count + k],
                )
                for k in range(count)
            ]
            values.append(max(of_actions))
        expected = batch_.rewards[0, row] + 0.99 * (1 - batch_.terminals[0, row]) * min(values)
        assert targets[0, 0, row].item() == pytest.approx(expected.item(), rel=1e-4, abs=1e-5)


def plain_q(tensors: dict[str, Tensor], member: int, state: Tensor, action: Tensor) -> float:
    hidden = torch.cat([state, action])
    for layer in (1, 2, 3):
        hidden = hidden @ tensors[f"weight_{layer}"][member] + tensors[f"bias_{layer}"][member, 0]
        hidden = torch.nn.functional.mish(hidden) if layer < 3 else hidden
    return hidden.item()
