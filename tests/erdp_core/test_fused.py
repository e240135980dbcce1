"""The fused passes are what their names say, compiled and not."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from erdp_core import fused, optimiser

EXTREMES = [-1e4, -100.0, -50, -20, -1, -1e-4, 0, 1e-4, 1, 20, 50, 100.0, 1e4]


@pytest.fixture(params=["compiled", "without a compiler"])
def compiler(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "compiled":
        if not fused.can_compile():
            pytest.skip("there is no C++ compiler")
        return

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("nothing may be compiled")

    monkeypatch.setattr(fused, "can_compile", lambda: False)
    monkeypatch.setattr("torch._inductor.standalone_compile", refuse)
    for one in (
        fused.mish_of_sum_,
        fused.mish_and_slope_,
        fused.last_layer_back_,
        optimiser.adam_,
        optimiser.adam_followed_,
    ):
        monkeypatch.setattr(one, "_compiled", {})


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 7, 5), (2, 3, 16), (3, 256, 128), (2, 0, 3)])
def test_mish_and_its_slope_are_those_of_torch(shape: tuple[int, int, int]) -> None:
    sums, bias = 5 * normal(*shape), normal(shape[0], 1, shape[2], seed=1)
    x = (sums + bias).requires_grad_()
    expected = F.mish(x)
    in_place = sums.clone()
    fused.mish_of_sum_(in_place, bias)
    torch.testing.assert_close(in_place, expected.detach())
    slope, value = sums.clone(), torch.empty_like(sums)
    fused.mish_and_slope_(slope, bias, value)
    torch.testing.assert_close(value, expected.detach())
    torch.testing.assert_close(slope, torch.autograd.grad(expected.sum(), x)[0], rtol=1e-5, atol=2e-6)


@pytest.mark.usefixtures("compiler")
def test_the_slope_is_as_exact_as_torchs() -> None:
    """Gradients that all but cancel show every bit of it."""
    x = 4 * normal(1, 64, 1024)
    of_torch, exact = (
        torch.autograd.grad(F.mish(one).sum(), one)[0].double()
        for one in (x.clone().requires_grad_(), x.double().requires_grad_())
    )
    slope = x.clone()
    fused.mish_and_slope_(slope, torch.zeros(1, 1, 1024), torch.empty_like(x))
    assert (slope - exact).square().mean() <= (of_torch - exact).square().mean()
    assert (slope - exact).abs().max() < 3e-7


@pytest.mark.usefixtures("compiler")
def test_extremes_neither_overflow_nor_lose_their_slope() -> None:
    x = torch.tensor(EXTREMES).view(1, 1, -1)
    exact = x.double().requires_grad_()
    expected = F.mish(exact)
    slope, value = x.clone(), torch.empty_like(x)
    fused.mish_and_slope_(slope, torch.zeros_like(x), value)
    torch.testing.assert_close(value, expected.float(), rtol=1e-5, atol=1e-30)
    assert slope.isfinite().all()
    torch.testing.assert_close(slope, torch.autograd.grad(expected.sum(), exact)[0].float(), rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_last_layer(precision: torch.dtype) -> None:
    hidden, weight, bias = normal(2, 5, 40).to(precision), normal(2, 1, 40, seed=1), normal(2, 1, 1, seed=2)
    output = torch.empty(2, 5, 1)
    fused.last_layer_(hidden, weight, bias, output)
    torch.testing.assert_close(output, hidden.float() @ weight.transpose(1, 2) + bias, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("compiler")
def test_last_layer_back() -> None:
    slope, of_output, weight = normal(2, 5, 4), normal(2, 5, 1, seed=1), normal(2, 1, 4, seed=2)
    of_layer = torch.empty(2, 5, 4)
    fused.last_layer_back_(slope, of_output, weight, of_layer)
    torch.testing.assert_close(of_layer, slope * (of_output @ weight))


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("size", [1, 1000])
def test_adam_followed_is_adam_and_a_step_towards_it(size: int) -> None:
    numbers = [torch.tensor(0.5), torch.tensor(0.1), torch.tensor(2.0)]
    alone = [normal(size), normal(size, seed=1), normal(size, seed=2).square(), normal(size, seed=3)]
    followed = [tensor.clone() for tensor in alone]
    follower = normal(size, seed=4)
    expected = follower.clone()
    optimiser.adam_(*alone, *numbers)
    optimiser.adam_followed_(follower, torch.tensor(0.25), *followed, *numbers)
    for one, other in zip(alone, followed, strict=True):
        assert torch.equal(one, other)
    torch.testing.assert_close(follower, 0.75 * expected + 0.25 * alone[0])


def test_what_is_not_contiguous_is_refused() -> None:
    """Compiled, it would be read wrongly."""
    if not fused.can_compile():
        pytest.skip("there is no C++ compiler")
    with pytest.raises(AssertionError, match="stride"):
        fused.mish_of_sum_(normal(2, 5, 8).transpose(1, 2), normal(2, 1, 5))


def test_the_compiler_is_looked_for_by_its_names(monkeypatch: pytest.MonkeyPatch) -> None:
    for present, asked, found in (
        ("g++", "", True),
        ("clang++", "", True),
        ("my-c++", "my-c++", True),
        ("cc", "", False),
    ):
        monkeypatch.setattr("shutil.which", {present: present}.get)
        monkeypatch.setenv("CXX", asked) if asked else monkeypatch.delenv("CXX", raising=False)
        looked: Callable[[], bool] = fused.can_compile.__wrapped__
        assert looked() == found
