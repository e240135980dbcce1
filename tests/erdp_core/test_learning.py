"""Every method learns: in a maze where random walks score nothing, from walks that reach the goal."""

import statistics

import pytest

from erdp_core.agent_configs import METHODS
from erdp_core.config import resolve
from erdp_core.data.collect import collect_pointmaze
from erdp_core.data.load import load_dataset
from erdp_core.data.transitions import Dataset
from erdp_core.environments.make import make_environment
from erdp_core.tasks import get_task
from erdp_core.trainer import Trainer

pytestmark = pytest.mark.slow

TASK = get_task("pointmaze-umaze")
CLONES = ("bc", "bc-diffusion")
"""Their data reach the goal now and then; the others should do so mostly."""


@pytest.fixture(scope="module")
def walks(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(tmp_path_factory.mktemp("minari")))
        collect_pointmaze(TASK)
        return load_dataset(TASK, "local")


def test_random_actions_score_nothing() -> None:
    environment = make_environment(TASK.environment)
    environment.action_space.seed(0)
    for episode in range(20):
        environment.reset(seed=episode)
        for _ in range(TASK.step_limit):
            _, reward, terminated, truncated, _ = environment.step(environment.action_space.sample())
            assert reward == 0
            assert not terminated
            if truncated:
                break


@pytest.mark.parametrize("method", METHODS)
def test_learns(method: str, walks: Dataset) -> None:
    config = resolve(TASK, method, "quick", ["trainer.steps=4000", "trainer.interval=2000"])
    trainer = Trainer(TASK, walks, [config] * 2, [0, 1])
    for interval in trainer.intervals():
        last = [run.evaluation for run in interval]
    scores = [evaluation["score"] for evaluation in last if evaluation]
    print(f"{method}: {scores}")
    assert len(scores) == 2
    assert statistics.mean(scores) >= (10 if method in CLONES else 50)
