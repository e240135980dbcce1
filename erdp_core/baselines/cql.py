"""CQL(H) (https://arxiv.org/abs/2006.04779): SAC whose critics are held down where the policy goes and the data do not.

One algorithm, one file, read top to bottom. Q has shape [R, 2, B], everything else [R, B, ...]. As in the released code
targets have no entropy, and the policy clones at first; its Lagrange multiplier for AntMaze is left out, and critics
come first as in every file here, where there the policy's loss is taken by the critics before their step.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from erdp_core.agent_configs import CqlConfig
from erdp_core.algorithms import Batch, Noise, numbers
from erdp_core.config import RunConfig
from erdp_core.soft_actor_critic import SoftActorCritic


class CQL(SoftActorCritic):
    """R runs of CQL(H)."""

    def __init__(
        self,
        configs: Sequence[RunConfig],
        seeds: Sequence[int],
        observation_size: int,
        action_size: int,
        device: torch.device,
    ) -> None:
        config = configs[0].agent
        assert isinstance(config, CqlConfig)
        super().__init__(configs, seeds, observation_size, action_size, device, M=2, sum_of_members=True)
        self.config = config
        self.conservative_weight = numbers(configs, "conservative_weight", device)

    def draw_noise(self, generator: torch.Generator, steps: int) -> dict[str, Tensor]:
        """Everything random in `steps` updates of one run, each tensor [steps, B, K, A].

        action and next_action (K = 1): of the policy's step and the targets. uniform, now and later
        (K = `sampled_actions`): of the sum over actions.
        """
        count = self.config.sampled_actions
        drawn = {"action": 1, "next_action": 1, "now": count, "later": count}
        uniform = torch.rand(
            steps, self.config.batch_size, count, self.policy.action_size, generator=generator, device=self.device
        )
        return {
            "uniform": 2 * uniform - 1,
            **{name: self.policy.draw(generator, steps, actions) for name, actions in drawn.items()},
        }

    @torch.no_grad()
    def target(self, batch: Batch, noise: Noise) -> Tensor:
        """r + gamma (1 - done) min_j Q_target_j(s', a'), [R, 1, B], a' sampled from the policy."""
        next_actions, _ = self.policy.sample(batch.next_observations, noise["next_action"])
        q_next = self.critics.target_q(batch.next_observations, next_actions)
        return self.critics.backed_up(batch, q_next.amin(dim=1, keepdim=True))

    def critic_loss(self, batch: Batch, noise: Noise) -> tuple[Tensor, dict[str, Tensor]]:
        """Sum over both critics of mean (Q_i - y)^2 and the conservative term, [R], with gradients at the critics."""
        targets = self.target(batch, noise)
        states, size = batch.observations, self.policy.action_size
        with torch.no_grad():
            now, density_now = self.policy.sample(states, noise["now"])
            later, density_later = self.policy.sample(batch.next_observations, noise["later"])
        uniform = noise["uniform"].flatten(1, 2)
        count = self.config.sampled_actions
        # The data's actions and the sampled ones go through the critics together.
        actions = [batch.actions, uniform, now, later]
        repeated = states.repeat_interleave(count, dim=1)
        q = self.critics.q_with_gradients(torch.cat([states, repeated, repeated, repeated], 1), torch.cat(actions, 1))
        q_of_data, *sampled = q.split([one.shape[1] for one in actions], dim=2)
        densities = [torch.full_like(density_now, -size * math.log(2)), density_now, density_later]
        # Each kind of action by its own density: a sum over all actions, sampled with importance.
        by_density = [
            (values - density.unsqueeze(1)).unflatten(2, (-1, count))
            for values, density in zip(sampled, densities, strict=True)
        ]
        log_sum = torch.cat(by_density, dim=3).logsumexp(dim=3)
        conservative = (log_sum - q_of_data).mean(dim=2).sum(dim=1)
        squared = ((q_of_data - targets) ** 2).mean(dim=2).sum(dim=1)
        return squared + self.conservative_weight * conservative, {
            "critic_loss": squared.detach(),
            "conservative_loss": conservative.detach(),
            "q_mean": q_of_data.detach().mean(dim=(1, 2)),
        }

    def actor_loss(self, batch: Batch, noise: Noise) -> tuple[Tensor, Tensor]:
        """E[alpha log pi(a | s) - min_i Q_i(s, a)], [R], and log pi [R, B]; at first it clones, see `CqlConfig`."""
        actions, log_probability = self.policy.sample(batch.observations, noise["action"])
        q = self.critics.q_of_actions(batch.observations, actions).amin(dim=1)
        of_data = self.policy.log_probability(batch.observations, batch.actions)
        gain = torch.where(self.count <= self.config.cloning_steps, of_data, q)
        loss = (self.temperature.alpha.unsqueeze(1) * log_probability - gain).mean(dim=1)
        return loss, log_probability
