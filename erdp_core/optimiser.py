"""Adam on a flat tensor [R, P], with a gradient norm limit and a learning rate for each run."""

import torch
from torch import Tensor

from erdp_core.fused import Fused

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8


def _adam_(
    weights: Tensor,
    first: Tensor,
    second: Tensor,
    gradient: Tensor,
    clip: Tensor,
    step_size: Tensor,
    correction: Tensor,
) -> Tensor:
    clipped = gradient * clip
    new_first = first + (clipped - first) * (1 - BETA_1)
    new_second = second * BETA_2 + clipped * clipped * (1 - BETA_2)
    first.copy_(new_first)
    second.copy_(new_second)
    return weights.copy_(weights - step_size * new_first / ((new_second * correction).sqrt() + EPSILON))


def _adam_followed_(follower: Tensor, tau: Tensor, *adam: Tensor) -> Tensor:
    return follower.copy_(follower + tau * (_adam_(*adam) - follower))


adam_ = Fused(_adam_, *4 * ["p"], *3 * [""])
"""Weights, two moments, gradient; factor on it, step size, correction of moment 2."""
adam_followed_ = Fused(_adam_followed_, "p", "", *4 * ["p"], *3 * [""])
"""What follows the weights, and by which fraction; then the same."""


class Adam:
    """Adam for the weights of a pack; gradients are clipped per run first. Nothing waits for the device."""

    def __init__(self, flat: Tensor, learning_rate: Tensor, grad_norm: Tensor) -> None:
        """`flat` [R, P] is updated in place; `learning_rate` and `grad_norm` are [R], a norm of 0 meaning no limit."""
        self.flat = flat
        self.first_moment = torch.zeros_like(flat)
        self.second_moment = torch.zeros_like(flat)
        self.learning_rate = learning_rate
        self.grad_norm = torch.where(grad_norm > 0, grad_norm, torch.inf)

    @torch.no_grad()
    def step(
        self,
        gradient: Tensor,
        count: Tensor,
        scale: Tensor,
        follower: Tensor | None = None,
        tau: Tensor | None = None,
        norm: Tensor | None = None,
        active: Tensor | None = None,
    ) -> Tensor:
        """One update; returns the norms [R] before clipping.

        Args:
            gradient: [R, P].
            count: updates including this one, a whole number.
            scale: factor on the learning rate (its decay), a number.
            follower: [R, P], goes by the fraction `tau` [R] from where it is to the new weights.
            norm: of the gradient, [R], where it is known.
            active: whether anything is to change, a truth value; None: yes.
        """
        changed = (self.flat.detach(), self.first_moment, self.second_moment)
        before = None if active is None else [tensor.clone() for tensor in changed]
        if norm is None:
            norm = torch.linalg.vector_norm(gradient, dim=1)
        clip = (self.grad_norm / (norm + 1e-6)).clamp(max=1.0)
        # The corrections for moments that began at 0; in double precision, as they are next to 0 and 1.
        exact = count.double()
        step_size = self.learning_rate * (scale / (1 - BETA_1**exact)).float()
        correction = (1 / (1 - BETA_2**exact)).float()
        for run, weights in enumerate(self.flat.detach()):
            moments = self.first_moment[run], self.second_moment[run]
            adam = weights, *moments, gradient[run], clip[run], step_size[run], correction
            if follower is None or tau is None:
                adam_(*adam)
            else:
                adam_followed_(follower[run], tau[run], *adam)
        if before is not None and active is not None:
            for tensor, old in zip(changed, before, strict=True):
                tensor.copy_(torch.where(active, tensor, old))
        return norm
