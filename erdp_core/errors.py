"""Mistakes a user can make, told in one line that says what to do."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake of the user's: command lines print it as one line and exit with status 2."""


class ConfigError(UserError):
    """A setting that does not exist, has the wrong type, is out of range, or clashes with another."""


class DataError(UserError):
    """A dataset that is missing, damaged, or does not fit the task."""


class MissingDataError(DataError):
    """A dataset that is not on this machine: the message says how to get it."""


def suggestion(name: str, valid: Iterable[str]) -> str:
    """The ending of an error about an unknown name: the nearest valid name, or all of them."""
    names = sorted(valid)
    # Letters swapped or in the wrong case come before letters that are missing.
    same = [valid_name for valid_name in names if sorted(valid_name.lower()) == sorted(name.lower())]
    same.sort(key=lambda valid_name: valid_name.lower() != name.lower())
    close = same or difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else f"valid names: {', '.join(names)}"
