"""Tables from real ledgers: what counts, what is a gap and why, and the four files."""

import io
import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.image import imread

from erdp_core.tasks import EnvironmentSpec
from orchestration.ledger import LedgerError, append_line
from results.draw import draw_plan
from results.frames import PlanFrames, read_plan
from results.table_files import write_table
from results.table_text import escape_latex, to_latex, to_markdown
from results.tables import Column, build_table, long_form, number

ERDP, SINGLE, BC = Column("erdp", "candidates"), Column("erdp", "one candidate"), Column("bc-diffusion", "candidates")
FAILED = "2 of 3 seeds: seed 2 failed: loss not finite at step 400"
UNFINISHED = "1 of 3 seeds: seed 1 not finished: at step 1,500 of 7,500; seed 2 not started"


def frames_of(maker: Any, name: str = "mazes") -> PlanFrames:
    return read_plan(maker.ledger, name, maker.ledger.plans()[name])


def test_cells_count_finished_runs_alone(mazes: Any) -> None:
    table = build_table(frames_of(mazes))
    assert table.columns == (ERDP, SINGLE, BC)
    umaze = table.cells["pointmaze-umaze", ERDP]
    assert (umaze.seeds, umaze.scores, umaze.gap) == ((0, 1, 2), (70.0, 80.0, 90.0), "")
    assert umaze.run_ids[2] == "pointmaze-umaze.erdp.seed2.quick"
    # The single candidate has a best evaluation of its own: 50 at the last one, where it beats 70 / 2.
    assert table.cells["pointmaze-umaze", SINGLE].scores == (50.0, 50.0, 50.0)
    assert table.cells["pointmaze-medium", ERDP].scores == (50.0, 60.0)
    assert table.cells["pointmaze-medium", BC].scores == (35.0,)
    assert table.cells["pointmaze-large", ERDP].scores == ()


def test_gaps_say_why(mazes: Any) -> None:
    table = build_table(frames_of(mazes))
    assert table.cells["pointmaze-medium", ERDP].gap == FAILED
    assert table.cells["pointmaze-medium", BC].gap == UNFINISHED
    assert table.cells["pointmaze-large", SINGLE].gap == "data missing: collect them first"
    assert table.marks == {FAILED: "a", UNFINISHED: "b", "data missing: collect them first": "c"}


def test_markdown(mazes: Any) -> None:
    lines = to_markdown(build_table(frames_of(mazes))).splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    assert rows[0] == ["task", "data, environment", "erdp", "erdp, 1 candidate", "bc-diffusion"]
    assert rows[2] == [
        "pointmaze-umaze",
        "local, pointmaze-umaze",
        "80.0 ± 10.0 (3)",
        "50.0 ± 0.0 (3)",
        "31.0 ± 1.0 (3)",
    ]
    assert rows[3] == [
        "pointmaze-medium",
        "local, pointmaze-medium",
        "55.0 ± 7.1 (2) [a]",
        "25.0 ± 7.1 (2) [a]",
        "35.0 (1) [b]",
    ]
    assert rows[4] == ["pointmaze-large", "local, pointmaze-large", "— [c]", "— [c]", "25.0 ± 0.0 (3)"]
    # Large is missing in a column, so it is in no column's average.
    assert rows[5] == ["Average of 2 of 3 tasks", "", "67.5", "37.5", "33.0"]
    assert len({len(line) for line in lines if line.startswith("|")}) == 1
    footer = "\n".join(lines)
    assert f"- [a] {FAILED}" in footer
    assert "- [c] data missing: collect them first" in footer
    assert "every column has: pointmaze-umaze, pointmaze-medium." in footer
    for fact in (
        "Profile quick, source local, protocol paper: scores are each run's best evaluation in training.",
        "(MuJoCo 3.11.0)",
        "7,500 steps, an evaluation every 1,500 steps over 20 episodes, seeds 0, 1, 2.",
        "Agents differ from profile paper (in brackets): width 64 (256); erdp: M 4 (64).",
        "Data of pointmaze-medium: rows 3 to 5 were repaired",
        "instead of one chosen among 50 candidates",
    ):
        assert fact in footer
    assert "not comparable" not in footer  # the paper has no such tasks
    assert "nan" not in footer.lower()


def test_protocols_read_the_same_runs_differently(maker: Any) -> None:
    scores, losses = [10.0, 90.0, 20.0, 30.0, 40.0, 50.0], [1.0, 0.5, 0.499, 0.4, 0.3, 0.2]
    maker.run("pointmaze-umaze", "erdp", 0, scores, losses=losses)
    maker.plan()
    frames = frames_of(maker)
    found = {
        protocol: build_table(frames, protocol).cells["pointmaze-umaze", ERDP].scores[0]
        for protocol in ("paper", "last", "last-k", "offline")
    }
    assert found == {"paper": 90.0, "last": 50.0, "last-k": 46.0, "offline": 20.0}
    assert build_table(frames, "last-k").name == "mazes-table-last-k"


def test_torn_and_repeated_lines(maker: Any) -> None:
    run = maker.run("pointmaze-umaze", "erdp", 0, [10.0, 20.0])
    lines = run.path / "evaluations.jsonl"
    append_line(lines, {"step": 3000, "score": 25.0, "returns": [0.25], "seconds": 1.0})
    with open(lines, "a") as file:
        file.write('{"step": 4500, "score": 99.0, "ret')
    maker.plan()
    frames = frames_of(maker)
    assert frames.evaluations["score"].tolist() == [10.0, 25.0]
    assert frames.evaluations["episodes"].tolist() == [2, 1]
    assert build_table(frames).cells["pointmaze-umaze", ERDP].scores == (25.0,)


def test_finished_runs_that_cannot_be_read_are_gaps(maker: Any) -> None:
    maker.run("pointmaze-umaze", "erdp", 0, [])
    maker.run("pointmaze-umaze", "erdp", 1, [1.0, float("nan")])
    maker.run("pointmaze-umaze", "erdp", 2, status="failed", failure={"reason": "out of\nmemory", "step": 7})
    maker.plan()
    table = build_table(frames_of(maker))
    assert table.cells["pointmaze-umaze", ERDP].gap == (
        "0 of 3 seeds: seed 0 finished, but its evaluations cannot be read; "
        "seed 1 has a score that is not finite; seed 2 failed: out of memory at step 7"
    )
    assert "nan" not in to_markdown(table).lower()


def test_a_plan_of_which_nothing_has_run(maker: Any, tmp_path: Path) -> None:
    for seed in (0, 1):
        maker.run("pointmaze-umaze", "erdp", seed, status="planned")
    maker.plan()
    table, paths = draw_plan(maker.ledger, "mazes", tmp_path / "out")
    assert table.cells["pointmaze-umaze", ERDP].gap == "not started"
    assert "No run has finished yet (seeds 0, 1)." in paths[0].read_text()
    assert all(path.stat().st_size for path in paths)


def caption_of(maker: Any, **plan: Any) -> str:
    maker.plan(**plan)
    return " ".join(build_table(frames_of(maker)).caption)


def test_numbers_of_another_setting_are_said_not_to_be_comparable(make_ledger: Callable[[str], Any]) -> None:
    sentence = "not comparable with the paper's printed numbers"
    task = "antmaze-umaze-v0"
    paper = make_ledger("paper")
    paper.run(task, "erdp", 0, [80.0], profile="paper", source="d4rl")
    found = caption_of(paper, table="antmaze", profile="paper")
    assert sentence not in found
    assert "differ from profile paper" not in found
    minari = make_ledger("minari")
    minari.run(task, "erdp", 0, [80.0], profile="paper", source="minari")
    assert f"{sentence}: the source of the data is minari, not d4rl." in caption_of(minari, profile="paper")
    quick = make_ledger("quick")
    quick.run(task, "erdp", 0, [80.0], source="d4rl", settings=["agent.alpha=0.5"])
    found = caption_of(quick, settings=["agent.alpha=0.5"])
    assert f"{sentence}: the profile is quick, not paper; settings were changed." in found
    assert "Settings: agent.alpha=0.5." in found
    elsewhere = make_ledger("elsewhere")
    moved = EnvironmentSpec("AntMaze_UMaze-v4", {})
    elsewhere.run(task, "erdp", 0, [80.0], profile="paper", source="d4rl", environment=moved)
    found = caption_of(elsewhere, profile="paper")
    assert f"{sentence}: antmaze-umaze-v0 was evaluated in AntMaze_UMaze-v4." in found
    mixed = make_ledger("mixed")
    mixed.run(task, "erdp", 0, [80.0], profile="paper", source="d4rl")
    for other in ("hopper-medium-v2", "walker2d-medium-v2"):
        mixed.run(other, "erdp", 0, [80.0], profile="paper", source="file")
    found = caption_of(mixed, profile="paper")
    assert "source d4rl (antmaze-umaze-v0), file (gym)" in found
    assert "1,000,000 (antmaze-umaze-v0), 2,000,000 (gym) steps" in found
    assert f"{sentence}: the source of the data of gym is file, not d4rl." in found


def test_changes_are_named_with_the_tasks_that_have_them(maker: Any) -> None:
    for task in ("antmaze-umaze-v0", "hopper-medium-v2", "walker2d-medium-v2"):
        maker.run(task, "erdp", 0, [80.0], settings=["agent.alpha=0.5"])
    found = caption_of(maker)
    assert "(in brackets): " in found
    changes = found.split("(in brackets): ")[1]
    assert "M 4 (64), alpha 0.5 (0.01), width 128 (256), diffusion_loss noise (likelihood) in gym." in changes


def test_changes_are_named_with_the_methods_that_have_them(maker: Any) -> None:
    for method in ("erdp", "msg", "bc"):
        maker.run("pointmaze-umaze", method, 0, [80.0], settings=["agent.alpha=0.5"])
    changes = caption_of(maker).split("(in brackets): ")[1]
    assert changes.startswith("width 64 (256); erdp, msg: M 4 (64)")
    assert "; erdp: alpha 0.5 (0.01)" in changes


def test_a_wide_and_low_table_has_methods_as_rows(maker: Any, tmp_path: Path) -> None:
    methods = ("erdp", "diffusion-ql", "iql", "td3-bc", "cql", "bc-diffusion", "bc")
    for task, method in itertools.product(("pointmaze-umaze", "pointmaze-medium"), methods):
        if (task, method) != ("pointmaze-medium", "cql"):
            for seed in (0, 1):
                maker.run(task, method, seed, [float(len(method) + seed)])
    maker.gap("pointmaze-medium", "cql", 0, "no data")
    maker.plan()
    table = build_table(frames_of(maker))
    lines = to_markdown(table).splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    interval = "95% interval"
    assert rows[0] == ["method", "pointmaze-umaze", interval, "pointmaze-medium", interval, "Average of 1 of 2 tasks"]
    assert [row[0] for row in rows[2:]] == list(methods)
    # Student's t with one degree of freedom: 12.706 / sqrt(2) spreads of sqrt(1 / 2).
    assert rows[2] == ["erdp", "4.5 ± 0.7 (2)", "-1.9 to 10.9", "4.5 ± 0.7 (2)", "-1.9 to 10.9", "4.5"]
    assert rows[6] == ["cql", "3.5 ± 0.7 (2)", "-2.9 to 9.9", "— [a]", "—", "3.5"]
    assert "- Data, environment of pointmaze-umaze: local, pointmaze-umaze." in lines
    latex = to_latex(table)
    assert r"\begin{tabular}{lrrrrr}" in latex
    assert r"  cql & 3.5 $\pm$ 0.7 (2) & $-$2.9 to 9.9 & ---\textsuperscript{a} & --- & 3.5 \\" in latex
    assert imread(write_table(table, tmp_path)[3]).shape[1] < 2000


def test_csv_round_trip(mazes: Any) -> None:
    table = build_table(frames_of(mazes))
    text = long_form(table).to_csv(index=False)
    read = pd.read_csv(io.StringIO(text), dtype={"seeds": str, "scores": str}).set_index(["task", "method", "acting"])
    assert len(read) == 9
    for (task, column), cell in table.cells.items():
        row = read.loc[(task, column.method, column.acting)]
        assert row["n"] == len(cell.scores)
        if not cell.scores:
            assert pd.isna(row["mean"])
            assert row["gap"] == cell.gap
            continue
        assert tuple(map(float, row["scores"].split(";"))) == cell.scores
        assert tuple(map(int, row["seeds"].split(";"))) == cell.seeds
        assert tuple(row["run_ids"].split(";")) == cell.run_ids
        assert row["mean"] == np.mean(cell.scores)
        assert pd.isna(row["std"]) == (len(cell.scores) == 1)
        assert (row["profile"], row["source"], row["protocol"]) == ("quick", "local", "paper")


def test_latex_minus_signs(maker: Any) -> None:
    maker.run("hopper-medium-v2", "erdp", 0, [-1.25])
    maker.run("walker2d-medium-v2", "erdp", 0, [-2.25])
    maker.plan()
    text = to_latex(build_table(frames_of(maker)))
    assert r"hopper-medium-v2 & local, Hopper-v4 & $-$1.2 (1) \\" in text
    assert r"Average of 2 tasks &  & $-$1.8 \\" in text


def test_latex_escapes_what_is_special(maker: Any) -> None:
    maker.gap("pointmaze-umaze", "erdp", 0, r"50% of A_B & C#1 {x} ~ ^ $ \input{y}")
    maker.plan()
    text = to_latex(build_table(frames_of(maker)))
    assert r"50\% of A\_B \& C\#1 \{x\} \textasciitilde{} \textasciicircum{} \$ \textbackslash{}input\{y\}\par" in text
    assert r"pointmaze-umaze & --- & ---\textsuperscript{a} \\" in text
    for rule in (r"\toprule", r"\midrule", r"\bottomrule"):
        assert text.count(rule) == 1


@given(st.text(st.characters(codec="ascii", categories=("L", "N", "P", "S", "Zs")), max_size=40))
def test_escaped_latex_has_no_bare_special_character(text: str) -> None:
    left = escape_latex(text)
    for command in (
        "textbackslash",
        "textasciitilde",
        "textasciicircum",
        "textless",
        "textgreater",
        "textbar",
        "textquotedbl",
    ):
        left = left.replace(rf"\{command}{{}}", "")
    assert "--" not in left  # would be printed as a dash
    left = left.replace("-{}-", "--").replace("-{}-", "--")
    left = re.sub(r"\\[&%$#_{}]", "", left)
    assert not set("&%$#_{}~^<>|\\") & set(left)


def test_numbers_are_never_minus_zero() -> None:
    assert [number(value) for value in (-0.04, 0.05, -1.25, 100.0)] == ["0.0", "0.1", "-1.2", "100.0"]


def test_files(mazes: Any, tmp_path: Path) -> None:
    table = build_table(frames_of(mazes))
    paths = write_table(table, tmp_path / "new" / "out")
    assert [path.name for path in paths] == [f"mazes-table-paper.{ending}" for ending in ("md", "csv", "tex", "png")]
    assert paths[0].read_text() == to_markdown(table)
    pixels = imread(paths[3])[:, :, :3].mean(axis=2)
    assert pixels.shape[0] > 400
    assert pixels.shape[1] > 1200
    assert 0.005 < (pixels < 0.5).mean() < 0.2
    # Nothing is cut off: the edge is blank all around.
    for edge in (pixels[:20], pixels[-20:], pixels[:, :20], pixels[:, -20:]):
        assert (edge == 1.0).all()
    again = write_table(table, tmp_path / "again")
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in paths]


@pytest.mark.parametrize("count", [1, 27, 60])
def test_footnotes_do_not_run_out_of_letters(maker: Any, count: int) -> None:
    for seed in range(count):
        maker.gap("pointmaze-umaze", f"method-{seed}", 0, f"reason {seed}")
    maker.plan()
    marks = list(build_table(frames_of(maker)).marks.values())
    assert marks[0] == "a"
    assert marks[26:28] == ["aa", "ab"][: max(0, count - 26)]
    assert len(set(marks)) == count


@pytest.mark.parametrize("missing", ["paper_config", "versions", "config", "dataset", "environment", "source"])
def test_a_record_that_lacks_something_is_named_with_its_remedy(maker: Any, missing: str) -> None:
    damaged = maker.run("pointmaze-umaze", "erdp", 1, [60.0])
    maker.plan()
    path = damaged.path / "run.json"
    record = json.loads(path.read_text())
    del record[missing]
    path.write_text(json.dumps(record))
    with pytest.raises(LedgerError, match=r"erdp\.seed1.* damaged: delete the run's folder and run its table again"):
        frames_of(maker)
