"""What papers report stands apart, and only beside what was measured on the same data in the same environment."""

from pathlib import Path

import pandas as pd
import pytest

from erdp_core.tasks import TABLES, EnvironmentSpec
from results.frames import read_plan
from results.reported import ONLINE, of_tasks, printed_scores
from results.table_files import write_table
from results.table_text import to_markdown
from results.tables import build_table
from tests.results.conftest import LedgerMaker


def test_every_task_of_the_paper_is_printed_and_only_those() -> None:
    printed = printed_scores()
    assert set(printed) == set(TABLES["all"])
    assert printed["hopper-medium-v2"]["ERDP"] == 94.2
    assert printed["hopper-medium-v2"]["Diff-QL"] == 90.5
    assert printed["hopper-medium-v2"][ONLINE] == 96.6
    assert printed["pen-human-v1"]["BCQ"] == 68.9
    assert "MSG" not in printed["hopper-medium-v2"]


def test_methods_of_all_tasks_with_the_papers_own_last() -> None:
    both = of_tasks(["hopper-medium-v2", "antmaze-umaze-v0"])
    assert both is not None
    assert both.methods[-2:] == (ONLINE, "ERDP")
    assert "MSG" in both.methods
    frame = both.frame()
    assert len(frame) == sum(len(of_task) for of_task in both.scores.values())
    assert frame.set_index(["task", "method"])["reported"]["antmaze-umaze-v0", "MSG"] == 97.8
    assert of_tasks([]) is None


@pytest.mark.parametrize(
    ("source", "environment", "is_shown"),
    [("d4rl", None, True), ("local", None, False), ("d4rl", EnvironmentSpec("Hopper-v5", {}), False)],
)
def test_only_beside_scores_on_the_same_data_and_environment(
    maker: LedgerMaker, tmp_path: Path, source: str, environment: EnvironmentSpec | None, is_shown: bool
) -> None:
    for seed in range(2):
        maker.run("hopper-medium-v2", "erdp", seed, [20.0], source=source, environment=environment)
    table = build_table(read_plan(maker.ledger, "gym", maker.plan("gym")))
    text = to_markdown(table)
    measured, _, printed = text.partition("**Reported in papers**")
    assert "94.2" not in measured
    assert ("| hopper-medium-v2 |" in printed and "94.2" in printed) == is_shown
    assert ("not to be ranked" in printed) == is_shown
    files = {path.name: path for path in write_table(table, tmp_path)}
    assert ("gym-table-paper-reported.csv" in files) == is_shown
    if is_shown:
        frame = pd.read_csv(files["gym-table-paper-reported.csv"])
        assert set(frame["task"]) == {"hopper-medium-v2"}
        assert 94.2 in frame["reported"].tolist()
