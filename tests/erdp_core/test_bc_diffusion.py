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


def test_a_run_alone_and_in_a_pack_come_to_the_same() -> None:
    alone, together = cloning(3), cloning(0, 1, 2, 3, 4)
    update(alone, [3], 20)
    update(together, [0, 1, 2, 3, 4], 20)
    assert_states_close(together, 3, alone, 0, 2e-5)


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
    assert bc.policy.steps == 40
    scales = [bc.policy.learning_rate_scale(torch.tensor(count)).item() for count in (1, 11, 21, 31, 41)]
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


def test_states_carry_training_and_policies_acting() -> None:
    steady, resumed, acting = cloning(0, 1), cloning(5, 6), cloning(7, 8)
    steps = inputs(steady, [0, 1], 9)
    for batch, noise in steps[:4]:
        steady.update(batch, noise)
    for run in range(2):
        resumed.load_state(run, steady.state(run))
    for batch, noise in steps[4:]:
        steady.update(batch, noise)
        resumed.update(batch, noise)
    for run in range(2):
        assert_states_close(resumed, run, steady, run, 0.0)
        acting.load_policy_state(run, steady.policy_state(run))
    assert torch.equal(acting.policy.weights.flat, steady.policy.weights.flat)
