"""What every test shares: quiet libraries, one thread a process, folders of its own, the real data."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

# Read by torch when it is first imported, and by processes that tests start: test processes share the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Compiled forms of their own: those of a test process may refer to test modules, which no other process can load.
os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(Path(tempfile.gettempdir()) / f"erdp-bench-tests-{os.getuid()}")
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["GIT_PYTHON_REFRESH"] = "quiet"

if "CI" not in os.environ:  # there hypothesis has a profile of its own: the same examples every time, no deadline
    hypothesis.settings.register_profile("busy machine", deadline=None)
    hypothesis.settings.load_profile("busy machine")


LONGEST = ("test_readme.py", "test_run_table.py", "test_tune_alpha.py")
"""These files begin first, the longest of all ahead, and the others fill the cores that they leave."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))


@pytest.fixture(scope="session", autouse=True)
def own_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or writes the ledger, tracker, datasets or cache of whoever runs it."""
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("ERDP_LEDGER", "MLFLOW_TRACKING_URI"):
            patch.delenv(variable, raising=False)
        for variable in ("D4RL_DATASET_DIR", "MINARI_DATASETS_PATH", "ERDP_CACHE_DIR"):
            patch.setenv(variable, str(tmp_path_factory.mktemp(variable.lower())))
        yield


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real datasets in D4RL's layout."""
    folder = os.environ.get("ERDP_TEST_DATA")
    if folder is None:
        pytest.skip("ERDP_TEST_DATA does not name the folder of real datasets")
    return Path(folder)
