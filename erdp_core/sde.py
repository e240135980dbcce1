"""The processes that turn actions into noise and back: ERDP's mean-reverting SDE, and Diffusion-QL's.

Discrete time t = 1..T with theta_bar_t = sum_{u <= t} rate_u and theta_bar_0 = 0; for the SDE rate_t = theta_t dt. All
coefficients are vectors [T + 1] indexed by t itself; entry 0 is the data. Equations are those of arXiv 2402.04080.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

REMAINING_SIGNAL = 1e-3
"""e^{-theta_bar_T}: the share of a_0 that is left in a_T."""
COSINE_OFFSET = 0.008
VP_MIN, VP_MAX = 0.1, 10.0
"""Diffusion-QL's b_min and b_max."""


@dataclass(frozen=True)
class Coefficients:
    """Those of one t, as numbers: where all of a batch is at the same time."""

    rate: float
    theta_bar: float
    decay: float
    std: float
    posterior_std: float
    posterior_weight_a_t: float
    posterior_weight_a_0: float


class Diffusion:
    """Actions pulled towards zero and into unit noise in T steps: coefficients, marginal, posterior, optimal sampler.

    From one time to the next a_t = e^{-rate_t} a_{t-1} + noise, with the variance that makes a_t unit noise in the end.
    Actions have shape [..., A], times `t` [...] (whole numbers in 1..T).
    """

    def __init__(self, rates: Tensor, device: torch.device | str = "cpu") -> None:
        """rates: [T + 1] in double precision, entry 0 being 0."""
        self.T = len(rates) - 1
        theta_bar = torch.cumsum(rates, 0)
        decay = torch.exp(-theta_bar)
        std = torch.sqrt(-torch.expm1(-2 * theta_bar))

        # Posterior of Eq. 7 with A = e^{-rate_t}, B = e^{-theta_bar_t}, C = e^{-theta_bar_{t-1}}.
        one_minus_a2 = -torch.expm1(-2 * rates)
        previous_decay = torch.cat([torch.ones(1, dtype=torch.float64), decay[:-1]])
        previous_variance = torch.cat([torch.zeros(1, dtype=torch.float64), std[:-1] ** 2])
        variance = torch.where(std > 0, std**2, 1.0)
        weight_a_t = torch.exp(-rates) * previous_variance / variance
        weight_a_0 = previous_decay * one_minus_a2 / variance
        posterior_std = torch.sqrt(one_minus_a2 * previous_variance / variance)

        exact = (rates, theta_bar, decay, std, posterior_std, weight_a_t, weight_a_0)
        self.at = [Coefficients(*values) for values in zip(*(one.tolist() for one in exact), strict=True)]
        """Of t = 0..T."""
        (
            self.rate,
            self.theta_bar,
            self.decay,  # e^{-theta_bar_t}
            self.std,  # sqrt(1 - e^{-2 theta_bar_t})
            self.posterior_std,
            self.posterior_weight_a_t,
            self.posterior_weight_a_0,
        ) = (one.to(device=device, dtype=torch.float32) for one in exact)

    def diffuse(self, a_0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """a_t from a_0 and noise (Eq. 2, 4)."""
        return a_0 * self.decay[t].unsqueeze(-1) + self.std[t].unsqueeze(-1) * eps

    def a_0_from_noise(self, a_t: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """a_0 from a_t and its noise (Eq. 8)."""
        return (a_t - self.std[t].unsqueeze(-1) * eps) / self.decay[t].unsqueeze(-1)

    def posterior_mean(self, a_t: Tensor, t: Tensor, a_0: Tensor) -> Tensor:
        """Mean of p(a_{t-1} | a_t, a_0) (Eq. 7)."""
        return self.posterior_weight_a_t[t].unsqueeze(-1) * a_t + self.posterior_weight_a_0[t].unsqueeze(-1) * a_0

    def sample(self, predict_noise: Callable[[Tensor, int], Tensor], noise: Tensor, action_clip: bool) -> Tensor:
        """Actions [..., A] by optimal sampling: t = T..1, each step the posterior given the estimate of a_0.

        Args:
            predict_noise: eps_phi of (a_t [..., A], t).
            noise: [T, ..., A]: a_T, then what the steps T..2 add; the last step adds none.
            action_clip: clamp the estimates of a_0 to [-1, 1]; the returned action always is.
        """
        a_t = noise[0]
        for t in range(self.T, 0, -1):
            now = self.at[t]
            a_0 = torch.sub(a_t, predict_noise(a_t, t), alpha=now.std) / now.decay
            if action_clip:
                a_0 = a_0.clamp(-1, 1)
            a_t = torch.add(now.posterior_weight_a_t * a_t, a_0, alpha=now.posterior_weight_a_0)
            if t > 1:
                a_t = torch.add(a_t, noise[self.T - t + 1], alpha=now.posterior_std)
        return a_t.clamp(-1, 1)


class MeanRevertingSDE(Diffusion):
    """ERDP's: the SDE da = -theta_t a dt + sigma_t dw in T steps of length dt.

    The schedule is a cosine: theta_t = 1 - f(t)/f(0), f(u) = cos^2((u/(T+1) + s)/(1 + s) pi/2), s = 0.008, with dt
    chosen so that theta_bar_T = -ln(1e-3).
    """

    def __init__(self, T: int, device: torch.device | str = "cpu") -> None:
        if T < 1:
            raise ValueError(f"T must be at least 1, got {T}")
        u = torch.arange(T + 1, dtype=torch.float64) / (T + 1)
        f = torch.cos((u + COSINE_OFFSET) / (1 + COSINE_OFFSET) * math.pi / 2) ** 2
        theta = 1 - f / f[0]
        self.dt = -math.log(REMAINING_SIGNAL) / float(theta.sum())
        super().__init__(theta * self.dt, device)
        self.theta = theta.to(device=device, dtype=torch.float32)

    def reverse_drift_step(self, a_t: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """One Euler step of the reverse SDE without its noise, the score being -eps/std_t."""
        theta_dt = self.rate[t].unsqueeze(-1)
        return a_t + theta_dt * a_t - (2 * theta_dt / self.std[t].unsqueeze(-1)) * eps

    def likelihood_loss(self, a_0: Tensor, a_t: Tensor, t: Tensor, eps_phi: Tensor) -> Tensor:
        """IR-SDE's loss, elementwise [..., A].

        How far, squared, an Euler step of the reverse SDE with the predicted score ends from the posterior mean given
        the true a_0.
        """
        return (self.reverse_drift_step(a_t, t, eps_phi) - self.posterior_mean(a_t, t, a_0)) ** 2


class VariancePreserving(Diffusion):
    """Diffusion-QL's (https://arxiv.org/abs/2208.06193): DDPM with beta_t = 1 - exp(-2 rate_t).

    2 rate_t = b_min / T + (b_max - b_min) (2t - 1) / (2 T^2), with b_min = 0.1 and b_max = 10.
    """

    def __init__(self, T: int, device: torch.device | str = "cpu") -> None:
        if T < 1:
            raise ValueError(f"T must be at least 1, got {T}")
        t = torch.arange(T + 1, dtype=torch.float64)
        rates = 0.5 * (VP_MIN / T + (VP_MAX - VP_MIN) * (2 * t - 1) / (2 * T**2))
        rates[0] = 0
        super().__init__(rates, device)
