"""Writing what this package makes."""

from pathlib import Path

from erdp_core.errors import UserError
from orchestration.ledger import write_file


def write_result(path: Path, content: bytes) -> Path:
    """Write a file whole or not at all, making its folder where it is missing. Raises UserError where it cannot be."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, content)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}): choose another folder") from None
    return path
