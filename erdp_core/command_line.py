"""What every command line shares: one-line errors, exit status 2 for a user's mistake."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from erdp_core.errors import UserError


class Parser(argparse.ArgumentParser):
    """An argument parser whose help keeps the examples' lines and whose errors are one line."""

    def __init__(self, description: str, examples: str) -> None:
        super().__init__(
            description=description,
            epilog=f"examples:\n{examples}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self.register("action", None, _StoreOnce)

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and where help is."""
        self.exit(2, f"error: {message} (--help shows the options)\n")


class _StoreOnce(argparse.Action):
    """An option's value; giving the option again is a mistake, not a change of mind."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        given: set[str] = namespace.__dict__.setdefault("_given", set())
        if option_string and self.dest in given:
            parser.error(f"{option_string} is given twice" + (": put all after one" if self.nargs else ""))
        given.add(self.dest)
        setattr(namespace, self.dest, values)


def counted(number: int, thing: str) -> str:
    """A number of things in words: 1 run, 2 runs."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def user_path(text: str | Path) -> Path:
    """A path as a user wrote it, `~` expanded. Raises UserError where that user has no home."""
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise UserError(f"{text}: {error}") from None


def run(
    command: Callable[[Sequence[str] | None], int],
    argv: Sequence[str] | None = None,
    stopped: str = "the same command goes on from what is done",
) -> int:
    """The exit status of a command; a mistake of the user's, or of a path of theirs, is told in one line: status 2.

    `stopped`: what to tell who interrupts it.
    """
    try:
        return command(argv)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # Whoever read the output has had enough; nothing more may go there, not even when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        print(f"error: {error.filename or 'a file'} cannot be used: {error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"stopped: {stopped}", file=sys.stderr)
        return 130
