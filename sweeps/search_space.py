"""What a search varies: settings of a method that are numbers, each between two values."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from optuna.trial import Trial

from erdp_core.config import check_settings, numeric_settings, parse_settings
from erdp_core.errors import UserError, suggestion

DEFAULT_SPACE = ("agent.alpha=0.001:0.3:log",)
DIGITS = 4
"""Of a proposal: what a user can type."""


@dataclass(frozen=True)
class Range:
    """A setting and the values that it may take, both ends included."""

    key: str
    """`agent.alpha`"""
    low: float
    high: float
    is_log: bool
    """Proposed evenly by order of magnitude."""
    is_whole: bool

    @property
    def symbol(self) -> str:
        """`alpha`"""
        return self.key.rpartition(".")[2]

    def proposed(self, trial: Trial) -> str:
        """What a trial proposes: `agent.alpha=0.01234`."""
        if self.is_whole:
            return self.setting(trial.suggest_int(self.key, int(self.low), int(self.high), log=self.is_log))
        return self.setting(trial.suggest_float(self.key, self.low, self.high, log=self.is_log))

    def setting(self, value: float) -> str:
        """A value as `--set` takes it."""
        return f"{self.key}={int(value) if self.is_whole else f'{value:.{DIGITS}g}'}"


def parse_space(texts: Sequence[str], method: str) -> tuple[Range, ...]:
    """Ranges written as `agent.alpha=0.001:0.3:log`, or without `:log`.

    Raises UserError for what is no such text, no number of the method's, or no range.
    """
    known = numeric_settings(method)
    ranges: list[Range] = []
    for text in texts:
        match = re.fullmatch(r"([^=]+)=([^:]+):([^:]+)(:log)?", text)
        if match is None:
            raise UserError(f"--space takes KEY=LOW:HIGH or KEY=LOW:HIGH:log, not {text!r}")
        key, low_text, high_text, log = match.groups()
        if key not in known:
            raise UserError(f"--space {text}: {key} is no number of {method}'s: {suggestion(key, known)}")
        if key in [other.key for other in ranges]:
            raise UserError(f"--space gives {key} twice")
        low, high = (_value(key, end, method) for end in (low_text, high_text))
        if not low < high:
            raise UserError(f"--space {text}: {low:g} is not less than {high:g}")
        if log and low <= 0:
            raise UserError(f"--space {text}: a range that goes by orders of magnitude begins above 0, not at {low:g}")
        ranges.append(Range(key, low, high, bool(log), known[key] is int))
    return tuple(ranges)


def _value(key: str, text: str, method: str) -> float:
    check_settings([f"{key}={text}"], [method])
    group, name = key.split(".", 1)
    return float(parse_settings([f"{key}={text}"])[group][name])
