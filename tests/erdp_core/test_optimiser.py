"""Adam for a pack against torch's own, run by run."""

import pytest
import torch

from erdp_core.optimiser import Adam

SIZE, STEPS = 12, 20


def gradients(run: int) -> list[torch.Tensor]:
    """Of very different norms, so that some are clipped and some are not; a coordinate without any gradient."""
    generator = torch.Generator().manual_seed(run)
    drawn = [10 ** (step % 5 - 3) * torch.randn(SIZE, generator=generator) for step in range(STEPS)]
    for gradient in drawn:
        gradient[0] = 0
    return drawn


def number(value: float) -> torch.Tensor:
    return torch.tensor(value)


def test_equals_torch_adam_with_clipping_run_by_run() -> None:
    rates, limits = [3e-4, 1e-2, 0.1, 3e-4], [4.0, 0.05, 0.0, 1e-3]
    scales = [1.0 if step < 10 else 0.3 for step in range(STEPS)]
    start = torch.randn(4, SIZE, generator=torch.Generator().manual_seed(99))
    flat = start.clone()
    ours = Adam(flat, torch.tensor(rates), torch.tensor(limits))
    norms = [
        ours.step(torch.stack([gradients(run)[step] for run in range(4)]), number(step + 1), number(scales[step]))
        for step in range(STEPS)
    ]
    for run, (rate, limit) in enumerate(zip(rates, limits, strict=True)):
        weights = torch.nn.Parameter(start[run].clone())
        theirs = torch.optim.Adam([weights], lr=rate)
        for step, gradient in enumerate(gradients(run)):
            weights.grad = gradient.clone()
            norm = torch.nn.utils.clip_grad_norm_([weights], limit if limit > 0 else torch.inf)
            assert norms[step][run].item() == pytest.approx(norm.item(), rel=1e-5)
            theirs.param_groups[0]["lr"] = rate * scales[step]
            theirs.step()
        torch.testing.assert_close(flat[run], weights.detach(), rtol=1e-5, atol=1e-7)
        assert flat[run, 0] == start[run, 0]


def test_no_limit_clips_nothing() -> None:
    ours = Adam(torch.zeros(1, 3), torch.tensor([0.1]), torch.tensor([0.0]))
    norm = ours.step(torch.tensor([[3e6, 4e6, 0.0]]), number(1), number(1.0))
    assert norm.item() == pytest.approx(5e6)
    torch.testing.assert_close(ours.first_moment, torch.tensor([[3e5, 4e5, 0.0]]))


def test_a_gradient_that_is_not_finite_stays_with_its_run() -> None:
    flat = torch.zeros(2, 3)
    ours = Adam(flat, torch.tensor([0.1, 0.1]), torch.tensor([1.0, 1.0]))
    ours.step(torch.tensor([[torch.inf, 1.0, 1.0], [1.0, 1.0, 1.0]]), number(1), number(1.0))
    assert flat[1].isfinite().all()
    assert not flat[0].isfinite().all()
