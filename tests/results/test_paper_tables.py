"""The paper's tables: printed numbers as they are, ours found by their config, set beside only where they may be."""

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from erdp_core.config import resolve
from erdp_core.tasks import TASKS, EnvironmentSpec
from results import make_tables
from results.command_line import Request
from results.matching import RunsByConfig
from results.paper_blocks import blocks, measured_parts
from results.paper_files import NUMBERS, write_paper_table
from results.paper_settings import hyperparameter_blocks
from results.paper_tables import PAPER_TABLES
from results.table_text import latex_of, markdown_of
from sweeps.ablations import ABLATIONS

ABLATION_OF = {3: "alpha", 4: "critics", 7: "critics", 8: "beta", 9: "steps", 10: "max-q", 11: "selection"}


def request(maker: Any, out: Path, profile: str | None = None, protocol: str | None = None) -> Request:
    return Request(str(maker.ledger.root), profile, protocol, out)


def test_every_table_of_the_paper_is_there() -> None:
    assert tuple(range(1, 12)) == NUMBERS


@pytest.mark.parametrize("number", PAPER_TABLES)
def test_every_printed_number_is_shown(number: int) -> None:
    for part in PAPER_TABLES[number].parts:
        shown = {part.printed(task, column)[0] for task in part.tasks for column in part.columns}
        numbers = part.frame.drop(
            columns=["domain", *(name for name in part.frame if str(name).endswith("std"))], errors="ignore"
        )
        assert shown == set(numbers.astype(float).to_numpy().ravel())
        assert set(part.tasks) <= set(TASKS)


@pytest.mark.parametrize(("number", "name"), ABLATION_OF.items())
def test_an_ablation_trains_what_its_table_shows(number: int, name: str) -> None:
    """Whoever runs the command below a table fills it."""
    [part] = PAPER_TABLES[number].parts
    assert part.command.endswith(f"--ablation {name}")
    assert set(part.tasks) <= set(ABLATIONS[name].tasks)
    for task in part.tasks:
        trained = [resolve(TASKS[task], one.method, "paper", one.settings) for one in ABLATIONS[name].columns]
        for column in part.columns:
            assert resolve(TASKS[task], str(column.method), "paper", column.settings) in trained


def test_runs_are_found_by_their_config(maker: Any) -> None:
    task = "antmaze-medium-play-v0"
    for seed, score in enumerate((80.0, 90.0)):
        maker.run(task, "erdp", seed, [score], profile="quick", settings=["agent.beta=2"])
    maker.run(task, "erdp", 0, [10.0], profile="quick", settings=["agent.beta=3"])
    maker.run(task, "erdp", 5, [99.0], profile="quick", settings=["agent.beta=2"], status="started")
    [part] = measured_parts(PAPER_TABLES[8], RunsByConfig.of(maker.ledger), "quick", "paper")
    found = {column.head: part.cells[task, column].scores for column in part.columns}
    assert found == {"beta=1": (), "beta=2": (80.0, 90.0), "beta=4": ()}
    assert not measured_parts(PAPER_TABLES[8], RunsByConfig.of(maker.ledger), "paper", "paper")[0].has_runs
    text = markdown_of(blocks(part)["measured"])
    assert "85.0 ± 7.1 (2)" in text
    assert "not trained: python sweeps/run_ablation.py --ablation beta --profile quick" in text
    assert "Nothing here may be set beside the printed numbers" in text
    assert set(blocks(part)) == {"printed", "measured"}


def test_runs_of_another_precision_or_version_are_not_mixed_in(maker: Any) -> None:
    task = "antmaze-medium-play-v0"
    for seed, score in enumerate((80.0, 90.0)):
        maker.run(task, "erdp", seed, [score], profile="paper", changes={"algorithm_version": 2})
    maker.run(task, "erdp", 2, [10.0], profile="paper")
    maker.run(task, "erdp", 0, [20.0], profile="paper", changes={"precision": "bfloat16", "algorithm_version": 2})
    [part] = measured_parts(PAPER_TABLES[2], RunsByConfig.of(maker.ledger), "paper", "paper")
    [erdp] = [column for column in part.columns if column.head == "ERDP"]
    assert part.cells[task, erdp].scores == (80.0, 90.0)


def test_numbers_of_other_protocols_are_not_subtracted(maker: Any) -> None:
    task = "antmaze-medium-play-v0"
    for method in ("erdp", "diffusion-ql", "iql"):
        maker.run(task, method, 0, [60.0, 50.0], losses=[0.2, 0.1], profile="paper", source="d4rl")
    runs = RunsByConfig.of(maker.ledger)

    def differences(protocol: str) -> dict[str, float]:
        [part] = measured_parts(PAPER_TABLES[2], runs, "paper", protocol)
        found = {column.head: part.difference(task, column) for column in part.columns}
        return {head: value for head, value in found.items() if value is not None}

    assert differences("paper") == {"ERDP": pytest.approx(60 - 91.4)}
    assert differences("offline").keys() == {"Diff-QL"}
    assert differences("last") == {}


def test_a_gap_says_whether_anything_was_trained(maker: Any) -> None:
    task = "antmaze-medium-play-v0"
    for seed in (0, 1):
        maker.run(task, "erdp", seed, [70.0], profile="quick", source="local")
    maker.run(task, "iql", 0, [60.0], profile="quick", source="d4rl")
    [part] = measured_parts(PAPER_TABLES[2], RunsByConfig.of(maker.ledger), "quick", "paper")
    text = markdown_of(blocks(part)["measured"])
    assert "trained on other data than most of its row" in text
    for M in (1, 2):
        maker.run("pointmaze-medium", "erdp", 0, [50.0], settings=[f"agent.M={M}"])
    for own in PAPER_TABLES[7].parts[0].tasks:
        for M in (1, 2, 4, 16, 64):
            maker.run(own, "erdp", 0, [50.0], settings=[f"agent.M={M}"])
    [part] = measured_parts(PAPER_TABLES[7], RunsByConfig.of(maker.ledger), "quick", "paper")
    text = markdown_of(blocks(part)["measured"])
    assert "not trained: python sweeps/run_ablation.py --ablation critics --tasks pointmaze-medium" in text


def test_only_what_is_of_the_papers_setting_is_set_beside(maker: Any) -> None:
    play, diverse, large = "antmaze-medium-play-v0", "antmaze-medium-diverse-v0", "antmaze-large-play-v0"
    maker.run(play, "erdp", 0, [90.0], profile="paper", source="d4rl")
    maker.run(diverse, "erdp", 0, [50.0], profile="paper", source="local")
    elsewhere = EnvironmentSpec("AntMaze_Large-v4", {})
    maker.run(large, "erdp", 0, [40.0], profile="paper", source="d4rl", environment=elsewhere)
    [part] = measured_parts(PAPER_TABLES[2], RunsByConfig.of(maker.ledger), "paper", "paper")
    [erdp] = [column for column in part.columns if column.head == "ERDP"]
    assert part.difference(play, erdp) == pytest.approx(90 - 91.4)
    assert part.difference(diverse, erdp) is None
    assert part.difference(large, erdp) is None
    assert "-1.4" in markdown_of(blocks(part)["difference"])


def test_the_data_with_most_seeds_are_a_row(maker: Any) -> None:
    task = "antmaze-medium-play-v0"
    maker.run(task, "erdp", 0, [10.0], profile="paper", source="d4rl")
    for seed in (1, 2):
        maker.run(task, "erdp", seed, [70.0], profile="paper", source="local")
    [part] = measured_parts(PAPER_TABLES[2], RunsByConfig.of(maker.ledger), "paper", "paper")
    [erdp] = [column for column in part.columns if column.head == "ERDP"]
    assert part.cells[task, erdp].scores == (70.0, 70.0)
    assert part.origins[task].source == "local"  # type: ignore[union-attr]


def test_each_column_of_model_selection_has_its_protocol(maker: Any) -> None:
    task = "antmaze-medium-play-v0"
    maker.run(task, "erdp", 0, [90.0, 60.0, 70.0], losses=[0.5, 0.1, 0.0999], profile="paper", source="d4rl")
    [part] = measured_parts(PAPER_TABLES[11], RunsByConfig.of(maker.ledger), "paper", "paper")
    found = {column.head: part.cells[task, column].scores for column in part.columns}
    assert found["ERDP online"] == (90.0,)
    assert found["ERDP offline"] == (70.0,)  # the first where the loss has settled


def test_an_ablation_on_tasks_of_ones_own_is_shown_below(maker: Any) -> None:
    for M in (1, 2):
        maker.run("pointmaze-medium", "erdp", 0, [50.0 + M], settings=[f"agent.M={M}"])
    [part] = measured_parts(PAPER_TABLES[7], RunsByConfig.of(maker.ledger), "quick", "paper")
    assert part.tasks[-1] == "pointmaze-medium"
    assert "51.0 (1)" in markdown_of(blocks(part)["measured"])
    assert "pointmaze-medium" not in markdown_of(blocks(part)["printed"])


def test_hyperparameters_are_the_printed_ones() -> None:
    found, frame = hyperparameter_blocks()
    assert "All as printed." in found["measured"].remarks
    assert len(frame) == 4 * 7


def test_times_of_a_run(maker: Any, tmp_path: Path) -> None:
    maker.run("antmaze-medium-play-v0", "erdp", 0, [50.0, 60.0], losses=[0.1, 0.1], settings=["agent.M=2", "agent.T=5"])
    text, _ = write_paper_table(5, request(maker, tmp_path))
    [row] = [line for line in text.splitlines() if "antmaze-medium-play-v0" in line]
    assert row.split("|")[1].strip() == "diffusion, T = 5, M = 2"
    assert [cell.strip() for cell in row.split("|")[4:6]] == [
        "0.2",
        "0.25",
    ]  # 1 s for 5,000 steps, 0.5 s for 2 episodes


@pytest.mark.parametrize("number", NUMBERS)
def test_every_table_is_written_whole(number: int, maker: Any, tmp_path: Path) -> None:
    maker.run("antmaze-medium-play-v0", "erdp", 0, [50.0, 60.0], profile="paper", source="d4rl")
    text, paths = write_paper_table(number, request(maker, tmp_path / "out", "paper"))
    assert sorted(paths) == sorted((tmp_path / "out").iterdir())
    endings = {path.suffix for path in paths}
    assert endings == {".md", ".csv", ".tex", ".png"}
    assert all(path.stat().st_size > 100 for path in paths)
    [latex] = [path.read_text() for path in paths if path.suffix == ".tex"]
    assert latex.count(r"\begin{table}") == latex.count(r"\end{table}") == text.count("**Table")
    labels = re.findall(r"\\label\{(.*?)\}", latex)
    assert len(set(labels)) == len(labels)
    [frame] = [pd.read_csv(path) for path in paths if path.suffix == ".csv"]
    assert len(frame) > 3 or number == 5


def test_the_command(maker: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ("--out", str(tmp_path / "out"))
    assert make_tables.main(["--table", "6", "--ledger", str(tmp_path / "none"), *out]) == 0
    assert make_tables.main(["--table", "7", "--ledger", str(tmp_path / "none"), *out]) == 0
    assert "as printed in arXiv 2402.04080" in capsys.readouterr().out
    assert make_tables.main(["--table", "12", *out]) == 2
    assert "--table 12: the numbers are 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11" in capsys.readouterr().err
    assert make_tables.main(["--table", "7", "--profile", "qick", *out]) == 2
    assert "did you mean 'quick'" in capsys.readouterr().err


def test_latex_of_a_block_is_escaped(maker: Any) -> None:
    [part] = measured_parts(PAPER_TABLES[10], RunsByConfig.of(maker.ledger), "paper", "paper")
    latex = latex_of(blocks(part)["measured"], "table-10")
    assert r"run\_ablation.py -{}-ablation max-q" in latex
