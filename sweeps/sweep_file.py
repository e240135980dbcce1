"""A sweep of the user's own, from a TOML file, in the words of `ablations`.

    name = "alpha-by-beta"             # names its tables
    tasks = ["pointmaze-medium"]       # unless --tasks names others

    [[columns]]                        # a column for each value of a setting
    method = "erdp"
    setting = "agent.alpha"
    values = [0, 0.01, 0.1]
    settings = ["agent.beta=2"]        # which all of them have beside it

    [[columns]]                        # one column
    label = "td3-bc, twice the weight"
    method = "td3-bc"
    settings = ["agent.q_weight=5"]

`tasks` and every `settings` may be left out; so may the label, which is then the method's name.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from erdp_core.agent_configs import METHODS
from erdp_core.config import check_settings
from erdp_core.errors import UserError, suggestion
from erdp_core.toml_file import check_keys, read_toml, text, texts
from orchestration.plan import Column
from sweeps.ablations import ABLATIONS, Ablation, columns_of

REQUIRED = ("name", "columns")
OF_A_COLUMN = ("label", "method", "setting", "values", "settings")


def read_sweep(path: Path) -> tuple[str, Ablation]:
    """The sweep that a file describes, with its name.

    Raises UserError, in one line that begins with the file's name, for a file that is missing or no TOML, lacks a key
    or has an unknown one, or whose columns make no sense.
    """
    return read_toml(path, "sweep file", _sweep)


def _sweep(content: Mapping[str, Any]) -> tuple[str, Ablation]:
    check_keys(content, (*REQUIRED, "tasks"))
    for key in REQUIRED:
        if key not in content:
            raise UserError(f"key {key!r} is missing: a sweep needs {' and '.join(REQUIRED)}")
    name = text(content, "name")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", name):
        raise UserError(f"name={name!r} is not of letters, digits, - and _ (64 at most), as folders are named by it")
    if name in ABLATIONS:
        raise UserError(f"name={name!r} is an ablation's: take another one")
    tables = content["columns"]
    if not isinstance(tables, list) or not tables or not all(isinstance(one, dict) for one in tables):
        raise UserError("columns are no tables: write [[columns]] and the keys of each below it")
    columns = tuple(column for number, table in enumerate(tables, start=1) for column in _columns(table, number))
    labels = [column.label for column in columns]
    for label in labels:
        if labels.count(label) > 1:
            raise UserError(f"two columns are called {label!r}: give each a label of its own")
    return name, Ablation(f"{name}, a sweep of your own", texts(content, "tasks"), columns)


def _columns(table: Mapping[str, Any], number: int) -> tuple[Column, ...]:
    where = f"columns[{number}]."
    check_keys(table, OF_A_COLUMN, where)
    if "method" not in table:
        raise UserError(f"key {where + 'method'!r} is missing")
    method, settings = text(table, "method"), texts(table, "settings")
    if method not in METHODS:
        raise UserError(f"{where}method={method!r} is no method: {suggestion(method, METHODS)}")
    if "setting" not in table and "values" not in table:
        columns: tuple[Column, ...] = (Column(text(table, "label") if "label" in table else method, method, settings),)
    elif "setting" not in table or "values" not in table or "label" in table:
        raise UserError(f"{where}setting and values go together, and without a label: each value has a column")
    else:
        values = table["values"]
        if not isinstance(values, list) or not values:
            raise UserError(f"{where}values={values!r} is no list with values in it")
        columns = columns_of(method, text(table, "setting"), [_as_set(value) for value in values], settings)
    for column in columns:
        check_settings(column.settings, [method])
    return columns


def _as_set(value: Any) -> str:
    """A value as `--set` takes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)
