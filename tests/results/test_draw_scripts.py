"""The scripts as a user runs them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from erdp_core.errors import UserError
from results import make_figures, make_tables
from results.draw import draw_plan

ROOT = Path(__file__).parents[2]


@pytest.fixture
def ledger(mazes: Any) -> str:
    """The ledger of mazes with a second plan of another profile."""
    mazes.cells.clear()
    mazes.run("antmaze-umaze-v0", "erdp", 0, [1.0], profile="paper", source="d4rl")
    mazes.plan("ants", table="antmaze", profile="paper", protocol="last")
    return str(mazes.ledger.root)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_tables_of_everything(ledger: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert make_tables.main(["--ledger", ledger, "--out", str(tmp_path / "out")]) == 0
    names = [
        f"{stem}.{end}" for stem in ("ants-table-last", "mazes-table-paper") for end in ("csv", "md", "png", "tex")
    ]
    # What the papers report goes with tables on D4RL's data.
    assert files(tmp_path / "out") == sorted([*names, "ants-table-last-reported.csv"])
    printed = capsys.readouterr().out
    assert "| pointmaze-umaze " in printed
    assert all(str(tmp_path / "out" / name) in printed for name in names)


def test_one_table_by_another_protocol(ledger: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["--ledger", ledger, "--out", str(out), "--protocol", "last-k", "--profile", "quick"]
    assert make_tables.main([*arguments, "--table", "pointmaze"]) == 0
    assert {name.split(".")[0] for name in files(out)} == {"mazes-table-last-k"}
    assert make_tables.main([*arguments[:4], "--table", "ants"]) == 0
    assert "ants-table-last.md" in files(out)


def test_figures_from_the_environment(
    ledger: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ERDP_LEDGER", ledger)
    monkeypatch.chdir(tmp_path)
    assert make_figures.main(["--profile", "paper"]) == 0
    assert files(tmp_path / "results" / "out") == ["ants-curves.png", "ants-curves.svg"]
    assert capsys.readouterr().out.splitlines()[0] == str(tmp_path / "results" / "out" / "ants-curves.png")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--table", "pointmase"], "did you mean 'pointmaze'?"),
        (["--protocol", "lasst"], "did you mean 'last'?"),
        (["--profile", "quik"], "did you mean 'quick'?"),
        (["--table", "antmaze", "--profile", "quick"], "the ledger has it with paper"),
        (["--ledger", "nowhere"], "no ledger at"),
        (["--tabel", "x"], "unrecognized arguments: --tabel x"),
    ],
)
@pytest.mark.parametrize("script", [make_tables, make_figures])
def test_mistakes_are_one_line(
    script: Any, arguments: list[str], message: str, ledger: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        where = [] if "--ledger" in arguments else ["--ledger", ledger]
        status = script.main([*where, "--out", str(tmp_path / "out"), *arguments])
    except SystemExit as end:
        status = end.code
    assert status == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_an_empty_ledger(make_ledger: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert make_tables.main(["--ledger", str(make_ledger("empty").ledger.root)]) == 2
    assert "train one with orchestration/run_table.py" in capsys.readouterr().err


def test_draw_plan(mazes: Any, tmp_path: Path) -> None:
    table, paths = draw_plan(mazes.ledger, "mazes", tmp_path)
    assert table.protocol == "paper"
    assert files(tmp_path / ".") == sorted([*(path.name for path in paths), "runs"])
    assert {path.suffix for path in paths} == {".md", ".csv", ".tex", ".png", ".svg"}
    with pytest.raises(UserError, match=r"no plan 'mazse' .* did you mean 'mazes'\?"):
        draw_plan(mazes.ledger, "mazse", tmp_path)


def test_results_import_neither_torch_nor_ray() -> None:
    modules = [f"results.{path.stem}" for path in sorted((ROOT / "results").glob("*.py"))]
    assert "results.tables" in modules
    program = f"import json, sys, {', '.join(modules)}; print(json.dumps(sorted(sys.modules)))"
    output = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True)
    loaded = set(json.loads(output.stdout))
    assert not loaded & {"torch", "ray", "mlflow", "matplotlib.pyplot"}


def test_help_shows_examples() -> None:
    for script in ("make_tables", "make_figures"):
        command = [sys.executable, "-m", f"results.{script}", "--help"]
        output = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
        assert f"python results/{script}.py --table antmaze" in output
        assert "--protocol" in output
