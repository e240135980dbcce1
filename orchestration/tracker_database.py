"""A SQLite database for MLflow, made whole or not at all.

MLflow lays its tables out in dozens of small transactions, and a database whose maker died in between is refused from
then on. Here the layout is made aside and copied in one transaction; who dies before its end leaves an empty file,
which the next one fills.
"""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine


def lay_out(engine: "Engine") -> None:
    """Give an empty SQLite database MLflow's tables; one that has any tables is left as it is.

    Safe against a second process that does the same. Raises sqlite3.Error where the file cannot be used.
    """
    connection = engine.raw_connection()
    try:
        database = connection.driver_connection
        assert database is not None, "a new connection has a driver's"
        if _has_tables(database):
            return
        statements = _blank()
        database.isolation_level = None  # transactions are ours: the driver's own end before every CREATE
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
    finally:
        connection.close()


def _has_tables(database: Any) -> bool:
    return bool(database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])


def _blank() -> list[str]:
    """The statements that make an empty tracker, by MLflow itself."""
    import sqlite3

    from mlflow import MlflowClient

    with tempfile.TemporaryDirectory(prefix="erdp-tracker-") as folder:
        path = Path(folder) / "blank.db"
        MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
        database = sqlite3.connect(path)
        begin, *statements, commit = database.iterdump()
        database.close()
    assert (begin, commit) == ("BEGIN TRANSACTION;", "COMMIT;")
    return statements
