"""Sweeps of one's own: what a file says is what is compared, and what is wrong with it is told in one line."""

from pathlib import Path

import pytest

from erdp_core.errors import UserError
from orchestration.plan import Column
from sweeps import run_ablation
from sweeps.sweep_file import read_sweep

WHOLE = """
name = "alpha-by-beta"
tasks = ["pointmaze-medium"]

[[columns]]
method = "erdp"
setting = "agent.max_q_backup"
values = [true, false]
settings = ["agent.beta=2"]

[[columns]]
label = "twice the weight"
method = "td3-bc"
settings = ["agent.q_weight=5"]

[[columns]]
method = "bc"
"""
SMALLEST = 'name = "one"\n[[columns]]\nmethod = "bc"\n'


def written(folder: Path, text: str) -> Path:
    path = folder / "my.toml"
    path.write_text(text)
    return path


def test_a_file_is_its_columns(tmp_path: Path) -> None:
    name, sweep = read_sweep(written(tmp_path, WHOLE))
    assert (name, sweep.tasks) == ("alpha-by-beta", ("pointmaze-medium",))
    assert sweep.columns == (
        Column("erdp, max_q_backup = true", "erdp", ("agent.max_q_backup=true", "agent.beta=2")),
        Column("erdp, max_q_backup = false", "erdp", ("agent.max_q_backup=false", "agent.beta=2")),
        Column("twice the weight", "td3-bc", ("agent.q_weight=5",)),
        Column("bc", "bc", ()),
    )


def test_the_module_shows_a_file_that_can_be_read(tmp_path: Path) -> None:
    from sweeps import sweep_file

    shown = [line.removeprefix("    ") for line in str(sweep_file.__doc__).splitlines() if line.startswith("    ")]
    _, sweep = read_sweep(written(tmp_path, "\n".join(shown)))
    assert [column.label for column in sweep.columns][2:] == ["erdp, alpha = 0.1", "td3-bc, twice the weight"]


def test_the_command_takes_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = ("--ledger", str(tmp_path / "runs"), "--seeds", "2", "--dry-run")
    assert run_ablation.main(["--ablation", str(written(tmp_path, WHOLE)), *ledger]) == 0
    printed = capsys.readouterr().out
    assert "table ablation-alpha-by-beta" in printed
    assert "8 runs (1 task x 4 methods x 2 seeds)" in printed
    without_tasks = ["--ablation", str(written(tmp_path, SMALLEST)), *ledger]
    assert run_ablation.main(without_tasks) == 2
    assert "names no tasks: give some with --tasks" in capsys.readouterr().err
    assert run_ablation.main([*without_tasks, "--tasks", "pointmaze-umaze"]) == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = ", "is no TOML: "),
        ('[[columns]]\nmethod = "bc"', "key 'name' is missing: a sweep needs name and columns"),
        ('name = "one"', "key 'columns' is missing"),
        ("name = " + "1" * 5000, "cannot be read: "),
        (f'{SMALLEST}label = "a\\nb"', "is no text"),
        ('name = "a/b"\ncolumns = []', "name='a/b' is not of letters"),
        ('name = "parts"\ncolumns = []', "name='parts' is an ablation's: take another one"),
        ('name = "one"\ncolumns = []', r"columns are no tables: write \[\[columns\]\]"),
        (f'task = "x"\n{SMALLEST}', "unknown key 'task': did you mean 'tasks'"),
        (f'tasks = "x"\n{SMALLEST}', "tasks='x' is no list of texts"),
        (f"{SMALLEST}value = 3", r"unknown key 'columns\[1\].value': did you mean 'values'"),
        ('name = "one"\n[[columns]]\nlabel = "x"', r"key 'columns\[1\].method' is missing"),
        ('name = "one"\n[[columns]]\nmethod = "erdb"', r"columns\[1\].method='erdb' is no method: did you mean 'erdp'"),
        (f'{SMALLEST}setting = "agent.width"', r"columns\[1\].setting and values go together"),
        (f'{SMALLEST}setting = "agent.width"\nvalues = []', r"columns\[1\].values=\[\] is no list"),
        (f'{SMALLEST}setting = "agent.alpha"\nvalues = [1]', "agent.alpha is a setting of"),
        (f'{SMALLEST}setting = "agent.width"\nvalues = ["wide"]', "agent.width='wide' is not of type int"),
        (f'{SMALLEST}[[columns]]\nmethod = "bc"', "two columns are called 'bc': give each a label of its own"),
    ],
)
def test_mistakes_are_one_line(text: str, message: str, tmp_path: Path) -> None:
    path = written(tmp_path, text)
    with pytest.raises(UserError, match=message) as error:
        read_sweep(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"^no sweep file {tmp_path}/none.toml$"):
        read_sweep(tmp_path / "none.toml")
