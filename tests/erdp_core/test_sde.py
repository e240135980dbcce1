"""The SDE against the published numbers, against simulation and against Bayes' rule; its sampler against known data."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from erdp_core.algorithms import Batch, make_algorithm, stream
from erdp_core.sde import MeanRevertingSDE
from tests.small import small_config

REFERENCE = np.load(Path(__file__).parents[1] / "reference" / "sde_reference.npz")


@pytest.mark.parametrize("T", [1, 2, 3, 5, 10, 50, 100])
def test_coefficients_equal_the_published_ones(T: int) -> None:
    sde = MeanRevertingSDE(T)
    assert sde.dt == pytest.approx(float(REFERENCE[f"T{T}/dt"]), rel=1e-6)
    for ours, theirs in (
        (sde.theta, "theta"),
        (sde.theta_bar, "theta_bar"),
        (sde.std**2, "marginal_var"),
        (sde.posterior_std**2, "posterior_var"),
    ):
        np.testing.assert_allclose(ours[1:], REFERENCE[f"T{T}/{theirs}"], rtol=2e-5, atol=1e-6, err_msg=theirs)
    assert sde.theta_bar[0] == 0
    assert sde.std[0] == 0
    assert sde.decay[0] == 1
    assert sde.decay[T].item() == pytest.approx(1e-3, rel=1e-4)


@pytest.mark.parametrize("T", [5, 10])
def test_formulas_equal_the_published_ones(T: int) -> None:
    sde = MeanRevertingSDE(T)
    a_0, eps, eps_phi = (torch.from_numpy(REFERENCE[f"T{T}/{name}"]) for name in ("x0", "eps", "pred"))
    t = torch.from_numpy(REFERENCE[f"T{T}/t_zero_based"][:, 0]) + 1

    def assert_equal(ours: Tensor, name: str) -> None:
        np.testing.assert_allclose(ours, REFERENCE[f"T{T}/{name}"], rtol=2e-4, atol=2e-5, err_msg=name)

    a_t = sde.diffuse(a_0, t, eps)
    assert_equal(a_t, "x_t")
    assert_equal(sde.a_0_from_noise(a_t, t, eps), "x0_from_eps")
    assert_equal(sde.posterior_mean(a_t, t, a_0), "posterior_mean")
    for kind in ("noise", "likelihood"):
        each = sde.likelihood_loss(a_0, a_t, t, eps_phi) if kind == "likelihood" else (eps_phi - eps) ** 2
        loss = each.mean().item()
        assert loss == pytest.approx(float(REFERENCE[f"T{T}/{kind}_loss"]), rel=2e-5)


def test_no_fewer_steps_than_one() -> None:
    with pytest.raises(ValueError, match="at least 1, got 0"):
        MeanRevertingSDE(0)


@pytest.mark.parametrize("T", [1, 2, 5, 20])
def test_marginal_equals_the_chain_step_by_step(T: int) -> None:
    """a_t = a_{t-1} e^{-theta_t dt} + sqrt(1 - e^{-2 theta_t dt}) z, simulated."""
    sde, count, a_0 = MeanRevertingSDE(T), 200_000, 0.8
    random = np.random.default_rng(0)
    a = np.full(count, a_0)
    for t in range(1, T + 1):
        decay = math.exp(-float(sde.theta[t]) * sde.dt)
        a = a * decay + math.sqrt(1 - decay**2) * random.normal(size=count)
        std = float(sde.std[t])
        assert a.mean() == pytest.approx(a_0 * float(sde.decay[t]), abs=5 * std / math.sqrt(count))
        assert a.std() == pytest.approx(std, rel=5 / math.sqrt(2 * count))


@pytest.mark.parametrize("T", [1, 2, 5, 10, 50])
def test_posterior_equals_bayes_rule(T: int) -> None:
    """p(a_{t-1} | a_t, a_0) ~ p(a_t | a_{t-1}) p(a_{t-1} | a_0): precisions add up."""
    sde, a_0, a_t = MeanRevertingSDE(T), 0.7, -1.3
    for t in range(1, T + 1):
        step = math.exp(-float(sde.theta[t]) * sde.dt)
        prior_mean = a_0 * math.exp(-float(sde.theta_bar[t - 1]))
        prior_variance = 1 - math.exp(-2 * float(sde.theta_bar[t - 1]))
        if t == 1:
            mean, variance = a_0, 0.0
        else:
            precision = 1 / prior_variance + step**2 / (1 - step**2)
            variance = 1 / precision
            mean = variance * (prior_mean / prior_variance + step * a_t / (1 - step**2))
        time = torch.tensor([t])
        ours = sde.posterior_mean(torch.tensor([[a_t]]), time, torch.tensor([[a_0]])).item()
        assert ours == pytest.approx(mean, rel=1e-4, abs=1e-5), t
        assert sde.posterior_std[t].item() == pytest.approx(math.sqrt(variance), rel=1e-3, abs=1e-5), t


@pytest.mark.parametrize("action_clip", [False, True])
@pytest.mark.parametrize("T", [1, 2, 5, 50])
def test_exact_noise_of_a_point_leads_to_the_point(T: int, action_clip: bool) -> None:
    sde, point = MeanRevertingSDE(T), torch.tensor([0.6, -0.9])

    def exact(a_t: Tensor, t: int) -> Tensor:
        return (a_t - sde.decay[t] * point) / sde.std[t]

    noise = torch.randn(T, 50, 2, generator=torch.Generator().manual_seed(0))
    sampled = sde.sample(exact, noise, action_clip)
    torch.testing.assert_close(sampled, point.expand(50, 2), atol=2e-3, rtol=0)


def test_the_likelihood_loss_vanishes_where_the_reverse_step_is_the_posterior() -> None:
    """The noise that makes the Euler step hit the posterior mean has loss 0; with fine T the true noise nearly so."""
    sde = MeanRevertingSDE(100)
    generator = torch.Generator().manual_seed(0)
    a_0, eps = (torch.randn(64, 2, generator=generator) for _ in range(2))
    t = torch.randint(2, 101, (64,), generator=generator)
    a_t = sde.diffuse(a_0, t, eps)
    theta_dt = (sde.theta[t] * sde.dt).unsqueeze(-1)
    hitting = (a_t * (1 + theta_dt) - sde.posterior_mean(a_t, t, a_0)) * sde.std[t].unsqueeze(-1) / (2 * theta_dt)
    assert sde.likelihood_loss(a_0, a_t, t, hitting).max() < 1e-9
    true = sde.likelihood_loss(a_0, a_t, t, eps)
    off = sde.likelihood_loss(a_0, a_t, t, eps + 1)
    assert true.mean() < 0.02 * off.mean()


# Actions of one dimension: 30% around -0.5, 70% around 0.6.
WEIGHTS, MODES, SPREAD = (0.3, 0.7), (-0.5, 0.6), 0.05


def assert_two_modes(actions: Tensor, weight: float, place: float, between: float) -> None:
    """Both modes, with their weights, and not their mean; the arguments are what is tolerated."""
    left, right = actions[actions < 0.05], actions[actions >= 0.05]
    assert len(left) / len(actions) == pytest.approx(WEIGHTS[0], abs=weight)
    for side, mode in zip((left, right), MODES, strict=True):
        densest = torch.linspace(-1, 1, 41)[torch.histc(side, 41, -1.025, 1.025).argmax()]
        assert densest.item() == pytest.approx(mode, abs=place)
    assert ((actions > -0.2) & (actions < 0.3)).float().mean().item() < between


@pytest.mark.parametrize("kind", ["noise", "likelihood"])
def test_each_losss_exact_minimiser_samples_the_data(kind: str) -> None:
    """E[a_0 | a_t] of a mixture is known (Bayes), and with it the prediction that minimises each loss."""
    sde = MeanRevertingSDE(20)

    def expected_a_0(a_t: Tensor, t: int) -> Tensor:
        decay, variance = sde.decay[t], (sde.decay[t] * SPREAD) ** 2 + sde.std[t] ** 2
        log_shares = torch.stack(
            [
                math.log(weight) - 0.5 * (a_t - decay * mode) ** 2 / variance
                for weight, mode in zip(WEIGHTS, MODES, strict=True)
            ]
        )
        within = [mode + SPREAD**2 * decay / variance * (a_t - decay * mode) for mode in MODES]
        return (log_shares.softmax(0) * torch.stack(within)).sum(0)

    def minimiser(a_t: Tensor, t: int) -> Tensor:
        a_0 = expected_a_0(a_t, t)
        if kind == "noise":
            return (a_t - sde.decay[t] * a_0) / sde.std[t]
        theta_dt = sde.theta[t] * sde.dt
        mean = sde.posterior_mean(a_t, torch.tensor([t]), a_0)
        return (a_t * (1 + theta_dt) - mean) * sde.std[t] / (2 * theta_dt)

    noise = torch.randn(20, 10_000, 1, generator=torch.Generator().manual_seed(0))
    assert_two_modes(sde.sample(minimiser, noise, action_clip=False), weight=0.02, place=0.051, between=0.01)


# The likelihood loss weighs early times little, and takes longer.
@pytest.mark.parametrize(("kind", "layers", "steps"), [("noise", 2, 1500), ("likelihood", 3, 4000)])
def test_a_trained_chain_recovers_two_modes_and_their_weights(kind: str, layers: int, steps: int) -> None:
    batch = 256
    config = small_config(
        "agent.width=48",
        f"agent.layers={layers}",
        f"agent.batch_size={batch}",
        "agent.T=10",
        "agent.actor_lr=0.01",
        "agent.lr_decay=cosine",
        f"agent.diffusion_loss={kind}",
        f"trainer.steps={steps}",
        f"trainer.interval={steps}",
        method="bc-diffusion",
    )
    learner = make_algorithm([config], [0], 1, 1)
    generator = stream("cpu", 0, "mixture")
    states, nothing = torch.zeros(1, batch, 1), torch.zeros(1, batch)
    for _ in range(steps // 100):
        draws = learner.draw_noise(generator, 100)
        for step in range(100):
            modes = torch.where(torch.rand(1, batch, 1, generator=generator) < WEIGHTS[0], *MODES)
            actions = modes + SPREAD * torch.randn(1, batch, 1, generator=generator)
            noise = {name: draw[step].unsqueeze(0) for name, draw in draws.items()}
            learner.update(Batch(states, actions, states, nothing, nothing), noise)
    chain = learner.draw_acting_noise(generator, 4000, 1)["chain"].unsqueeze(0)
    actions = learner.act(torch.zeros(1, 4000, 1), {"chain": chain}).flatten()
    assert_two_modes(actions, weight=0.08, place=0.12, between=0.2)
