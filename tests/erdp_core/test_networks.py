"""Networks of a pack against plain loops: one member, one run, concatenated inputs at a time."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from erdp_core.ensemble import CriticEnsemble, lower_confidence_bound
from erdp_core.networks import NoiseNetwork
from erdp_core.weights import Weights
from erdp_core.whole import WholeNetworks

RUNS, BATCH, O, A, T, M, WIDTH = 2, 5, 4, 3, 6, 3, 16


@pytest.fixture(autouse=True, params=["whole", "layer by layer"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "layer by layer":
        monkeypatch.setattr(WholeNetworks, "suit", lambda self, weights: False)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def filled(shapes: dict[str, tuple[int, ...]]) -> Weights:
    weights = Weights(shapes, RUNS, "cpu")
    weights.flat.copy_(0.4 * normal(*weights.flat.shape, seed=1))
    return weights


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.linear(x, weight.T, bias)


def plain_eps_phi(weights: Weights, run: int, layers: int, a_t: Tensor, t: int, state: Tensor) -> Tensor:
    """eps_phi of one row, as Linear layers on [a_t, embedding of t, s]."""
    half = 8
    angles = [(t - 1) / 10000 ** (index / (half - 1)) for index in range(half)]
    embedding = torch.tensor([*map(math.sin, angles), *map(math.cos, angles)])
    embedding = F.mish(linear(embedding, weights["time_weight_1"][run], weights["time_bias_1"][run]))
    embedding = linear(embedding, weights["time_weight_2"][run], weights["time_bias_2"][run])
    hidden = torch.cat([a_t, embedding, state])
    for layer in range(1, layers + 1):
        hidden = F.mish(linear(hidden, weights[f"weight_{layer}"][run], weights[f"bias_{layer}"][run]))
    return linear(hidden, weights[f"weight_{layers + 1}"][run], weights[f"bias_{layers + 1}"][run])


@pytest.mark.parametrize("layers", [1, 3])
def test_eps_phi_equals_a_plain_loop(layers: int) -> None:
    network = NoiseNetwork(O, A, T, WIDTH, layers)
    weights = filled(network.shapes)
    states, a_t = normal(RUNS, BATCH, O), normal(RUNS, BATCH, A, seed=2)
    t = torch.tensor([[1, 2, T, 3, 1], [T, T, 4, 5, 2]])
    ours = network.eps_phi(weights, a_t, t, states)
    for run in range(RUNS):
        for row in range(BATCH):
            plain = plain_eps_phi(weights, run, layers, a_t[run, row], int(t[run, row]), states[run, row])
            torch.testing.assert_close(ours[run, row], plain, rtol=1e-4, atol=1e-5)
    at_one_time = network.sampler(weights, states, 1)(a_t, 3)
    plain = plain_eps_phi(weights, 1, layers, a_t[1, 4], 3, states[1, 4])
    torch.testing.assert_close(at_one_time[1, 4], plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("members", [1, M])
@pytest.mark.parametrize("candidates", [1, 4])
def test_q_equals_a_plain_loop(layers: int, members: int, candidates: int) -> None:
    ensemble = CriticEnsemble(O, A, members, WIDTH, layers)
    weights = filled(ensemble.shapes)
    states, actions = normal(RUNS, BATCH, O), normal(RUNS, BATCH * candidates, A, seed=2)
    ours = ensemble.q(weights, states, actions)
    assert ours.shape == (RUNS, members, BATCH * candidates)
    for run in range(RUNS):
        for member in range(members):
            for row in range(BATCH * candidates):
                hidden = torch.cat([states[run, row // candidates], actions[run, row]])
                for layer in range(1, layers + 2):
                    weight, bias = weights[f"weight_{layer}"], weights[f"bias_{layer}"]
                    hidden = linear(hidden, weight[run, member], bias[run, member, 0])
                    hidden = F.mish(hidden) if layer <= layers else hidden
                torch.testing.assert_close(ours[run, member, row], hidden[0], rtol=1e-4, atol=1e-5)


def test_gradients_equal_those_of_the_plain_loop() -> None:
    network = NoiseNetwork(O, A, T, WIDTH, 2)
    weights = filled(network.shapes)
    weights.require_grad(True)
    states, a_t, t = normal(RUNS, BATCH, O), normal(RUNS, BATCH, A, seed=2), 4
    ours = weights.gradient((network.eps_phi(weights, a_t, torch.full((RUNS, BATCH), t), states) ** 2).sum())
    plain = torch.stack(
        [
            (plain_eps_phi(weights, run, 2, a_t[run, row], t, states[run, row]) ** 2).sum()
            for run in range(RUNS)
            for row in range(BATCH)
        ]
    )
    torch.testing.assert_close(ours, weights.gradient(plain.sum()), rtol=1e-3, atol=1e-3)
    assert ours.shape == weights.flat.shape


def test_noise_network_starts_as_torch_linear_does() -> None:
    """Uniform in +-1/sqrt(inputs), biases too."""
    network = NoiseNetwork(20, A, T, 128, 3)
    weights = Weights(network.shapes, 1, "cpu")
    network.initialise(weights.of_run[0], torch.Generator().manual_seed(0))
    inputs = {"time_1": 16, "time_2": 32, "1": A + 16 + 20, "2": 128, "3": 128, "4": 128}
    for layer, size in inputs.items():
        prefix, _, number = layer.rpartition("_")
        for kind in ("weight", "bias"):
            name = "_".join(filter(None, [prefix, kind, number]))
            reach = weights[name].abs().max().item() * math.sqrt(size)
            assert 0.4 < reach <= 1.0 + 1e-6, name
            if weights[name].numel() > 500:
                assert reach > 0.98, name
                assert abs(weights[name].mean().item()) * math.sqrt(size) < 0.1


def test_critics_start_as_published() -> None:
    ensemble = CriticEnsemble(30, A, 8, 64, 3)
    weights = Weights(ensemble.shapes, 1, "cpu")
    ensemble.initialise(weights.of_run[0], torch.Generator().manual_seed(0))
    for layer in (1, 2, 3):
        # Whatever the layer's own input width.
        assert weights[f"weight_{layer}"].abs().max().item() == pytest.approx(1 / 8, rel=0.01)
        assert weights[f"weight_{layer}"].std().item() == pytest.approx(1 / 8 / math.sqrt(3), rel=0.05)
        assert (weights[f"bias_{layer}"] == 0.1).all()
    assert 2e-3 < weights["weight_4"].abs().max() <= 3e-3
    assert 0 < weights["bias_4"].abs().max() <= 3e-3
    first, second = weights["weight_2"][0, 0], weights["weight_2"][0, 1]
    assert not torch.equal(first, second), "members of an ensemble must differ"


def test_lcb_equals_numpy() -> None:
    q, beta = normal(RUNS, 7, BATCH), torch.tensor([0.0, 4.0])
    ours = lower_confidence_bound(q, beta).numpy()
    values = q.double().numpy()
    for run in range(RUNS):
        expected = values[run].mean(axis=0) - float(beta[run]) * values[run].std(axis=0, ddof=1)
        np.testing.assert_allclose(ours[run], expected, rtol=1e-5, atol=1e-6)


def test_lcb_of_one_member_is_its_value() -> None:
    q = normal(RUNS, 1, BATCH).requires_grad_()
    lcb = lower_confidence_bound(q, torch.tensor([0.0, 4.0]))
    assert torch.equal(lcb, q[:, 0])
    assert torch.autograd.grad(lcb.sum(), q)[0].eq(1).all()


def test_lcb_has_a_finite_gradient_where_members_agree() -> None:
    q = torch.full((1, 4, 3), 0.7, requires_grad=True)
    lcb = lower_confidence_bound(q, torch.tensor([4.0]))
    torch.testing.assert_close(lcb, torch.full((1, 3), 0.7), atol=1e-5, rtol=0)
    gradient = torch.autograd.grad(lcb.sum(), q)[0]
    torch.testing.assert_close(gradient, torch.full((1, 4, 3), 0.25))
