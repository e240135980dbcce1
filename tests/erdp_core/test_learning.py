"""Every method learns: in a maze where random walks score nothing, from walks that go anywhere."""

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

TASK = get_task("pointmaze-medium")
SEEDS = (0, 1)
# With the published weight, 5, CQL's seeds are at 0 or at 100 from one evaluation to the next.
SETTINGS = {"cql": ["agent.conservative_weight=0.1"]}


@pytest.fixture(scope="module")
def walks(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(tmp_path_factory.mktemp("minari")))
        collect_pointmaze(TASK)
        return load_dataset(TASK, "local")


def test_random_actions_score_nothing() -> None:
    environment = make_environment(TASK.environment)
    environment.action_space.seed(0)
    returns = 0.0
    for episode in range(100):
        environment.reset(seed=episode)
        for _ in range(TASK.step_limit):
            _, reward, terminated, truncated, _ = environment.step(environment.action_space.sample())
            returns += float(reward)
            if terminated or truncated:
                break
    assert returns <= 1


@pytest.mark.parametrize("method", METHODS)
def test_learns(method: str, walks: Dataset) -> None:
    config = resolve(TASK, method, "quick", ["evaluation.one_candidate=false", *SETTINGS.get(method, ())])
    trainer = Trainer(TASK, walks, [config] * len(SEEDS), SEEDS)
    scores: list[list[float]] = []
    losses: list[float] = []
    for interval in trainer.intervals():
        scores.append([run.evaluation["score"] for run in interval if run.evaluation])
        losses.append(statistics.mean(run.training["losses"].get("diffusion_loss", 0.0) for run in interval))
    print(f"{method}: {scores}, diffusion loss {losses}")
    if method == "bc-diffusion":  # it walks as the data do, and seldom comes to the goal
        assert losses[-1] < 0.8 * losses[0]
        return
    assert max(map(statistics.mean, scores)) >= 10
