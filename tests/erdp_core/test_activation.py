"""Mish, fast, is Mish."""

import pytest
import torch
import torch.nn.functional as F

from erdp_core import activation


@pytest.fixture(params=["compiled", "without a compiler"])
def compiler(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "compiled":
        if not activation.can_compile():
            pytest.skip("there is no C++ compiler")
        return

    def refuse(x: torch.Tensor) -> torch.Tensor:
        raise AssertionError("nothing may be compiled")

    monkeypatch.setattr(activation, "can_compile", lambda: False)
    monkeypatch.setattr(activation, "_compiled", refuse)


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("shape", [(1,), (7,), (2, 3, 5), (2, 0, 3)])
def test_values_and_gradients_are_those_of_torch(shape: tuple[int, ...]) -> None:
    x = (5 * torch.randn(shape, generator=torch.Generator().manual_seed(0))).requires_grad_()
    ours, theirs = activation.mish(x), F.mish(x)
    torch.testing.assert_close(ours, theirs)
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    gradients = (torch.autograd.grad((weight * y).sum(), x)[0] for y in (ours, theirs))
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=2e-6)


@pytest.mark.usefixtures("compiler")
def test_extremes_neither_overflow_nor_lose_their_gradient() -> None:
    x = torch.tensor([-1e4, -100.0, -50, -20, -1, -1e-4, 0, 1e-4, 1, 20, 50, 100.0, 1e4], requires_grad=True)
    exact = x.detach().double().requires_grad_()
    ours, theirs = activation.mish(x), F.mish(exact)
    torch.testing.assert_close(ours, theirs.float(), rtol=1e-5, atol=1e-30)
    gradient, expected = torch.autograd.grad(ours.sum(), x)[0], torch.autograd.grad(theirs.sum(), exact)[0]
    assert gradient.isfinite().all()
    torch.testing.assert_close(gradient, expected.float(), rtol=1e-5, atol=1e-6)


def test_the_compiler_is_looked_for_by_its_names(monkeypatch: pytest.MonkeyPatch) -> None:
    for present, asked, found in (
        ("g++", "", True),
        ("clang++", "", True),
        ("my-c++", "my-c++", True),
        ("cc", "", False),
    ):
        monkeypatch.setattr("shutil.which", {present: present}.get)
        monkeypatch.setenv("CXX", asked) if asked else monkeypatch.delenv("CXX", raising=False)
        assert activation.can_compile.__wrapped__() == found
