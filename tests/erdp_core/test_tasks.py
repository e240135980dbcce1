"""The registry: the paper's tasks, their scores and their tables."""

import csv
from pathlib import Path

import pytest

from erdp_core.config import DOMAINS
from erdp_core.environments.make import make_environment
from erdp_core.errors import UserError
from erdp_core.tasks import TABLES, TASKS, get_task, table_tasks


@pytest.mark.parametrize("name", TASKS)
def test_scores_are_0_and_100_at_the_references(name: str) -> None:
    task = get_task(name)
    assert task.score(task.reference_min) == 0
    assert task.score(task.reference_max) == pytest.approx(100)
    assert task.score(2 * task.reference_max - task.reference_min) == pytest.approx(200)


def test_scores_are_d4rls() -> None:
    assert get_task("halfcheetah-medium-v2").score(5000) == pytest.approx(100 * 5280.178953 / 12415.178953)
    assert get_task("hopper-medium-replay-v2").score(3234.3) == pytest.approx(100)
    assert get_task("antmaze-large-play-v0").score(0.37) == pytest.approx(37)


@pytest.mark.parametrize("name", TASKS)
def test_a_task_has_settings_data_and_a_table(name: str) -> None:
    task = get_task(name)
    assert task.domain in DOMAINS
    assert name in table_tasks(task.domain)
    assert (task.d4rl_file is None) != (task.local_id is None)


@pytest.mark.parametrize("name", TASKS)
def test_step_limits_are_the_environments(name: str) -> None:
    task = get_task(name)
    environment = make_environment(task.environment)
    assert environment.get_wrapper_attr("_max_episode_steps") == task.step_limit
    environment.close()


def test_tables_partition_the_tasks() -> None:
    domains = [table for table in TABLES if table != "all"]
    assert sorted(task for table in domains for task in TABLES[table]) == sorted(TASKS)
    assert set(TABLES["all"]) == set(TASKS) - set(TABLES["pointmaze"])


def test_files_are_all_different() -> None:
    files = [Path(task.d4rl_file).name for task in TASKS.values() if task.d4rl_file]
    assert len(set(files)) == len(files)


def test_the_papers_table_has_a_row_for_each_of_its_tasks() -> None:
    """Names as in the paper's own table of results."""
    names = set()
    for path in (Path(__file__).parents[2] / "results" / "paper").glob("*.csv"):
        with open(path, newline="") as file:
            names |= {cell.strip() for row in csv.reader(file) for cell in row}
    if not names:
        pytest.skip("the paper's tables are not there")
    assert set(TABLES["all"]) <= names


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: get_task("antmaze-umaze-v1"), r"unknown task 'antmaze-umaze-v1': did you mean 'antmaze-umaze-v0'\?"),
        (lambda: table_tasks("antmazes"), r"unknown table 'antmazes': did you mean 'antmaze'\?"),
        (lambda: table_tasks("xyz"), "valid names: adroit|valid names: all"),
    ],
)
def test_unknown_names_get_the_nearest(call: object, said: str) -> None:
    assert callable(call)
    with pytest.raises(UserError, match=said):
        call()
