"""TOML files that people write: what is wrong with one is told in one line that begins with its name."""

import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from erdp_core.errors import UserError, suggestion

T = TypeVar("T")


def read_toml(path: Path, kind: str, read: Callable[[Mapping[str, Any]], T]) -> T:
    """What `read` makes of a file's content.

    kind: of file, as a message names it. Raises UserError for a file that is missing or no TOML, and those of `read`.
    """
    try:
        return read(tomllib.loads(path.read_text()))
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path} is no TOML: {error}") from None
    except (OverflowError, RecursionError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is no TOML: it is not text in UTF-8") from None
    except ValueError as error:  # an integer of thousands of digits
        raise UserError(f"{path} cannot be read: {error}") from None
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except FileNotFoundError:
        raise UserError(f"no {kind} {path}") from None


def check_keys(content: Mapping[str, Any], known: tuple[str, ...], prefix: str = "") -> None:
    """Raise UserError for a key that is not known; the nearest one is named."""
    for key in content:
        if key not in known:
            raise UserError(f"unknown key {prefix + key!r}: {suggestion(key, known)}")


def text(content: Mapping[str, Any], key: str) -> str:
    """A key's value. Raises UserError where it is no text, empty, or has characters that cannot be printed."""
    if not isinstance(content[key], str) or not content[key] or not content[key].isprintable():
        raise UserError(f"{key}={content[key]!r} is no text")
    return str(content[key])


def texts(content: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """A key's list of texts, empty where it is missing. Raises UserError for anything else."""
    value = content.get(key, [])
    if not isinstance(value, list) or not all(isinstance(one, str) and one for one in value):
        raise UserError(f"{key}={value!r} is no list of texts")
    return tuple(value)
