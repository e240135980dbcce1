"""A SQLite database for MLflow, made whole or not at all.

MLflow lays its tables out in dozens of small transactions, and a database whose maker died in between is refused from
then on. Here the layout is made aside and copied in one transaction; who dies before its end leaves an empty file,
which the next one fills.
"""

import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path


def lay_out(database: sqlite3.Connection) -> None:
    """Give an empty database MLflow's tables; one that has any tables is left as it is.

    Safe against a second process that does the same. Raises sqlite3.Error where the file cannot be used.
    """
    if _has_tables(database):
        return
    statements = _blank()
    database.isolation_level = None  # transactions are ours: the module's own end before every CREATE
    database.execute("BEGIN EXCLUSIVE")
    database.execute("PRAGMA defer_foreign_keys = ON")  # tables come in the order of their names
    try:
        if not _has_tables(database):
            for statement in statements:
                database.execute(statement)
    except BaseException:
        database.execute("ROLLBACK")
        raise
    database.execute("COMMIT")


def _has_tables(database: sqlite3.Connection) -> bool:
    return bool(database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])


def _blank() -> list[str]:
    """The statements that make an empty tracker, by MLflow itself."""
    from mlflow import MlflowClient

    with tempfile.TemporaryDirectory(prefix="erdp-tracker-") as folder:
        path = Path(folder) / "blank.db"
        MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
        with closing(sqlite3.connect(path)) as database:
            begin, *statements, commit = database.iterdump()
    assert (begin, commit) == ("BEGIN TRANSACTION;", "COMMIT;")
    return statements
