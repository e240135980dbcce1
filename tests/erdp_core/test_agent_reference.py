"""Two whole updates of ERDP against the numbers of the published implementation."""

from pathlib import Path

import numpy as np
import pytest
import torch

from erdp_core.agent import ERDP
from erdp_core.algorithms import Batch, make_algorithm
from erdp_core.config import RunConfig, resolve
from erdp_core.optimiser import Adam
from erdp_core.tasks import get_task
from erdp_core.weights import Weights

REFERENCE = np.load(Path(__file__).parents[1] / "reference" / "erdp_update_reference.npz")
ACTOR_NAMES = [
    "time_weight_1",
    "time_bias_1",
    "time_weight_2",
    "time_bias_2",
    *(f"{kind}_{layer}" for layer in range(1, 5) for kind in ("weight", "bias")),
]
CRITIC_NAMES = [f"{kind}_{layer}" for layer in range(1, 5) for kind in ("weight", "bias")]


def config(variant: str) -> RunConfig:
    kind, _, max_q = variant.partition("_")
    settings = [
        "agent.M=3",
        "agent.eta=1.5",
        "agent.alpha=0.05",
        "agent.batch_size=16",
        f"agent.diffusion_loss={kind}",
        f"agent.action_clip={'true' if kind == 'noise' else 'false'}",
        f"agent.max_q_backup={'true' if max_q else 'false'}",
    ]
    return resolve(get_task("hopper-medium-v2"), "erdp", "paper", settings)


def fill(weights: Weights, names: list[str], scale: float, transposed: bool) -> None:
    """The reference's initial weights: scale * sin(0.37 i + 1.3 k) for flat index i of tensor k."""
    with torch.no_grad():
        for k, name in enumerate(names):
            tensor = weights[name]
            is_matrix = transposed and "weight" in name
            shape = tensor.shape[:0:-1] if is_matrix else tensor.shape[1:]
            values = scale * np.sin(0.37 * np.arange(tensor[0].numel()) + 1.3 * k)
            filled = torch.from_numpy(values.astype(np.float32).reshape(shape))
            tensor.copy_(filled.T if is_matrix else filled)


def flat(weights: Weights, name: str, run: int, transposed: bool) -> np.ndarray:
    tensor = weights[name][run].detach()
    return (tensor.T if transposed and "weight" in name else tensor).reshape(-1)[:48].numpy()


def rounding(weights: Weights, optimiser: Adam, name: str, transposed: bool) -> np.ndarray:
    """How far Adam's first step carries what rounding leaves of each of the first entries of a tensor.

    Adam's first step is lr g / (|g| + 1e-8): where sums of large terms all but cancel, g is as small as 1e-8 and so is
    what the order of the sum leaves. That is 1e-5 of the tensor's largest gradient at most: the reference's own entries
    are as far from double precision.
    """
    second = dict(weights.views(optimiser.second_moment))[name][0]
    gradient = (1000 * (second.T if transposed and "weight" in name else second)).sqrt()
    left = 1.5e-5 * gradient.max()
    steps = 3e-4 * (1e-8 * left / (gradient.flatten()[:48] + 1e-8) ** 2).clamp(max=1)
    return steps.numpy()


@pytest.mark.parametrize("runs", [1, 2])
@pytest.mark.parametrize("variant", ["likelihood", "likelihood_maxq", "noise", "noise_maxq"])
def test_two_updates_equal_the_published_implementation(variant: str, runs: int) -> None:
    agent = make_algorithm([config(variant)] * runs, list(range(runs)), 5, 3)
    assert isinstance(agent, ERDP)
    fill(agent.policy.weights, ACTOR_NAMES, 0.05, transposed=True)
    fill(agent.average.weights, ACTOR_NAMES, 0.04, transposed=True)
    fill(agent.critics.weights, CRITIC_NAMES, 0.05, transposed=False)
    fill(agent.critics.targets, CRITIC_NAMES, 0.04, transposed=False)

    def packed(array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).expand(runs, *array.shape)

    batch = Batch(
        packed(REFERENCE["batch/state"]),
        packed(REFERENCE["batch/action"]),
        packed(REFERENCE["batch/next_state"]),
        packed(REFERENCE["batch/reward"][:, 0]),
        packed(1 - REFERENCE["batch/not_done"][:, 0]),
    )
    tolerances: dict[str, np.ndarray] = {}
    for update in (1, 2):
        prefix = f"{variant}/update{update}/"
        draws = [REFERENCE[key] for key in sorted(REFERENCE) if key.startswith(prefix + "draw")]
        info = agent.update(
            batch,
            {
                "next_action": packed(np.stack(draws[:5], axis=1)),
                "eps": packed(draws[6]),
                "t": packed(draws[7][:, 0] + 1),
                "a_T": packed(draws[8]),
            },
        )
        expected = {
            "diffusion_loss": "bc_loss",
            "q_loss": "ql_loss",
            "actor_loss": "actor_loss",
            "critic_loss": "critic_loss",
            "entropy": "entropy",
            "critic_grad_norm": "critic_grad_norm",
            "actor_grad_norm": "actor_grad_norm",
        }
        if update == 1:
            for key, weights, optimiser, names in (
                ("actor", agent.policy.weights, agent.policy.optimiser, ACTOR_NAMES),
                ("critic", agent.critics.weights, agent.critics.optimiser, CRITIC_NAMES),
            ):
                for name in names:
                    tolerances[f"{key} {name}"] = 1e-6 + rounding(weights, optimiser, name, transposed=key == "actor")
            wide = np.concatenate(list(tolerances.values())) > 2e-6
            assert wide.mean() < 0.01
        for run in range(runs):
            for ours, theirs in expected.items():
                assert info[ours][run].item() == pytest.approx(float(REFERENCE[prefix + theirs]), rel=1e-4), ours
            for weights, names, key in (
                (agent.policy.weights, ACTOR_NAMES, "actor"),
                (agent.critics.weights, CRITIC_NAMES, "critic"),
                (agent.critics.targets, CRITIC_NAMES, "critic_target"),
            ):
                for k, name in enumerate(names):
                    got = flat(weights, name, run, transposed=key == "actor")
                    expected_values = REFERENCE[f"{prefix}{key}/{k}"]
                    tolerance = tolerances[f"{key.removesuffix('_target')} {name}"]
                    assert (np.abs(got - expected_values) <= tolerance).all(), f"{key} {name} of update {update}"
