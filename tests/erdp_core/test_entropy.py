"""Both forms of the entropy: the published numbers, the closed Gaussian posterior, and where gradients go."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from erdp_core import entropy
from erdp_core.sde import Coefficients, MeanRevertingSDE

REFERENCE = np.load(Path(__file__).parents[1] / "reference" / "sde_reference.npz")


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def in_double(T: int) -> MeanRevertingSDE:
    """The SDE with its coefficients in double precision, so that comparisons are sharp."""
    sde = MeanRevertingSDE(T)
    for field in dataclasses.fields(Coefficients):
        values = [getattr(coefficients, field.name) for coefficients in sde.at]
        setattr(sde, field.name, torch.tensor(values, dtype=torch.float64))
    return sde


@pytest.mark.parametrize("T", [5, 10])
def test_released_form_equals_the_published_numbers(T: int) -> None:
    a_0, a_T = (torch.from_numpy(REFERENCE[f"T{T}/{name}"]) for name in ("x0", "aT"))
    ours = entropy.released(MeanRevertingSDE(T), a_0, a_T)
    np.testing.assert_allclose(ours, REFERENCE[f"T{T}/released_code_entropy"][:, 0], rtol=2e-4)


@pytest.mark.parametrize("T", [2, 3, 5, 10, 50])
def test_paper_form_equals_the_closed_posterior(T: int) -> None:
    """log p(a_1 | a_T, a_0) of the Gaussian chain 0 -> 1 -> T, by conditioning the joint Gaussian of (a_1, a_T)."""
    sde = in_double(T)
    a_0, eps_phi, a_T = (normal(32, 3, seed=seed) for seed in range(3))
    a_1 = sde.decay[1] * a_0 + sde.std[1] * eps_phi
    onward = (sde.theta_bar[1] - sde.theta_bar[T]).exp()
    # Given a_0: cov(a_1, a_T) = onward var(a_1).
    covariance = onward * sde.std[1] ** 2
    gain = covariance / sde.std[T] ** 2
    mean = sde.decay[1] * a_0 + gain * (a_T - sde.decay[T] * a_0)
    variance = sde.std[1] ** 2 - gain * covariance
    log_p = torch.distributions.Normal(mean, variance.sqrt()).log_prob(a_1).sum(-1)
    torch.testing.assert_close(entropy.paper(sde, a_0, eps_phi, a_T), -log_p, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("T", [2, 5, 10])
def test_paper_form_passes_gradients(T: int) -> None:
    """The chain gives a_0 and eps_phi gradients; a_1 from a fresh noise would give none."""
    sde = in_double(T)
    a_0, eps_phi, a_T = (normal(32, 3, seed=seed) for seed in range(3))
    a_0.requires_grad_()
    eps_phi.requires_grad_()
    of_a_0, of_eps = torch.autograd.grad(entropy.paper(sde, a_0, eps_phi, a_T).sum(), [a_0, eps_phi])
    assert of_eps.abs().mean() > 0.1
    # The policy's prediction moves both: a_0^ = (a_t - std_t eps_phi) / decay_t.
    step = T - 1
    together = of_eps - of_a_0 * sde.std[step] / sde.decay[step]
    assert together.abs().mean() > 0.1
    fresh = a_0 + 0 * eps_phi
    gradient_of_fresh = torch.autograd.grad(entropy.paper(sde, fresh, eps_phi.detach(), a_T).sum(), a_0)[0]
    assert gradient_of_fresh.abs().mean() < 0.05 * of_eps.abs().mean()


@pytest.mark.parametrize("T", [3, 5, 10])
def test_released_form_is_a_constant_plus_the_actions_norm(T: int) -> None:
    """H = c(a_T) + k |a_0|^2 + (a cross term with a_T that is small), k > 0: a bonus on large actions."""
    sde = in_double(T)
    a_0, a_T = normal(64, 3), normal(64, 3, seed=1)
    nothing = torch.zeros_like(a_0)
    at_zero = entropy.released(sde, nothing, a_T)
    gain = entropy.released(sde, a_0, a_T) - at_zero
    k = (entropy.released(sde, torch.ones_like(a_0), nothing) - entropy.released(sde, nothing, nothing))[0] / 3
    assert k > 0
    norms = (a_0**2).sum(-1)
    cross = gain - k * norms
    # What is left is linear in a_0 and in a_T: their product, and nothing else.
    twice = entropy.released(sde, 2 * a_0, a_T) - at_zero - 4 * k * norms
    torch.testing.assert_close(twice, 2 * cross)
    other = entropy.released(sde, a_0, -a_T) - entropy.released(sde, nothing, -a_T) - k * norms
    torch.testing.assert_close(other, -cross)
    assert cross.abs().mean() < 0.15 * (k * norms).mean()
