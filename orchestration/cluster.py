"""Ray: connecting to it, sharing it out to packs, training them."""

import logging
import os
import shutil
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

# Ray reads these when it is imported: its own tables and loggers off, no reports home.
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import ray
from ray import tune
from ray._private.services import find_bootstrap_address
from ray.tune.experiment import Trial

from erdp_core.errors import UserError
from orchestration.ledger import Ledger, Record, StorageError
from orchestration.packing import Pack, make_packs
from orchestration.plan import Run
from orchestration.resources import Resources, local_resources
from orchestration.step_cost import Measured, StepCosts, device_name
from orchestration.trainable import PackTrainable

Item = TypeVar("Item")
Result = TypeVar("Result")
RETRIES = 3
"""How often a pack whose process died is taken up again."""


@contextmanager
def joined(address: str) -> Iterator[Resources]:
    """Within this, Ray's machines are at hand: this one (`local`) or those of a running cluster (`auto`, HOST:PORT).

    Within another one, nothing is started, and nothing shut down at the end: several trainings share a start.

    Raises UserError where there is no cluster at the address.
    """
    if ray.is_initialized():
        yield local_resources() if address == "local" else _of_cluster()
        return
    try:
        yield _connect(address)
    finally:
        ray.shutdown()


def _connect(address: str) -> Resources:
    if address == "local":
        resources = local_resources()
        ray.init(
            address="local",
            num_cpus=resources.cpus,
            num_gpus=resources.gpus,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            object_store_memory=200 * 2**20,
        )
        # Ray writes its token readable by everybody.
        token = Path.home() / ".ray" / "auth_token"
        if token.exists():
            token.chmod(0o600)
        return resources
    found = _named_cluster() if address == "auto" else address
    _check_answers(address, found)
    try:
        ray.init(address=found, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UserError(f"no Ray cluster at --address {address}: {str(error).splitlines()[0]}") from None
    return _of_cluster()


def _of_cluster() -> Resources:
    total = ray.cluster_resources()
    return Resources(int(total.get("CPU", 1)), int(total.get("GPU", 0)))


def _named_cluster() -> str:
    """The cluster that `auto` is, HOST:PORT: of $RAY_ADDRESS, else of the newest `ray start` on this machine.

    Ray's own `auto` would join any cluster it finds here, even one that another driver started for itself alone: that
    ends with its driver, and whoever joined it dies with it. Raises UserError where there is none.
    """
    address = os.environ.get("RAY_ADDRESS") or find_bootstrap_address(None)
    if not address:
        raise UserError(
            "no Ray cluster at --address auto: none was begun with `ray start` on this machine, and RAY_ADDRESS names "
            "none"
        )
    return str(address)


def _check_answers(address: str, found: str) -> None:
    """Raise UserError where nothing answers at HOST:PORT: Ray would try for minutes."""
    host, _, port = found.rpartition(":")
    if not host or not port.isdecimal():
        raise UserError(f"--address takes local, auto or HOST:PORT, not {found!r}")
    named = address if address == found else f"{address} ({found})"
    try:
        socket.create_connection((host.removeprefix("ray://"), int(port)), timeout=5).close()
    except (OSError, OverflowError) as error:
        raise UserError(f"no Ray cluster at --address {named}: {error}") from None


class Listener(Protocol):
    """What training tells the driver."""

    def started(self, pack: Pack) -> None:
        """A pack begins, or begins again after its process died."""

    def advanced(self, pack: Pack, result: dict[str, Any]) -> None:
        """A pack finished an interval; `result` is its `PackProgress` as a dictionary."""

    def measuring(self, shapes: int, device: str) -> None:
        """Before any pack begins: steps of some shapes are timed on such a device, to choose packs by."""

    def halved(self, pack: Pack, runs: int, parts: Sequence[int]) -> None:
        """A pack did not fit in memory with so many runs at once; it goes on in parts, one after the other."""

    def interrupted(self, pack: Pack, reason: str) -> None:
        """A pack's process or machine was lost; it is about to be taken up again."""

    def stopped(self, pack: Pack, problem: str) -> None:
        """A pack gave up before its end."""


class _Report(tune.Callback):
    """Passes on what the packs report, and keeps what went wrong."""

    def __init__(self, packs: Sequence[Pack], listener: Listener) -> None:
        self.packs = packs
        self.listener = listener
        self.problems: dict[str, str] = {}
        """Reasons by run id."""
        self.storage_problem: str | None = None
        """Why the ledger could not be written."""
        self.too_many: list[tuple[Pack, int]] = []
        """How many runs of a pack did not fit in memory."""

    def __getstate__(self) -> dict[str, Any]:
        """Tune stores its callbacks for a restore, which never happens here: a listener need not be picklable."""
        return {}

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self.listener.started(self.packs[trial.config["pack"]])

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        pack = self.packs[trial.config["pack"]]
        if "problem" in result:
            if result["storage"]:
                self.storage_problem = result["problem"]
            self._stop(pack, result["problem"])
        elif "out_of_memory" in result:
            self.too_many.append((pack, result["out_of_memory"]))
            self.listener.halved(pack, result["out_of_memory"], result["parts"])
        else:
            self.problems |= result["failures"]
            self.listener.advanced(pack, result)

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self.listener.interrupted(self.packs[trial.config["pack"]], _reason(trial))

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._stop(self.packs[trial.config["pack"]], f"{_reason(trial)} (after {RETRIES} retries)")

    def _stop(self, pack: Pack, problem: str) -> None:
        self.problems |= {run.run_id: problem for run in pack.runs if run.run_id not in self.problems}
        self.listener.stopped(pack, problem)


class TaskError(Exception):
    """A call of `each` failed: which, and why in one line."""

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(reason)
        self.index = index


def _last_line(error: BaseException) -> str:
    """What an error of Ray's ends in: the reason, below the stack."""
    return str(error).strip().splitlines()[-1].strip()


def _reason(trial: Trial) -> str:
    """Why a trial failed, in one line."""
    error = trial.get_error()
    if error is None or isinstance(error, ray.exceptions.RayActorError):
        return "its process died"
    return _last_line(error)


def train(
    runs: Sequence[Run],
    ledger: Ledger,
    address: str,
    listener: Listener,
    until: int | None = None,
) -> dict[str, str]:
    """Train runs on a cluster, to their end or until a step; what is done is in the ledger. Returns problems by run id.

    Raises StorageError where the ledger could not be written, and UserError where there is no cluster at the address.
    """
    storage = ledger.root / "tune"
    folder = f"{socket.gethostname()}-{os.getpid()}"
    with joined(address) as resources:
        # What goes wrong is told by the listener, in one line; Ray's own account is a page long.
        logging.getLogger("ray").setLevel(logging.CRITICAL)
        costs = _step_costs(runs, ledger, resources, listener)
        packs = make_packs(runs, ledger, resources.slots, costs)
        report = _Report(packs, listener)
        _remove_leftovers(storage)
        tuner = tune.Tuner(
            tune.with_resources(
                tune.with_parameters(
                    PackTrainable,
                    ledger=str(ledger.root),
                    packs=[[run.record() for run in pack.runs] for pack in packs],
                    until=until,
                ),
                resources.per_pack(len(packs)),
            ),
            param_space={"pack": tune.grid_search(list(range(len(packs))))},
            tune_config=tune.TuneConfig(
                reuse_actors=True,
                trial_name_creator=lambda trial: f"pack-{trial.config['pack']}",
                trial_dirname_creator=lambda trial: f"pack-{trial.config['pack']}",
            ),
            run_config=tune.RunConfig(
                name=folder,
                storage_path=str(storage),
                failure_config=tune.FailureConfig(max_failures=RETRIES),
                callbacks=[report],
                verbose=0,
            ),
        )
        try:
            tuner.fit()
        finally:
            shutil.rmtree(storage / folder, ignore_errors=True)
        with ledger.writing():
            for pack, size in report.too_many:
                costs.learn(pack.runs[0], {size: None})
        if report.storage_problem:
            raise StorageError(report.storage_problem)
        return report.problems


def each(function: Callable[[Item], Result], items: Sequence[Item], address: str) -> Iterator[tuple[int, Result]]:
    """Call a function with each of some things, a core for each, on a cluster; results as they come, by index.

    Raises TaskError where a call failed or its process died, and UserError where there is no cluster at the address.
    """
    with joined(address):
        logging.getLogger("ray").setLevel(logging.CRITICAL)
        remote = ray.remote(num_cpus=1, max_retries=RETRIES)(function)
        index_of = {remote.remote(item): index for index, item in enumerate(items)}
        while index_of:
            [done], _ = ray.wait(list(index_of), num_returns=1)
            index = index_of.pop(done)
            try:
                result = ray.get(done)
            except ray.exceptions.RayError as error:
                raise TaskError(index, _last_line(error)) from None
            yield index, result


def _step_costs(runs: Sequence[Run], ledger: Ledger, resources: Resources, listener: Listener) -> StepCosts:
    """What steps cost on the devices of the cluster that this driver has joined.

    GPUs measure what is not known yet. A CPU makes much the same steps a second whatever the pack, and would take
    minutes to tell.
    """
    cores = resources.cores_per_pack(len(runs))
    if resources.gpus:
        return measured_costs(runs, ledger, "cuda", cores, listener)
    return StepCosts(ledger, "cpu", device_name("cpu"), cores)


def measured_costs(runs: Sequence[Run], ledger: Ledger, device: str, cores: int, listener: Listener) -> StepCosts:
    """What steps cost on the cluster's devices of a kind; shapes that the ledger does not know are measured there.

    Raises StorageError where the ledger cannot be written.
    """

    def on_worker(function: Callable[..., Any], *arguments: object) -> Any:
        return ray.remote(num_cpus=cores, num_gpus=float(device == "cuda"))(function).remote(*arguments)

    name: str = ray.get(on_worker(device_name, device))
    costs = StepCosts(ledger, device, name, cores)
    unknown = [group for group in costs.shapes(runs) if not costs.knows(group)]
    if unknown:
        listener.measuring(len(unknown), name)
        found = [on_worker(_measure, [run.record() for run in group], device, cores) for group in unknown]
        with ledger.writing():
            for group, measured in zip(unknown, ray.get(found), strict=True):
                costs.learn(group[0], measured)
    return costs


def _measure(records: Sequence[Record], device: str, cores: int) -> Measured:
    from orchestration.probe import measure

    return measure([Run.from_record(record) for record in records], device, cores)


def _remove_leftovers(storage: Path) -> None:
    """Delete Tune's folders of drivers on this host that are no longer there: nothing is ever read from them."""
    prefix = f"{socket.gethostname()}-"
    for folder in storage.glob(f"{prefix}*"):
        owner = folder.name.removeprefix(prefix)
        if not Path(f"/proc/{owner}").exists():
            shutil.rmtree(folder, ignore_errors=True)
