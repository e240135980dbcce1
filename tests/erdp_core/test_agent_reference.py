"""Two whole updates of ERDP against the numbers of the published implementation."""

from pathlib import Path

import numpy as np
import pytest

from erdp_core.agent import ERDP
from erdp_core.algorithms import make_algorithm
from erdp_core.config import RunConfig, resolve
from erdp_core.tasks import get_task
from tests.erdp_core.reference_update import (
    ACTOR_NAMES,
    assert_close,
    batch,
    draws,
    fill,
    packed,
    tolerances,
    transposed,
)

REFERENCE = np.load(Path(__file__).parents[1] / "reference" / "erdp_update_reference.npz")


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


@pytest.mark.parametrize("runs", [1, 2])
@pytest.mark.parametrize("variant", ["likelihood", "likelihood_maxq", "noise", "noise_maxq"])
def test_two_updates_equal_the_published_implementation(variant: str, runs: int) -> None:
    agent = make_algorithm([config(variant)] * runs, list(range(runs)), 5, 3)
    assert isinstance(agent, ERDP)
    for run in range(runs):
        fill(transposed(agent.policy.weights.of_run[run], ACTOR_NAMES), 0.05)
        fill(transposed(agent.average.weights.of_run[run], ACTOR_NAMES), 0.04)
        fill(list(agent.critics.weights.of_run[run].values()), 0.05)
        fill(list(agent.critics.targets.of_run[run].values()), 0.04)

    allowed: dict[str, list[np.ndarray]] = {}
    for update in (1, 2):
        where = f"{variant}/update{update}"
        drawn = draws(REFERENCE, where)
        info = agent.update(
            batch(REFERENCE, runs),
            {
                "next_action": packed(np.stack(drawn[:5], axis=1), runs),
                "eps": packed(drawn[6], runs),
                "t": packed(drawn[7][:, 0] + 1, runs),
                "a_T": packed(drawn[8], runs),
            },
        )
        if update == 1:
            of_actor, of_critics = (
                {name: tensor[0] for name, tensor in weights.views(optimiser.second_moment)}
                for weights, optimiser in (
                    (agent.policy.weights, agent.policy.optimiser),
                    (agent.critics.weights, agent.critics.optimiser),
                )
            )
            allowed["actor"] = tolerances(transposed(of_actor, ACTOR_NAMES))
            allowed["critic"] = allowed["critic_target"] = tolerances(list(of_critics.values()))
        expected = {
            "diffusion_loss": "bc_loss",
            "q_loss": "ql_loss",
            "actor_loss": "actor_loss",
            "critic_loss": "critic_loss",
            "entropy": "entropy",
            "critic_grad_norm": "critic_grad_norm",
            "actor_grad_norm": "actor_grad_norm",
        }
        for run in range(runs):
            for ours, theirs in expected.items():
                assert info[ours][run].item() == pytest.approx(float(REFERENCE[f"{where}/{theirs}"]), rel=1e-4), ours
            for key, tensors in (
                ("actor", transposed(agent.policy.weights.of_run[run], ACTOR_NAMES)),
                ("critic", list(agent.critics.weights.of_run[run].values())),
                ("critic_target", list(agent.critics.targets.of_run[run].values())),
            ):
                assert_close(tensors, REFERENCE, f"{where}/{key}", allowed[key])
