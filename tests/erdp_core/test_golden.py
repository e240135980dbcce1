"""Twenty updates from fixed seeds come to the numbers in golden.json, as long as the algorithm's version stands.

Runs in a ledger are told apart by `ALGORITHM_VERSIONS`: code that comes to other numbers under the same version would
mix what is not the same method. When a change of numbers is meant, raise the method's version in
erdp_core/agent_configs.py and write the file anew:

    ERDP_WRITE_GOLDEN=1 python -m pytest tests/erdp_core/test_golden.py
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from erdp_core.agent_configs import ALGORITHM_VERSIONS
from erdp_core.algorithms import make_algorithm, stream
from tests.small import inputs, small_config

GOLDEN = Path(__file__).with_name("golden.json")
UPDATES = 20
EVERYTHING = ("agent.max_q_backup=true", "agent.ema_from=5", "agent.ema_every=2", "agent.alpha=0.1")
VARIANTS = {
    "erdp": ("erdp", ()),
    "erdp with all the paper's forms": (
        "erdp",
        (*EVERYTHING, "agent.objective=paper", "agent.entropy=paper", "agent.diffusion_loss=likelihood"),
    ),
    "erdp with the released forms": ("erdp", (*EVERYTHING, "agent.action_clip=false", "agent.lr_decay=cosine")),
    "bc-diffusion": ("bc-diffusion", ()),
    "diffusion-ql": ("diffusion-ql", EVERYTHING[:3]),
    "bc": ("bc", ()),
    "td3-bc": ("td3-bc", ()),
    "iql": ("iql", ("agent.lr_decay=off",)),
    "cql": ("cql", ()),
    "msg": ("msg", ()),
    "idql": ("idql", ()),
    "edp": ("edp", ()),
    "gaussian-ensemble": ("gaussian-ensemble", ()),
}


def numbers(method: str, settings: tuple[str, ...]) -> dict[str, list[float]]:
    """What two runs come to: the last losses, the weights' size and where they stand, and an action."""
    seeds = [0, 1]
    # A learning rate at which twenty updates show.
    config = small_config("agent.actor_lr=0.003", *settings, method=method)
    made = make_algorithm([config] * 2, seeds, 4, 2)
    for batch, noise in inputs(made, seeds, UPDATES):
        log = made.update(batch, noise)
    found = {name: value.tolist() for name, value in log.items()}
    for name, tensor in made.state(0).items():
        if name != "count":
            found[f"norm of {name}"] = [tensor.double().norm().item()]
            found[f"sum of {name}"] = [tensor.double().sum().item()]
    drawn = made.draw_acting_noise(stream("cpu", 0, "golden"), 3, made.candidates)
    actions = made.act(torch.ones(2, 3, 4), {name: value.expand(2, *value.shape) for name, value in drawn.items()})
    return {**found, "actions": actions.flatten().tolist()}


def is_close(ours: list[float], theirs: list[float]) -> bool:
    """Other processors round otherwise, and twenty updates carry it on."""
    return ours == pytest.approx(theirs, rel=1e-3, abs=1e-3)


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    if "ERDP_WRITE_GOLDEN" in os.environ:
        results = {variant: numbers(*settings) for variant, settings in VARIANTS.items()}
        record = {"versions": dict(ALGORITHM_VERSIONS), "numbers": results}
        GOLDEN.write_text(json.dumps(record, indent=1) + "\n")
    found: dict[str, Any] = json.loads(GOLDEN.read_text())
    return found


def test_every_method_has_numbers() -> None:
    assert {method for method, _ in VARIANTS.values()} == set(ALGORITHM_VERSIONS)


@pytest.mark.parametrize("variant", VARIANTS)
def test_numbers_change_only_with_the_algorithms_version(golden: dict[str, Any], variant: str) -> None:
    method, settings = VARIANTS[variant]
    version, written = ALGORITHM_VERSIONS[method], golden["versions"].get(method)
    assert written == version, (
        f"golden.json has the numbers of {method} version {written}, the code is version {version}: "
        "write it anew with ERDP_WRITE_GOLDEN=1"
    )
    ours, theirs = numbers(method, settings), golden["numbers"][variant]
    assert ours.keys() == theirs.keys()
    changed = [name for name, values in ours.items() if not is_close(values, theirs[name])]
    assert not changed, (
        f"{variant}: {', '.join(changed)} came out otherwise than under version {version}, which the code still bears. "
        f"If that is meant, raise {method!r} in ALGORITHM_VERSIONS and write golden.json anew with ERDP_WRITE_GOLDEN=1"
    )
    assert torch.tensor(ours["norm of actor"]).isfinite().all()
