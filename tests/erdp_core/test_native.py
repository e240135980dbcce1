"""The library is built once for a kind of processor, and a machine that cannot build it is told and does without."""

import ctypes
import stat
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from erdp_core import native

pytestmark = pytest.mark.skipif(native.compiler() is None, reason="there is no C++ compiler")


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[], ctypes.CDLL | None]]:
    """Loads anew, with an empty cache of its own."""
    monkeypatch.setenv("ERDP_CACHE_DIR", str(tmp_path / "cache"))
    load: Callable[[], ctypes.CDLL | None] = native.library.__wrapped__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield load


def built(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache" / "passes").iterdir())


def fake_compiler(folder: Path, script: str) -> str:
    path = folder / "c++"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_it_is_built_once(library: Callable[[], ctypes.CDLL | None], tmp_path: Path) -> None:
    assert library() is not None
    [path] = built(tmp_path)
    made = path.stat().st_mtime_ns
    assert library() is not None
    assert [one.stat().st_mtime_ns for one in built(tmp_path)] == [made]


def test_another_compiler_builds_another(
    library: Callable[[], ctypes.CDLL | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert library() is not None
    monkeypatch.setenv("CXX", "g++ -O1")
    assert library() is not None
    assert len(built(tmp_path)) == 2


def test_a_damaged_one_is_built_anew(library: Callable[[], ctypes.CDLL | None], tmp_path: Path) -> None:
    (tmp_path / "cache" / "passes").mkdir(parents=True)
    path = tmp_path / "cache" / "passes" / f"{native._kind(['g++'])}.so"
    path.write_bytes(b"torn")
    assert library() is not None
    assert path.stat().st_size > 1000


def test_without_a_cache_it_is_built_for_the_process(library: Callable[[], ctypes.CDLL | None], tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("no folder")
    found = library()
    assert found is not None
    assert found.mish_of_sum_float32


def test_a_compiler_that_fails_is_told(
    library: Callable[[], ctypes.CDLL | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = (
        'test "$1" = --version && exit 0; echo "passes.cpp:1: warning: old"; echo "fatal error: no cmath" >&2; exit 1'
    )
    monkeypatch.setenv("CXX", fake_compiler(tmp_path, script))
    with pytest.warns(
        UserWarning, match=r"the passes over memory could not be compiled, steps take longer: fatal error: no cmath"
    ):
        assert library() is None
    assert built(tmp_path) == []


def test_no_compiler_is_no_news(
    library: Callable[[], ctypes.CDLL | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The set-up has told."""
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert library() is None


def test_the_compiler_is_looked_for_by_its_names(monkeypatch: pytest.MonkeyPatch) -> None:
    for present, asked, found in (
        ("g++", "", ["g++"]),
        ("clang++", "", ["clang++"]),
        ("my-c++", "my-c++ -g", ["my-c++", "-g"]),
        ("g++", "missing", ["g++"]),
        ("cc", "", None),
    ):
        monkeypatch.setattr("shutil.which", {present: present}.get)
        monkeypatch.setenv("CXX", asked)
        assert native.compiler() == found
