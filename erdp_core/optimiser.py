"""Adam on a flat tensor [R, P], with a gradient norm limit and a learning rate for each run."""

import math

import torch
from torch import Tensor

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8


class Adam:
    """Adam (torch's defaults) for the weights of a pack; gradients are clipped per run first."""

    def __init__(self, flat: Tensor, learning_rate: Tensor, grad_norm: Tensor) -> None:
        """`flat` [R, P] is updated in place; `learning_rate` and `grad_norm` are [R], a norm of 0 meaning no limit."""
        self.flat = flat
        self.first_moment = torch.zeros_like(flat)
        self.second_moment = torch.zeros_like(flat)
        self.learning_rate = learning_rate
        self.grad_norm = torch.where(grad_norm > 0, grad_norm, torch.inf)

    @torch.no_grad()
    def step(self, gradient: Tensor, count: int, scale: float) -> Tensor:
        """One update; returns the norms [R] before clipping.

        Args:
            gradient: [R, P], overwritten.
            count: updates including this one.
            scale: factor on the learning rate (its decay).
        """
        norm: Tensor = torch.linalg.vector_norm(gradient, dim=1)
        gradient.mul_((self.grad_norm / (norm + 1e-6)).clamp(max=1.0).unsqueeze(1))
        self.first_moment.lerp_(gradient, 1 - BETA_1)
        self.second_moment.mul_(BETA_2).addcmul_(gradient, gradient, value=1 - BETA_2)
        denominator = (self.second_moment / (1 - math.pow(BETA_2, count))).sqrt_().add_(EPSILON)
        step_size = self.learning_rate.unsqueeze(1) * (scale / (1 - math.pow(BETA_1, count)))
        self.flat.sub_(step_size * self.first_moment / denominator)
        return norm
