"""The automatic temperature of ERDP's entropy, alpha(s) (https://arxiv.org/abs/2402.04080, Eq. 45).

What it aims at is the entropy of the chain's last step (entropy.py), which the process fixes more than the policy. For
estimated actions in [-1, 1] and T = 5 it is 0.78 to 0.84 for each of their dimensions as released, about 0.4 to 0.9 as
printed (less with more steps: about 0.14, and -0.5 to 0, for T = 10); early in training estimates lie far outside, and
it is higher. A target below that range, such as the usual -1, makes alpha(s) fall towards 0 as long as training goes
on; one above it makes alpha(s) rise without end; only one within it holds the policy's entropy. `objective` says what
alpha(s) then weighs: as released it stands against the diffusion loss and its gradient is divided by E|H|, as printed
it stands against Q.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from erdp_core.agent_configs import ErdpConfig
from erdp_core.algorithms import numbers
from erdp_core.config import RunConfig
from erdp_core.mlp import MLP
from erdp_core.trained import Trained

WIDTH = 32
"""Of the one hidden layer, as in the paper."""


class StateAlpha(Trained):
    """A network of each of R runs from a state to a positive number; it begins at the config's alpha everywhere."""

    def __init__(
        self,
        configs: Sequence[RunConfig],
        seeds: Sequence[int],
        observation_size: int,
        action_size: int,
        device: torch.device,
    ) -> None:
        config = configs[0].agent
        assert isinstance(config, ErdpConfig)
        self.network = MLP(observation_size, 1, WIDTH, layers=1)
        super().__init__("alpha", "alpha_lr", self.network.shapes, self.network.initialise, configs, seeds, device)
        self._target = action_size * numbers(configs, "entropy_target", device)
        with torch.no_grad():
            self.weights["weight_2"].zero_()
            alpha = numbers(configs, "alpha", device).unsqueeze(1)
            # softplus of it is alpha; expm1 of a positive number would overflow.
            self.weights["bias_2"].copy_(alpha + torch.log(-torch.expm1(-alpha)))

    def __call__(self, observations: Tensor) -> Tensor:
        """alpha(s), [R, B], of states [R, B, O]; with gradients at the network."""
        return torch.nn.functional.softplus(self.network(self.weights, observations)).squeeze(2)

    def loss(self, alpha: Tensor, entropy: Tensor) -> Tensor:
        """J = E[alpha(s) (H - H_target)], [R]: alpha rises where the entropy H [R, B] is below its target."""
        return (alpha * (entropy.detach() - self._target.unsqueeze(1))).mean(dim=1)
