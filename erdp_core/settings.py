"""Fields of configs: their limits, and the check of every value against type, choices and limits."""

import dataclasses
import typing
from dataclasses import field
from typing import Any, Literal

from erdp_core.errors import ConfigError


def number(default: Any, low: float, high: float) -> Any:
    """A field with limits, both allowed."""
    return field(default=default, metadata={"low": low, "high": high})


def check(prefix: str, config: Any) -> None:
    """Check each field of a config against its declared type, choices and limits; whole numbers become floats."""
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        checked = check_value(f"{prefix}.{item.name}", value, type(config), item.name)
        object.__setattr__(config, item.name, checked)


def check_value(key: str, value: Any, cls: type[Any], name: str) -> Any:
    """The value as its field holds it. Raises ConfigError that names what is allowed."""
    hint = typing.get_type_hints(cls)[name]
    if typing.get_origin(hint) is Literal:
        choices = typing.get_args(hint)
        if value not in choices:
            raise ConfigError(f"{key}={value!r} is not one of {', '.join(map(str, choices))}")
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ConfigError(f"{key}={value!r} is not of type {hint.__name__}")
    limits = cls.__dataclass_fields__[name].metadata
    if "low" in limits and not limits["low"] <= value <= limits["high"]:
        raise ConfigError(f"{key}={value!r} is outside [{limits['low']}, {limits['high']}]")
    return value
