"""Acting by choice: several actions sampled for each state, one of them chosen by its value.

R runs, E episodes, K candidates, T steps of the chain, A action size.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from erdp_core.algorithms import Noise
from erdp_core.diffusion_policy import DiffusionPolicy
from erdp_core.weights import Weights

ACTING_BYTES = 256 * 2**20
"""Bound on the memory that one chunk of acting may take."""


def draw_candidates(
    policy: DiffusionPolicy, generator: torch.Generator, episodes: int, candidates: int
) -> dict[str, Tensor]:
    """Everything random in one choice for each episode of one run: chain [E, K, T, A], gumbel [E, K]."""
    uniform = torch.rand(episodes, candidates, generator=generator, device=policy.device)
    return {
        "chain": policy.draw_chain(generator, episodes, candidates),
        "gumbel": -torch.log(-torch.log(uniform.clamp(1e-20, 1 - 1e-7))),
    }


@torch.no_grad()
def act_by_candidates(
    policy: DiffusionPolicy,
    value: Callable[[Tensor, Tensor], Tensor],
    members: int,
    observations: Tensor,
    noise: Noise,
    greedy: bool = False,
    weights: Weights | None = None,
) -> Tensor:
    """Actions [R, E, A]: K samples of a policy, one chosen with softmax(value), or the best if greedy.

    Adding Gumbel noise and taking the maximum is a draw from the softmax. Goes in chunks of bounded memory.

    Args:
        policy: what samples.
        value: of states [R, e, O] and K actions of each [R, e * K, A], [R, e * K].
        members: critics that the value takes.
        observations: [R, E, O].
        noise: of `draw_candidates`, [R, E, ...].
        greedy: choose the best.
        weights: that sample, in place of the policy's own.
    """
    runs, episodes, candidates = noise["gumbel"].shape
    width = policy.network.width
    bytes_per_episode = runs * candidates * (members if candidates > 1 else 1) * width * 4 * 3
    chunk = max(1, ACTING_BYTES // bytes_per_episode)

    sampling = policy.weights if weights is None else weights

    def chosen(some: slice) -> Tensor:
        states, gumbel = observations[:, some], noise["gumbel"][:, some]
        actions = policy.sample(sampling, states, noise["chain"][:, some].flatten(1, 2))
        if candidates == 1:
            return actions
        values = value(states, actions).unflatten(1, gumbel.shape[1:])
        best = (values if greedy else values + gumbel).argmax(dim=2)
        rows = best[..., None, None].expand(-1, -1, 1, actions.shape[-1])
        found: Tensor = actions.unflatten(1, gumbel.shape[1:]).gather(2, rows).squeeze(2)
        return found

    return torch.cat([chosen(slice(start, start + chunk)) for start in range(0, episodes, chunk)], dim=1)
