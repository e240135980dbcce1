"""Weights of a pack of runs as one flat tensor with a name for every part."""

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor


class Weights:
    """Named tensors [R, *shape] that are views of one flat tensor [R, P], so that updates touch memory once."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], runs: int, device: torch.device | str) -> None:
        self.shapes = dict(shapes)
        self.flat = torch.zeros(runs, sum(math.prod(shape) for shape in shapes.values()), device=device)
        """[R, P]"""
        self.named = dict(self.views(self.flat))
        self.of_run = [{name: tensor[run] for name, tensor in self.named.items()} for run in range(runs)]
        """The tensors [*shape] of each run."""

    def views(self, flat: Tensor) -> Iterator[tuple[str, Tensor]]:
        """The named parts [R, *shape] of a tensor that is laid out as `flat`."""
        start = 0
        for name, shape in self.shapes.items():
            size = math.prod(shape)
            yield name, flat[:, start : start + size].view(flat.shape[0], *shape)
            start += size

    def __getitem__(self, name: str) -> Tensor:
        return self.named[name]

    def require_grad(self, required: bool) -> None:
        """Whether graphs are kept for these weights."""
        for tensor in self.named.values():
            tensor.requires_grad_(required)

    def gradient(self, loss: Tensor) -> Tensor:
        """d loss / d flat, [R, P]. The weights must require gradients."""
        gradients = torch.autograd.grad(loss, list(self.named.values()))
        return torch.cat([gradient.reshape(self.flat.shape[0], -1) for gradient in gradients], dim=1)
