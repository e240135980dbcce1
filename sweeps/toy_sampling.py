"""What ERDP's optimal sampling is for (arXiv 2402.04080, Figures 2, 5 and 6): data brought back from noise, a_0 known.

With the true a_0 in place of a network's estimate the two ways back differ in nothing but their steps: one from the
posterior of Eq. 7, or an Euler step of the reverse SDE (Eq. 3). The data, a spiral, are ours.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from erdp_core.algorithms import stream
from erdp_core.sde import MeanRevertingSDE

STEPS = (1, 2, 5, 10, 30, 50, 100)
"""The last is ours."""
PICTURE_STEPS = 100
PICTURED = (0, 2, 5, 10, 25, 100)
"""Times t of Figure 5."""
POINTS = 2_000
TURNS, NOISE = 1.75, 0.02

Arrays = dict[str, npt.NDArray[np.float32]]


def spiral() -> Tensor:
    """Points [N, 2] within +-1."""
    random = np.random.default_rng(0)
    angle = 2 * np.pi * TURNS * np.sqrt(random.uniform(0.02, 1, POINTS))
    radius = 0.95 * angle / (2 * np.pi * TURNS)
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1) + NOISE * random.normal(
        size=(POINTS, 2)
    )
    return torch.from_numpy(points.clip(-1, 1)).float()


def way_back(a_0: Tensor, T: int, optimal: bool) -> list[Tensor]:
    """Points [N, 2] at t = T, ..., 0 on their way back from N(0, I), with the true score of each step."""
    sde, generator = MeanRevertingSDE(T), stream("cpu", T, "sampling")
    way = [torch.randn(a_0.shape, generator=generator)]
    for step in range(T, 0, -1):
        a_t, t = way[-1], torch.full(a_0.shape[:1], step)
        noise = torch.randn(a_0.shape, generator=generator)
        if optimal:
            way.append(sde.posterior_mean(a_t, t, a_0) + sde.at[step].posterior_std * noise)
        else:
            eps = (a_t - a_0 * sde.at[step].decay) / sde.at[step].std
            way.append(sde.reverse_drift_step(a_t, t, eps) + (2 * sde.at[step].rate) ** 0.5 * noise)
    return way


def reconstructions() -> Arrays:
    """data [N, 2]; for each T `optimal/T` and `reverse/T` [N, 2]; `distance_optimal`, `distance_reverse` [len(STEPS)].

    Distances are root mean squares over points between a_0 and what came back.
    """
    data = spiral()
    arrays = {"data": data.numpy(), "steps": np.array(STEPS, dtype=np.float32)}
    for name, optimal in (("optimal", True), ("reverse", False)):
        back = {T: way_back(data, T, optimal)[-1] for T in STEPS}
        arrays |= {f"{name}/{T}": points.numpy() for T, points in back.items()}
        distances = [float((points - data).square().sum(dim=1).mean().sqrt()) for points in back.values()]
        arrays[f"distance_{name}"] = np.array(distances, dtype=np.float32)
    return arrays


def there_and_back() -> Arrays:
    """steps [K], the times t; for each `forward/t` and `back/t` [N, 2]."""
    data, sde = spiral(), MeanRevertingSDE(PICTURE_STEPS)
    back = way_back(data, PICTURE_STEPS, optimal=True)[::-1]
    eps = torch.randn(data.shape, generator=stream("cpu", 0, "forward"))
    arrays = {"steps": np.array(PICTURED, dtype=np.float32)}
    for t in PICTURED:
        arrays[f"forward/{t}"] = sde.diffuse(data, torch.full(data.shape[:1], t), eps).numpy()
        arrays[f"back/{t}"] = back[t].numpy()
    return arrays
