"""Behaviour cloning: the diffusion loss alone, and what it shares with ERDP."""

import pytest
import torch

from erdp_core.agent import ERDP
from erdp_core.baselines.bc_diffusion import BcDiffusion
from tests.small import algorithm, assert_states_close, inputs, small_config, update

SETTINGS = ("agent.lr_decay=cosine", "agent.diffusion_loss=likelihood")


def cloning(*seeds: int) -> BcDiffusion:
    made = algorithm([small_config(*SETTINGS, method="bc-diffusion")] * len(seeds), seeds)
    assert isinstance(made, BcDiffusion)
    return made


def test_it_is_erdp_without_value_and_entropy() -> None:
    """eta = alpha = 0 leaves ERDP the diffusion loss: the same policy from the same times and noises."""
    bc = cloning(0)
    erdp = algorithm([small_config(*SETTINGS, "agent.eta=0", "agent.alpha=0")], [0])
    assert isinstance(erdp, ERDP)
    for batch, noise in inputs(erdp, [0], 10):
        theirs = erdp.update(batch, noise)
        ours = bc.update(batch, {name: noise[name] for name in ("t", "eps")})
        assert ours["diffusion_loss"].item() == pytest.approx(theirs["diffusion_loss"].item(), rel=1e-5)
    torch.testing.assert_close(bc.policy.weights.flat, erdp.policy.weights.flat, rtol=1e-5, atol=1e-6)


def test_rewards_are_not_seen() -> None:
    one, other = cloning(0), cloning(0)
    for batch, noise in inputs(one, [0], 5):
        one.update(batch, noise)
        other.update(batch._replace(rewards=batch.rewards * torch.nan, terminals=1 - batch.terminals), noise)
    assert_states_close(one, 0, other, 0, 0.0)


def test_cosine_falls_to_zero_over_the_runs_steps() -> None:
    bc = cloning(0)
    assert bc.steps == 40
    scales = []
    for count in (1, 11, 21, 31, 41):
        bc.count.fill_(count)
        scales.append(bc.learning_rate_scale().item())
    assert scales == pytest.approx([1, 0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5, 0], abs=1e-9)


def test_acting_is_one_sample_of_the_policy() -> None:
    bc = cloning(0)
    update(bc, [0], 3)
    assert bc.candidates == 1
    drawn = bc.draw_acting_noise(torch.Generator().manual_seed(0), 6, 1)
    observations = torch.randn(1, 6, 4, generator=torch.Generator().manual_seed(1))
    actions = bc.act(observations, {"chain": drawn["chain"].unsqueeze(0)})
    sample = bc.policy.sample(bc.policy.weights, observations, drawn["chain"].unsqueeze(0).flatten(1, 2))
    assert torch.equal(actions, sample)
