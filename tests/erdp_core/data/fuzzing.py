"""Files made to be wrong: how HDF5 keys can be wrong, what may become of such a file, and counts of what did."""

import os
import re
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from erdp_core.data.transitions import COLUMNS, Dataset
from erdp_core.errors import DataError

EXAMPLES = int(os.environ.get("ERDP_FUZZ_EXAMPLES", "100"))
Row = tuple[list[float], list[float], list[float], float, float]
Keys = tuple[str, ...]
Change = Callable[["h5py.Group"], None]
REFUSALS = {
    "damaged": "is damaged, cut short or not an HDF5 file",
    "key missing": "^[^ ]+: key '[^']+' is missing",
    "key not numeric": "is not numeric",
    "key without rows or columns": "key '[^']+' is empty$",
    "rows never written": "has rows that were never written",
    "key of a wrong shape": r"has shape \(.*\), not \[",
    "keys of unequal length": "keys of unequal length|[0-9]+ rewards but [0-9]+ ",
    "not finite": "values that are NaN or infinite",
    "actions out of range": r"action values lie outside \[-1, 1\]",
    "no transition": "no transition in it",
    "AntMaze rewards": "AntMaze's rewards are 0, and 1 for success",
    "wrong sizes": "of size [0-9]+, (not|but those of)|are not of one size",
    "observations of parts": "are not flat vectors but of parts",
    "episodes missing": "it should have .* episodes, numbered from 0",
    "metadata damaged": "its metadata (cannot be read|are no dictionary)",
}
"""Kinds of errors, for files that nobody can read."""
STRICT_REFUSALS = {
    "values in another file": "lie in another file",
    "attributes unreadable": "its attribute .* cannot be read|its env_spec cannot be read",
    "another environment": "which does not fit|were not recorded in the same environment",
    "evaluation goal": r"is not \[x, y\]",
    "another format": "is stored as",
}
"""Kinds of errors, for files whose transitions could be read but are not to be trusted, or not for this task."""
TYPES = (
    *("f2", "f4", "f8", ">f4", ">f8", "g", "i1", "u1", ">i4", "i8", "u8", "?", "c8", "S3", "V5", "f4,i4"),
    *("string", "vlen", "reference", "region", "enum", "opaque"),
)
STORAGE = ("gzip", "lzf", "shuffle", "checksum", "unlimited", "scaled")
UNWRITTEN = ("unwritten", "half", "huge")
LINKS = ("hard link", "soft link")
PLACES = (
    *("group", "type", "dangling", "loop", "away", "elsewhere", *LINKS),
    *("virtual", "virtual there", "raw", "raw there", "through a group"),
)


def outcome(load: Callable[[], Dataset], reference: Callable[[], list[Row] | None]) -> str:
    """What became of a file: `read`, or a kind of error; fails where it was refused badly or read wrongly.

    `reference`: what a slow reading makes of it; None for what nobody can read.
    """
    try:
        dataset = load()
    except DataError as error:
        message = str(error)
    else:
        check(dataset, reference())
        again = load()  # from the cache
        assert again.fingerprint == dataset.fingerprint == dataset.transitions.fingerprint()
        assert (again.notes, again.environment) == (dataset.notes, dataset.environment)
        return "read"
    assert message.splitlines() == [message]
    message.encode()  # a terminal can show it
    assert len(message) < 2500
    for kind, pattern in STRICT_REFUSALS.items():
        if re.search(pattern, message):
            return kind
    assert reference() is None, f"refused, though it can be read: {message}"
    kinds = [kind for kind, pattern in REFUSALS.items() if re.search(pattern, message)]
    assert kinds, f"an error of no known kind: {message}"
    return kinds[0]


def check(dataset: Dataset, expected: list[Row] | None) -> None:
    """Its transitions are those of a slow reading, bit for bit."""
    assert expected is not None, "read, though nobody can"
    for note in dataset.notes:
        assert note.splitlines() == [note]
    for name, theirs in zip(COLUMNS, zip(*expected, strict=True), strict=True):
        ours = getattr(dataset.transitions, name)
        assert ours.dtype == np.float32
        np.testing.assert_array_equal(ours, np.array(theirs, np.float32))


def examine(name: str, examples: st.SearchStrategy[Any], examined: Callable[[Any], str]) -> float:
    """Many examples, each of which `examined` holds to its reference; returns the share of them that were read."""
    outcomes: Counter[str] = Counter()

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
    @given(examples)
    def one(example: Any) -> None:
        outcomes[examined(example)] += 1

    one()
    print(f"{name}: {outcomes.total()} examples: {dict(outcomes.most_common())}")
    return outcomes["read"] / outcomes.total()


def put(file: "h5py.Group", name: str, data: Any, **options: Any) -> None:
    if name in file:
        del file[name]
    file.create_dataset(name, data=data, **options)


def values(file: "h5py.Group", name: str) -> np.ndarray:
    """What a key holds now; rows of numbers where an earlier change left none."""
    item = file.get(name)
    if not isinstance(item, h5py.Dataset) or item.shape in (None, ()):
        return np.zeros((5, 2))
    try:
        found = np.asarray(item[()])
    except (OSError, TypeError):
        return np.zeros((5, 2))
    return found if found.dtype.kind in "biuf" else np.zeros((5, 2))


@st.composite
def dropped(draw: st.DrawFn, keys: Keys) -> Change:
    name = draw(st.sampled_from(keys))
    return lambda file: file.pop(name, None)


@st.composite
def retyped(draw: st.DrawFn, keys: Keys, types: tuple[str, ...]) -> Change:
    name = draw(st.sampled_from(keys))
    dtype = draw(st.sampled_from(types))

    def change(file: "h5py.Group") -> None:
        array = values(file, name)
        if dtype == "string":
            put(file, name, array.astype("U8").astype(object), dtype=h5py.string_dtype())
        elif dtype == "vlen":
            put(file, name, None, shape=(len(array),), dtype=h5py.vlen_dtype(np.float64))
            for row in range(len(array)):
                file[name][row] = np.zeros(row)
        elif dtype in ("reference", "region"):
            reference = h5py.ref_dtype if dtype == "reference" else h5py.regionref_dtype
            put(file, name, None, shape=array.shape, dtype=reference)
        elif dtype == "enum":
            put(file, name, array != 0, dtype=h5py.enum_dtype({"no": 0, "yes": 1}, "i1"))
        elif dtype == "opaque":
            put(file, name, array.astype("f8").astype("M8[s]").astype(h5py.opaque_dtype("M8[s]")))
        elif dtype == "f4,i4":
            put(file, name, np.zeros(len(array), dtype))
        else:
            with np.errstate(all="ignore"):
                put(file, name, array.astype(dtype))

    return change


@st.composite
def reshaped(draw: st.DrawFn, keys: Keys) -> Change:
    name = draw(st.sampled_from(keys))
    form = draw(st.sampled_from(["column", "row", "flat", "scalar", "deep", "no columns", "no rows", "null"]))

    def change(file: "h5py.Group") -> None:
        array = values(file, name)
        shaped = {
            "column": lambda: array.reshape(-1, 1),
            "row": lambda: array.reshape(1, -1),
            "flat": lambda: array.reshape(-1),
            "scalar": lambda: array.flat[0] if array.size else 0.0,
            "deep": lambda: array[..., None, None],
            "no columns": lambda: np.zeros((len(array), 0)),
            "no rows": lambda: array[:0],
            "null": lambda: h5py.Empty("f4"),
        }
        put(file, name, shaped[form]())

    return change


@st.composite
def relengthened(draw: st.DrawFn, keys: Keys) -> Change:
    names, rows = draw(st.lists(st.sampled_from(keys), min_size=1, max_size=5, unique=True)), draw(st.integers(0, 4))

    def change(file: "h5py.Group") -> None:
        for name in names:
            if name in file:
                put(file, name, values(file, name)[:rows])

    return change


@st.composite
def poked(draw: st.DrawFn, keys: Keys, numbers: tuple[float, ...]) -> Change:
    name, place = draw(st.sampled_from(keys)), draw(st.integers(0, 200))
    value = draw(st.sampled_from(numbers))

    def change(file: "h5py.Group") -> None:
        array = values(file, name).astype(np.float64)
        if array.size:
            array.flat[place % array.size] = value
        put(file, name, array)

    return change


@st.composite
def stored_otherwise(draw: st.DrawFn, keys: Keys, storage: tuple[str, ...]) -> Change:
    name = draw(st.sampled_from(keys))
    chunk = draw(st.integers(1, 20))
    how = draw(st.sampled_from(storage))

    def change(file: "h5py.Group") -> None:
        array = values(file, name)
        if array.ndim == 0 or array.size == 0:
            return
        chunks = (min(chunk, len(array)), *array.shape[1:])
        if how in ("gzip", "lzf"):
            put(file, name, array, chunks=chunks, compression=how)
        elif how == "shuffle":
            put(file, name, array, chunks=chunks, shuffle=True, compression="gzip")
        elif how == "checksum":
            put(file, name, array, chunks=chunks, fletcher32=True)
        elif how == "unlimited":
            put(file, name, array, chunks=chunks, maxshape=(None, *array.shape[1:]))
        elif how == "scaled":
            put(file, name, array.astype("f4"), chunks=chunks, scaleoffset=2)
        elif how == "unwritten":
            put(file, name, None, shape=array.shape, dtype="f4")
        elif how == "half":
            put(file, name, None, shape=array.shape, dtype="f4", chunks=(1, *array.shape[1:]))
            file[name][: len(array) // 2] = array[: len(array) // 2]
        else:
            put(file, name, None, shape=(2**45, *array.shape[1:]), dtype="f4", chunks=(1024, *array.shape[1:]))

    return change


def written(dataset: "h5py.Dataset") -> bool:
    """Whether all rows were ever written: HDF5 reads others as zeros."""
    if dataset.chunks is None:
        return dataset.size == 0 or dataset.id.get_storage_size() > 0
    pieces = [-(-rows // chunk) for rows, chunk in zip(dataset.shape, dataset.chunks, strict=True)]
    return int(dataset.id.get_num_chunks()) == int(np.prod(pieces))


def rescaled(factor: float, shift: float) -> Change:
    """Rewards of another scale."""
    return lambda group: put(group, "rewards", factor * values(group, "rewards").astype("f8") + shift)


@st.composite
def misplaced(draw: st.DrawFn, keys: Keys, places: tuple[str, ...]) -> Change:
    name = draw(st.sampled_from(keys))
    what = draw(st.sampled_from(places))

    def change(file: "h5py.Group") -> None:
        array = values(file, name)
        file.pop(name, None)
        unique = uuid.uuid4().hex
        other = Path(file.file.filename).with_name(f"other-{unique}.hdf5")
        if what == "group":
            file.create_group(name)["inner"] = array
        elif what == "type":
            file[name] = np.dtype("f4")
        elif what == "dangling":
            file[name] = h5py.SoftLink("/nowhere")
        elif what == "loop":
            file[name] = h5py.SoftLink(f"/{name}")
        elif what in ("away", "virtual", "raw"):
            if what == "away":
                file[name] = h5py.ExternalLink(str(other), "/x")
            elif what == "raw":
                file.create_dataset(name, array.shape, "f8", external=[(str(other), 0, h5py.h5f.UNLIMITED)])
            else:
                layout = h5py.VirtualLayout(array.shape, "f8")
                layout[...] = h5py.VirtualSource(str(other), "x", array.shape)
                file.create_virtual_dataset(name, layout)
        elif what in ("elsewhere", "virtual there"):
            with h5py.File(other, "w") as there:
                there["x"] = array
            if what == "elsewhere":
                file[name] = h5py.ExternalLink(str(other), "/x")
            else:
                layout = h5py.VirtualLayout(array.shape, array.dtype)
                layout[...] = h5py.VirtualSource(str(other), "x", array.shape, array.dtype)
                file.create_virtual_dataset(name, layout)
        elif what == "raw there":
            other.write_bytes(array.astype("f8").tobytes())
            file.create_dataset(name, array.shape, "f8", external=[(str(other), 0, array.size * 8)])
        elif what == "through a group":
            with h5py.File(other, "w") as there:
                there[f"g/{name}"] = array
            file.file[f"via-{unique}"] = h5py.ExternalLink(str(other), "/g")
            file[name] = h5py.SoftLink(f"/via-{unique}/{name}")
        else:
            file.file[f"kept-{unique}"] = array
            kept = f"/kept-{unique}"
            file[name] = file.file[kept] if what == "hard link" else h5py.SoftLink(kept)

    return change


def time_stamps(file: "h5py.Group") -> None:
    """Numbers of a type that NumPy does not know."""
    file.pop("rewards", None)
    h5py.h5d.create(file.id, b"rewards", h5py.h5t.UNIX_D32LE, h5py.h5s.create_simple((5,)))


def wrong_keys(keys: Keys) -> st.SearchStrategy[Change]:
    """Changes of a group of such keys, most of which make it unreadable."""
    return st.one_of(
        dropped(keys),
        retyped(keys, TYPES),
        reshaped(keys),
        relengthened(keys),
        poked(keys, (np.nan, np.inf, -np.inf, 1e300, -1.1, 2.0, 3e38)),
        stored_otherwise(keys, (*STORAGE, *UNWRITTEN)),
        misplaced(keys, PLACES),
        st.just(time_stamps),
    )


def other_keys(keys: Keys) -> st.SearchStrategy[Change]:
    """Changes of a group of such keys that leave it readable."""
    return st.one_of(
        retyped(keys, ("f4", "f8", ">f4", ">f8", "g")),
        poked(keys, (1e-300, 1.0000001, 0.5, 0.0, 1.0)),
        stored_otherwise(keys, STORAGE),
        misplaced(keys, LINKS),
    )


@st.composite
def remarked(draw: st.DrawFn, names: Keys) -> Change:
    """Attributes of every kind."""
    name = draw(st.sampled_from(names))
    value = draw(
        st.one_of(
            st.sampled_from(
                ["pointmaze-umaze", "pointmaze-large", "Hopper-v5", b"pointmaze-umaze", "D4RL-compatible AntMaze, x"]
            ),
            st.text(max_size=20).filter(lambda text: "\0" not in text),
            st.binary(max_size=20).filter(lambda text: b"\0" not in text and text != b""),
            st.floats(),
            st.lists(st.floats(), max_size=4).map(lambda numbers: np.array(numbers, np.float64)),
            st.sampled_from(
                [
                    "x" * 60_000,
                    "word " * 200_000,  # which only the newer of HDF5's formats takes
                    "line\nline\r\nline",
                    np.zeros(7000),
                    np.zeros(10**6),
                    np.zeros((2, 2, 2), "c8"),
                    h5py.Empty("f4"),
                    h5py.Empty("S5"),
                    np.array([b"a", b"b"]),
                    np.zeros(2, "f4,i4"),
                    np.void(b"\x00\xff"),
                    np.bool_(True),
                ]
            ),
        )
    )

    def change(file: "h5py.File") -> None:
        file.attrs[name] = value

    return change


@st.composite
def referenced(draw: st.DrawFn) -> Change:
    """Attributes that h5py gives as objects of its own."""
    name = draw(st.sampled_from(["environment", "evaluation_goal", "note"]))
    kind = draw(st.sampled_from(["reference", "null reference", "vlen", "enum", "time"]))

    def change(file: "h5py.File") -> None:
        if kind == "time":
            space = h5py.h5s.create(h5py.h5s.SCALAR)
            h5py.h5a.create(file.id, name.encode() + b"-2", h5py.h5t.UNIX_D32LE, space)
            if name not in file.attrs:
                h5py.h5a.create(file.id, name.encode(), h5py.h5t.UNIX_D32LE, space)
        elif kind == "vlen":
            numbers = np.array([np.zeros(1), np.zeros(2)], object)
            file.attrs.create(name, numbers, (2,), h5py.vlen_dtype(np.float64))
        elif kind == "enum":
            file.attrs.create(name, 1, dtype=h5py.enum_dtype({"a": 1}, "i1"))
        else:
            file.attrs[name] = file.ref if kind == "reference" else h5py.Reference()

    return change


def extra_names(file: "h5py.Group") -> None:
    if "column-0" not in file:
        for name in ("new\nline", b"\xff no utf-8", *(f"column-{number}" for number in range(100))):
            file[name] = np.zeros(3)


def apply(change: Change, group: "h5py.Group") -> None:
    """Change a group, unless what earlier changes have left does not allow it."""
    with suppress(OSError, RuntimeError, KeyError, MemoryError, ValueError, TypeError):
        change(group)


def cut_short(path: Path, kept: float) -> None:
    """Keep that share of a file's bytes."""
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
