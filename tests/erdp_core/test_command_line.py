"""What every command line shares: options given twice, readers that have had enough."""

import subprocess
import sys

import pytest

from erdp_core.command_line import Parser


def parser() -> Parser:
    made = Parser("A command.", "  command --one 1")
    made.add_argument("--one", default="default")
    made.add_argument("--some", nargs="+", default=[])
    made.add_argument("--more", nargs="+", action="extend", default=[])
    made.add_argument("tasks", nargs="*")
    return made


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--one", "1", "--one", "2"], "--one is given twice"),
        (["--some", "1", "--one", "1", "--some", "2"], "--some is given twice: put all after one"),
    ],
)
def test_an_option_given_twice_is_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        parser().parse_args(arguments)
    assert stop.value.code == 2
    assert capsys.readouterr().err == f"error: {message} (--help shows the options)\n"


def test_options_given_once_or_made_to_be_repeated_are_taken() -> None:
    one = parser()
    for _ in range(2):  # a parser may be used again
        found = one.parse_args(["a", "--one", "1", "--some", "1", "2", "--more", "3", "--more", "4"])
        assert (found.one, found.some, found.more, found.tasks) == ("1", ["1", "2"], ["3", "4"], ["a"])


def test_a_reader_that_has_had_enough_is_no_error() -> None:
    script = (
        "import sys; from erdp_core.command_line import run; sys.exit(run(lambda _: print('line\\n' * 100_000) or 0))"
    )
    command = [sys.executable, "-c", script]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == "line\n"
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(30) == 1
