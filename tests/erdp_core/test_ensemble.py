"""The ensemble's gradients by hand against autograd on plain products, whole or in whatever pieces it goes through."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from erdp_core import ensemble as ensemble_module
from erdp_core.ensemble import CriticEnsemble
from erdp_core.weights import Weights
from erdp_core.whole import WholeNetworks

RUNS, BATCH, O, A, M, WIDTH = 2, 5, 4, 3, 5, 16


@pytest.fixture(params=["whole", "one piece", "pieces of 2", "pieces of 1"])
def pieces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "whole":
        return
    monkeypatch.setattr(WholeNetworks, "suit", lambda self, weights: False)
    members = {"one piece": M, "pieces of 2": 2, "pieces of 1": 1}[request.param]
    monkeypatch.setattr(ensemble_module, "PIECE_BYTES", members * 4 * BATCH * WIDTH)
    monkeypatch.setattr(ensemble_module, "BLOCK_ROWS", 3 * members)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def filled(ensemble: CriticEnsemble) -> Weights:
    weights = Weights(ensemble.shapes, RUNS, "cpu")
    weights.flat.copy_(0.4 * normal(*weights.flat.shape, seed=1))
    return weights


def plain_q(ensemble: CriticEnsemble, weights: Weights, pairs: Tensor) -> Tensor:
    """Q [R, M, B] of [s, a] [R, B, O + A], for autograd."""
    hidden = pairs.unsqueeze(1)
    for layer in range(1, ensemble.layers + 2):
        hidden = hidden @ weights[f"weight_{layer}"] + weights[f"bias_{layer}"]
        if layer <= ensemble.layers:
            hidden = F.mish(hidden)
    return hidden.squeeze(3)


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_regression_gradient_is_that_of_the_loss(layers: int) -> None:
    ensemble = CriticEnsemble(O, A, M, WIDTH, layers)
    weights = filled(ensemble)
    states, actions, targets = normal(RUNS, BATCH, O), normal(RUNS, BATCH, A, seed=2), normal(RUNS, M, BATCH, seed=3)
    gradient = Weights(ensemble.shapes, RUNS, "cpu")
    gradient.flat.fill_(torch.nan)  # all of it is to be written
    q, norm = ensemble.regress(weights, states, actions, targets, gradient)

    weights.require_grad(True)
    expected_q = plain_q(ensemble, weights, torch.cat([states, actions], dim=2))
    expected = weights.gradient(((expected_q - targets) ** 2).mean(dim=(1, 2)).sum())
    torch.testing.assert_close(q, expected_q.detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(gradient.flat, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(norm, expected.norm(dim=1), rtol=1e-5, atol=0)


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_gradient_at_the_actions_is_autograds(layers: int) -> None:
    ensemble = CriticEnsemble(O, A, M, WIDTH, layers)
    weights = filled(ensemble)
    states, of_q = normal(RUNS, BATCH, O), normal(RUNS, M, BATCH, seed=3)
    actions = normal(RUNS, BATCH, A, seed=2).requires_grad_()
    q = ensemble.q_of_actions(weights, states, actions)
    expected_q = plain_q(ensemble, weights, torch.cat([states, actions], dim=2))
    torch.testing.assert_close(q, expected_q, rtol=1e-4, atol=1e-5)
    ours, expected = (torch.autograd.grad((of_q * value).sum(), actions)[0] for value in (q, expected_q))
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize("candidates", [1, 2, 7])
def test_q_of_blocks_is_that_of_the_whole(candidates: int) -> None:
    ensemble = CriticEnsemble(O, A, M, WIDTH, 3)
    weights = filled(ensemble)
    states, actions = normal(RUNS, BATCH, O), normal(RUNS, BATCH * candidates, A, seed=2)
    pairs = torch.cat([states.repeat_interleave(candidates, dim=1), actions], dim=2)
    torch.testing.assert_close(
        ensemble.q(weights, states, actions), plain_q(ensemble, weights, pairs), rtol=1e-4, atol=1e-5
    )


def test_a_gradient_whose_slopes_are_gone_is_refused() -> None:
    ensemble = CriticEnsemble(O, A, M, WIDTH, 2)
    weights = filled(ensemble)
    states, actions = normal(RUNS, BATCH, O), normal(RUNS, BATCH, A, seed=2).requires_grad_()
    q = ensemble.q_of_actions(weights, states, actions)
    ensemble.q_of_actions(weights, states, actions.detach())
    with pytest.raises(RuntimeError, match="after the next call"):
        torch.autograd.grad(q.sum(), actions)


@pytest.mark.parametrize("layers", [1, 3])
def test_bfloat16_is_float32_but_for_its_rounding(layers: int) -> None:
    """Directions of gradients within a hundredth; a value within a hundredth of the values' spread."""
    exact, rough = (CriticEnsemble(O, A, M, 64, layers, precision) for precision in (torch.float32, torch.bfloat16))
    weights = Weights(exact.shapes, RUNS, "cpu")
    for run in range(RUNS):
        exact.initialise(weights.of_run[run], torch.Generator().manual_seed(run))
    states, targets = normal(RUNS, 32, O), normal(RUNS, M, 32, seed=3)
    actions = normal(RUNS, 32, A, seed=2).requires_grad_()
    found: list[list[Tensor]] = []
    for ensemble in (exact, rough):
        gradient = Weights(ensemble.shapes, RUNS, "cpu")
        q, _ = ensemble.regress(weights, states, actions.detach(), targets, gradient)
        q_of_actions = ensemble.q_of_actions(weights, states, actions)
        of_actions = torch.autograd.grad((targets * q_of_actions).sum(), actions)[0]
        plain = ensemble.q(weights, states, actions.detach())
        assert {value.dtype for value in (q, q_of_actions, of_actions, plain, gradient.flat)} == {torch.float32}
        found.append([q, q_of_actions.detach(), plain, gradient.flat, of_actions])
    for one, other in zip(*found, strict=True):
        assert not torch.equal(one, other)
        assert (one - other).norm() < 0.01 * one.norm()
