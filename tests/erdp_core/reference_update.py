"""Whole updates of the published implementations: their first weights, and how far from them ours may come."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from erdp_core.algorithms import Batch

ACTOR_NAMES = [
    "time_weight_1",
    "time_bias_1",
    "time_weight_2",
    "time_bias_2",
    *(f"{kind}_{layer}" for layer in range(1, 5) for kind in ("weight", "bias")),
]
LEARNING_RATE = 3e-4
ENTRIES = 48
"""Of each tensor that the reference holds."""

Tensors = list[Tensor]
"""Of one run, in the reference's order, laid out as there: torch's linear layers are [out, in]."""


def transposed(tensors: Mapping[str, Tensor], names: list[str]) -> Tensors:
    """Those of a network of linear layers."""
    return [tensors[name].T if "weight" in name else tensors[name] for name in names]


@torch.no_grad()
def fill(tensors: Tensors, scale: float) -> None:
    """The reference's first weights: scale * sin(0.37 i + 1.3 k) for flat index i of tensor k."""
    for k, tensor in enumerate(tensors):
        values = scale * np.sin(0.37 * np.arange(tensor.numel()) + 1.3 * k)
        tensor.copy_(torch.from_numpy(values.astype(np.float32)).view(tensor.shape))


def first_entries(tensor: Tensor) -> np.ndarray:
    return tensor.detach().reshape(-1)[:ENTRIES].numpy()


def tolerances(second_moments: Tensors) -> list[np.ndarray]:
    """How far the first entries of each tensor may be from the reference's, after the first update.

    1e-6, and how far Adam's first step, lr g / (|g| + 1e-8), carries what rounding leaves of a gradient: where sums of
    large terms all but cancel, g is as small as 1e-8 and so is what the order of the sum leaves. That is 1e-5 of the
    tensor's largest gradient at most: the reference's own entries are as far from double precision. Few are so.
    """
    found = []
    for second in second_moments:
        gradient = (1000 * second).sqrt()
        left = 1.5e-5 * gradient.max()
        steps = LEARNING_RATE * (1e-8 * left / (gradient.reshape(-1)[:ENTRIES] + 1e-8) ** 2).clamp(max=1)
        found.append(1e-6 + steps.numpy())
    assert (np.concatenate(found) > 2e-6).mean() < 0.02
    return found


def assert_close(tensors: Tensors, reference: Mapping[str, np.ndarray], key: str, allowed: list[np.ndarray]) -> None:
    for k, (tensor, tolerance) in enumerate(zip(tensors, allowed, strict=True)):
        distance = np.abs(first_entries(tensor) - reference[f"{key}/{k}"])
        assert (distance <= tolerance).all(), f"tensor {k} of {key}: {distance.max():.2g} from the reference"


def packed(array: np.ndarray, runs: int) -> Tensor:
    """The same for every run of a pack."""
    return torch.from_numpy(array).expand(runs, *array.shape)


def batch(reference: Mapping[str, np.ndarray], runs: int) -> Batch:
    return Batch(
        packed(reference["batch/state"], runs),
        packed(reference["batch/action"], runs),
        packed(reference["batch/next_state"], runs),
        packed(reference["batch/reward"][:, 0], runs),
        packed(1 - reference["batch/not_done"][:, 0], runs),
    )


def draws(reference: Mapping[str, np.ndarray], update: str) -> list[np.ndarray]:
    """What was random, in the order drawn."""
    return [reference[key] for key in sorted(reference) if key.startswith(f"{update}/draw")]
