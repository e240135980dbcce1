"""The fused passes are what their names say, compiled and not."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from erdp_core import fused, native, optimiser

EXTREMES = [-1e4, -100.0, -50, -20, -1, -1e-4, 0, 1e-4, 1, 20, 50, 100.0, 1e4]


PASSES = (
    fused.mish_of_sum_,
    fused.mish_and_slope_,
    fused.last_layer_,
    fused.last_layer_back_,
    optimiser.adam_,
    optimiser.adam_followed_,
)


@pytest.fixture(params=["compiled", "without a compiler"])
def compiler(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    for one in PASSES:
        monkeypatch.setattr(one, "_compiled", {})
    if request.param == "without a compiler":
        monkeypatch.setattr(native, "library", lambda: None)
    elif native.compiler() is None:
        pytest.skip("there is no C++ compiler")
    else:
        # Nothing falls back on what is to be compared with.
        for one in PASSES:
            monkeypatch.setattr(one, "_function", named(one._function.__name__))


def named(name: str) -> Callable[..., Tensor]:
    def refuse(*_: Tensor) -> Tensor:
        raise AssertionError(f"{name} was not compiled")

    refuse.__name__ = name
    return refuse


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


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 5, 7), (3, 40, 128)])
def test_half_as_exact_values_are_those_of_the_exact_ones_rounded(shape: tuple[int, int, int]) -> None:
    sums, bias = (5 * normal(*shape)).bfloat16(), normal(shape[0], 1, shape[2], seed=1)
    exact, slopes, values = sums.float(), sums.float(), torch.empty(shape)
    fused.mish_of_sum_(exact, bias)
    fused.mish_and_slope_(slopes, bias, values)
    ours, our_slopes, our_values = sums.clone(), sums.clone(), torch.empty(shape, dtype=torch.bfloat16)
    fused.mish_of_sum_(ours, bias)
    fused.mish_and_slope_(our_slopes, bias, our_values)
    for one, other in ((ours, exact), (our_values, values), (our_slopes, slopes)):
        # Where the exact value lies all but halfway between two, either will do.
        torch.testing.assert_close(one.float(), other, rtol=2**-8, atol=1e-30)
        assert (one == other.bfloat16()).float().mean() > 0.99
    back, of_output, weight = torch.empty_like(ours), normal(*shape[:2], 1), normal(shape[0], 1, shape[2])
    fused.last_layer_back_(our_slopes, of_output, weight, back)
    torch.testing.assert_close(back, (our_slopes.float() * (of_output * weight)).bfloat16(), rtol=2**-7, atol=1e-30)


@pytest.mark.usefixtures("compiler")
def test_what_is_not_finite_stays_so() -> None:
    for precision in (torch.float32, torch.bfloat16):
        x = torch.tensor([[[float("nan"), float("inf"), 1.0]]], dtype=precision)
        slope, value = x.clone(), torch.empty_like(x)
        fused.mish_and_slope_(slope, torch.zeros(1, 1, 3), value)
        fused.mish_of_sum_(x, torch.zeros(1, 1, 3))
        for found in (x, value):
            assert found.isnan().tolist() == [[[True, False, False]]]
            assert found.isinf().tolist() == [[[False, True, False]]]
        assert slope.isnan()[0, 0, 0]
        assert slope.isfinite()[0, 0, 2]


@pytest.mark.parametrize(
    ("x", "bias"),
    [
        (normal(2, 5, 8).transpose(1, 2), normal(2, 1, 5)),  # read as if it were contiguous
        (normal(2, 5, 8), normal(1, 1, 8)),  # read beyond its end
        (normal(2, 5, 8), normal(2, 1, 1)),
    ],
)
def test_what_would_be_read_wrongly_is_refused(x: Tensor, bias: Tensor) -> None:
    if native.compiler() is None:
        pytest.skip("there is no C++ compiler")
    with pytest.raises(ValueError, match="takes contiguous tensors of the shapes bnh, b1h, not"):
        fused.mish_of_sum_(x, bias)


def test_numbers_of_other_kinds_go_as_written() -> None:
    x, bias = normal(2, 5, 8).double(), normal(2, 1, 8).double()
    expected = F.mish(x + bias)
    fused.mish_of_sum_(x, bias)
    torch.testing.assert_close(x, expected, rtol=1e-6, atol=1e-6)
