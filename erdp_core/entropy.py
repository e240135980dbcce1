"""Entropy of the diffusion policy, from the chain's last step: log p(a_1 | a_T) (Eq. 14).

log p(a_1 | a_T) = log p(a_T | a_1) + log p(a_1 | a_0) - log p(a_T | a_0), each a Gaussian of the SDE, summed over the
action's dimensions; a_T ~ N(0, I). The entropy of a sample is H = -log p(a_1 | a_T).
"""

import math

from torch import Tensor

from erdp_core.sde import MeanRevertingSDE


def _log_gaussian(residual: Tensor, theta_bar: float) -> Tensor:
    """Log density of a residual [..., A] under N(0, (1 - e^{-2 theta_bar}) I), summed over A."""
    variance = -math.expm1(-2 * theta_bar)
    return (residual**2).sum(-1) * (-0.5 / variance) - 0.5 * residual.shape[-1] * math.log(2 * math.pi * variance)


def paper(sde: MeanRevertingSDE, a_0: Tensor, eps_phi: Tensor, a_T: Tensor) -> Tensor:
    """H as printed, [...]: a_1 = a_0 e^{-theta_bar_1} + std_1 eps_phi.

    eps_phi and not a fresh noise: with a fresh one the terms cancel and the gradient vanishes. Needs T >= 2, or else
    a_1 is a_T itself.

    Args:
        a_0: [..., A] the one-step estimate of the action (Eq. 8), unclipped.
        eps_phi: [..., A] the predicted noise that it came from.
        a_T: [..., A] a draw of N(0, I).
    """
    first, last = sde.at[1], sde.at[sde.T]
    a_1 = a_0 * first.decay + first.std * eps_phi
    step = last.theta_bar - first.theta_bar
    log_p = (
        _log_gaussian(a_T - a_1 * math.exp(-step), step)
        + _log_gaussian(a_1 - a_0 * first.decay, first.theta_bar)
        - _log_gaussian(a_T - a_0 * last.decay, last.theta_bar)
    )
    return -log_p


def released(sde: MeanRevertingSDE, a_0: Tensor, a_T: Tensor) -> Tensor:
    """H as the published implementation has it, [...]: in effect a constant plus k |a_0|^2.

    It differs from the printed form in three ways: a_1 = a_0 (1 - theta_1 dt) without noise; each transition's
    residual is (earlier - later e^{-theta_bar}); and the times 0, 1, T stand one step too late (1, 2, T), so that
    it needs T >= 3.
    """
    a_1 = a_0 * (1 - sde.at[1].rate)
    times = {0: sde.at[1].theta_bar, 1: sde.at[2].theta_bar, sde.T: sde.at[sde.T].theta_bar}

    def log_transition(earlier: Tensor, s: int, later: Tensor, t: int) -> Tensor:
        theta_bar = times[t] - times[s]
        return _log_gaussian(earlier - later * math.exp(-theta_bar), theta_bar)

    log_p = log_transition(a_1, 1, a_T, sde.T) + log_transition(a_0, 0, a_1, 1) - log_transition(a_0, 0, a_T, sde.T)
    return -log_p
