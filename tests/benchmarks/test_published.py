"""What steps are measured against computes what ERDP computes."""

import numpy as np
import pytest
import torch

from erdp_core.agent import ERDP
from tests.benchmarks.published import PublishedERDP
from tests.small import algorithm, inputs, small_config


@pytest.mark.parametrize(
    "settings",
    [
        ("agent.diffusion_loss=noise",),
        ("agent.diffusion_loss=likelihood", "agent.action_clip=false"),
        ("agent.max_q_backup=true", "agent.max_q_actions=4", "agent.grad_norm=0.5"),
    ],
)
def test_updates_are_those_of_erdp(settings: tuple[str, ...]) -> None:
    ours = algorithm([small_config("agent.ema_from=3", "agent.ema_every=2", "agent.tau=0.1", *settings)], [0])
    assert isinstance(ours, ERDP)
    theirs = PublishedERDP(ours)
    for batch, noise in inputs(ours, [0], 12):
        expected = ours.update(batch, noise)
        found = theirs.update(type(batch)(*(column[0] for column in batch)), {key: noise[key][0] for key in noise})
        for name, value in found.items():
            assert value == pytest.approx(expected[name].item(), rel=1e-3, abs=1e-4), name
    for tensors, module in ((ours.critics.targets, theirs.target_critic), (ours.critics.weights, theirs.critic)):
        for tensor, parameter in zip(tensors.of_run[0].values(), module.parameters(), strict=True):
            torch.testing.assert_close(parameter.detach(), tensor, rtol=1e-3, atol=1e-4)
    for tensor, parameter in zip(ours.average.weights.of_run[0].values(), theirs.ema_actor.parameters(), strict=True):
        expected_tensor = tensor.T if parameter.ndim == 2 else tensor
        torch.testing.assert_close(parameter.detach(), expected_tensor, rtol=1e-3, atol=1e-4)


def test_acting_chooses_by_the_lower_confidence_bound() -> None:
    """As often as the softmax says; ours and theirs from the same weights."""
    ours = algorithm([small_config("agent.candidates=3")], [0])
    assert isinstance(ours, ERDP)
    ours.critics.targets.flat.mul_(30)
    theirs = PublishedERDP(ours)
    with torch.no_grad():
        for parameter, tensor in zip(
            theirs.target_critic.parameters(), ours.critics.targets.of_run[0].values(), strict=True
        ):
            parameter.copy_(tensor)
    torch.manual_seed(0)
    state = np.full(4, 0.5, np.float32)
    many = np.stack([theirs.act(state) for _ in range(400)])
    noise = ours.draw_acting_noise(torch.Generator().manual_seed(0), 400, 3)
    batched = ours.act(torch.full((1, 400, 4), 0.5), {key: value[None] for key, value in noise.items()})[0].numpy()
    spread = batched.std(axis=0) / 20
    assert (np.abs(many.mean(axis=0) - batched.mean(axis=0)) < 5 * spread).all()
    np.testing.assert_allclose(many.std(axis=0), batched.std(axis=0), rtol=0.2)
