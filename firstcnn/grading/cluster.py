"""Dask, as far as it is needed here: tasks go to workers, results come back, each of them once.

A worker may end at any time. What it was doing is done again by another; what ends its worker
again and again is given up. A task carries all that it needs: what workers keep for each other is
lost with them.

The workers on this machine are processes that import nothing, since they are forked from one that
has nbgrader imported, and share one nursery (`firstcnn.grading.nursery`). They talk over the
loopback interface, encrypted: others may have an account here.
"""

from __future__ import annotations

import contextlib
import json
import logging
import multiprocessing.forkserver
import os
import queue
import signal
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import Any

import dask
from distributed import Client, Future, KilledWorker, LocalCluster, Security
from distributed.utils import get_mp_context

from firstcnn.grading.nursery import SOCKET_VARIABLE, Nursery, NurseryError
from firstcnn.grading.private import private_folder
from firstcnn.grading.provisioner import mnist_folder

__all__ = ["Cluster", "Lost", "local", "remote"]

#: How many workers may end while they do the same task. Where workers end for other reasons, a
#: task that takes long may see many of them end before one lasts.
MOST_ENDS = 20

#: Seconds after which a task that was for a worker that is gone is not heard of any more.
_LOST_FOR_GOOD = 10

_SETTINGS = {
    "distributed.worker.multiprocessing-method": "forkserver",
    "distributed.scheduler.allowed-failures": 0,  # counted here
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
    "distributed.admin.tick.limit": "1h",  # it would complain of a busy machine
    # Both look many times a second, for graphs that nobody sees: two workers and their scheduler
    # took a fifth of a core while they waited, and take a twentieth without.
    "distributed.admin.tick.interval": "1s",
    "distributed.worker.profile.enabled": False,
}
_PRELOADED = ["distributed", "firstcnn.grading.execute", "firstcnn.grading.task"]
#: Kernels that run at the same time share the cores; each for itself would take all of them.
_ONE_CORE_EACH = (
    "MKL_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "TF_NUM_INTEROP_THREADS",
    "TF_NUM_INTRAOP_THREADS",
)


class Lost(RuntimeError):
    """The scheduler is not there, or not any more; the message says which."""


@dataclass
class _Task:
    function: Callable
    arguments: tuple
    future: Future | None = None
    #: The worker that it is for, if it is for one.
    place: str | None = None
    #: How many workers have ended while they did it.
    ends: int = 0
    #: Since when its worker is gone.
    lost_at: float | None = None
    #: For how many seconds its result is waited for.
    patience: float = 2
    #: Whether its result was there, and was lost with its worker.
    is_lost: bool = False


class Cluster:
    """Workers.

    Parameters
    ----------
    client : distributed.Client
        Connected to their scheduler.
    is_alone : bool, optional
        Whether nobody else uses them. Each then gets one task at a time, and none before what it
        did last is here: so no task is lost with a worker that another one ends.
    """

    def __init__(self, client: Client, is_alone: bool = False) -> None:
        self._client, self._is_alone = client, is_alone
        self._tasks: dict[str, _Task] = {}
        self._known: dict[str, Any] = {}
        self._waiting: list[str] = []
        self._finished: queue.SimpleQueue[tuple[str, Future]] = queue.SimpleQueue()
        self._sent = 0

    @property
    def room(self) -> int:
        """How many tasks should be given to it now."""
        workers = self._workers()
        if self._is_alone:
            return len(self._free(workers)) - len(self._waiting)
        # More than can run, so that a cluster that grows with its work sees that there is some.
        return max(16, 2 * sum(one["nthreads"] for one in workers.values())) - len(self._tasks)

    def _workers(self) -> dict[str, Any]:
        # Not scheduler_info(): before it returns what it was told, a call of the client's own may
        # put something without workers in its place.
        if self._client.status in ("running", "connecting"):
            with contextlib.suppress(OSError):
                told = self._client.sync(self._client.scheduler.identity, n_workers=-1)
                self._known = told["workers"]
        return self._known

    def _free(self, workers: Iterable[str]) -> list[str]:
        taken = {task.place for task in self._tasks.values()}
        return [place for place in workers if place not in taken]

    def send(self, name: str, function: Callable, *arguments: Any) -> None:
        """Have something done, under a name that no other unfinished task has."""
        self._tasks[name] = _Task(function, arguments)
        self._waiting.append(name)
        self._submit_waiting()

    def _submit_waiting(self) -> None:
        """Give tasks that wait for a worker to Dask, as far as there are workers for them."""
        while self._waiting:
            free = self._free(self._workers()) if self._is_alone else [None]
            if not free:
                return
            self._submit(self._waiting.pop(0), free[0])

    def _submit(self, name: str, place: str | None) -> None:
        task = self._tasks[name]
        self._sent += 1
        key = f"firstcnn-{self._sent}-{os.urandom(8).hex()}"
        task.place = place
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of large arguments
            task.future = self._client.submit(
                task.function, *task.arguments, key=key, pure=False, workers=place
            )
        self._wait_for(name, task.future)

    def _wait_for(self, name: str, future: Future) -> None:
        future.add_done_callback(lambda done: self._finished.put((name, done)))

    def _take_back(self, name: str) -> None:
        task = self._tasks[name]
        task.future = task.place = task.lost_at = None
        task.is_lost = False
        self._waiting.append(name)

    def _look_after(self) -> None:
        """Take back tasks for workers that have ended, and wait again for what others do again."""
        for name, task in self._tasks.items():
            if not task.is_lost:
                continue
            if task.place is not None:
                # Nobody else may do it, so that it would be waited for without end.
                task.future.cancel()
                self._take_back(name)
            elif task.future.status != "lost":
                task.is_lost = False
                self._wait_for(name, task.future)
        if not self._is_alone:
            return
        workers, now = self._workers(), time.monotonic()
        for name, task in self._tasks.items():
            if task.place is None or task.place in workers or task.future.done():
                task.lost_at = None
            elif task.lost_at is None:
                task.lost_at = now
            elif now - task.lost_at > _LOST_FOR_GOOD:
                task.future.cancel()
                self._take_back(name)

    def finished(self, timeout: float) -> Iterator[tuple[str, Any]]:
        """Return what has come back, after waiting for at most so many seconds for the first.

        Yields
        ------
        name : str
            Of the task.
        answer : object
            What the function returned, or the exception that it raised; `KilledWorker` if each
            worker that did it has ended.

        Raises
        ------
        Lost
            If there is no scheduler any more.
        """
        while self._tasks:
            try:
                name, future = self._finished.get(timeout=timeout)
            except queue.Empty:
                if self._client.status not in ("running", "connecting"):
                    raise Lost("The scheduler is gone.") from None
                self._look_after()
                self._submit_waiting()
                return
            timeout = 0
            task = self._tasks.get(name)
            if task is None or task.future is not future:
                continue
            if future.status == "lost":  # which Dask tells of as of an end, again and again
                task.is_lost = True
                continue
            try:
                answer = future.result(timeout=task.patience)
            except KilledWorker as error:
                task.ends += error.allowed_failures + 1
                if task.ends < MOST_ENDS:
                    self._take_back(name)
                    continue
                answer = error
            except CancelledError:
                raise Lost("The scheduler has lost what it was to do.") from None
            except OSError as error:
                if future.status != "error":
                    # It could not be had: the worker that had it has ended, so that it is done
                    # again; or the scheduler has, as will be heard; or it takes longer to come.
                    if future.status == "finished":
                        task.patience *= 2
                    self._wait_for(name, future)
                    return
                answer = error
            except Exception as error:
                answer = error
            del self._tasks[name]
            yield name, answer


# ---- on this machine -----------------------------------------------------------------------------


@contextlib.contextmanager
def local(workers: int) -> Iterator[Cluster]:
    """Start workers on this machine, and end them at once when they are not needed any more.

    Parameters
    ----------
    workers : int
        How many.
    """
    with contextlib.ExitStack() as stack:
        folder = str(stack.enter_context(private_folder()))
        given = {"TMPDIR": folder}
        if (data := mnist_folder()) is not None:
            given["MNIST_DIR"] = str(data)
        if workers > 1:
            given |= {name: os.environ.get(name, "1") for name in _ONE_CORE_EACH}
        stack.enter_context(_quiet())
        stack.enter_context(dask.config.set(_SETTINGS))
        with _environment(given):
            nursery = None
            if SOCKET_VARIABLE not in os.environ:
                with contextlib.suppress(NurseryError):  # kernels are then started cold
                    nursery = Nursery(process_group=0, wait=False)
                    stack.enter_context(contextlib.closing(nursery))
                    given[SOCKET_VARIABLE] = nursery.socket
            get_mp_context().set_forkserver_preload(_PRELOADED)
            with _no_interrupts():
                multiprocessing.forkserver.ensure_running()
            made = LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                processes=True,
                host="127.0.0.1",
                protocol="tls",
                security=Security.temporary(),
                dashboard_address="127.0.0.1:0",
                worker_dashboard_address="127.0.0.1:0",
                silence_logs=logging.CRITICAL,
                local_directory=folder,
                memory_limit=0,
                env=given,
            )
        stack.callback(_end, made)
        client = stack.enter_context(Client(made, set_as_default=False))
        if nursery is not None:
            with contextlib.suppress(NurseryError):  # kernels are started cold then, too
                nursery.wait_until_ready()
        yield Cluster(client, is_alone=True)


def _end(cluster: LocalCluster) -> None:
    """End the workers, whatever they do; their sandboxes end with them."""
    for nanny in cluster.workers.values():
        nanny.auto_restart = False
        if nanny.process is not None and nanny.process.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(nanny.process.pid, signal.SIGKILL)
    with contextlib.suppress(TimeoutError):
        cluster.close(timeout=10)


@contextlib.contextmanager
def _environment(given: Mapping[str, str]) -> Iterator[None]:
    """Have environment variables for the processes that are started meanwhile."""
    before = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _no_interrupts() -> Iterator[None]:
    """Start processes that Ctrl-C does not reach: they are ended in good order.

    It does not reach this one either, so this should not take long.
    """
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Let Dask say nothing of workers that end: that is told in other words."""
    loggers = [logging.getLogger(name) for name in ("distributed", "tornado", "asyncio")]
    before = [one.level for one in loggers]
    for one in loggers:
        one.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for one, level in zip(loggers, before, strict=True):
            one.setLevel(level)


# ---- anywhere else -------------------------------------------------------------------------------


@contextlib.contextmanager
def remote(address: str, *, patience: float = 30) -> Iterator[Cluster]:
    """Connect to a scheduler, whose workers are whoever's business it is.

    Parameters
    ----------
    address : str
        As ``tcp://host:8786``, or the path of a scheduler file.
    patience : float, optional
        Seconds to wait for it.

    Raises
    ------
    Lost
        If it does not answer.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(_quiet())
        start = time.monotonic()
        try:
            where = _address(address, patience) if address.endswith(".json") else address
            client = Client(where, timeout=patience, set_as_default=False)
        except (OSError, ValueError, KeyError, TypeError) as error:
            waited = time.monotonic() - start
            raise Lost(f"No scheduler answers at {address} ({waited:.0f} s): {error}") from None
        stack.callback(client.close, timeout=5)
        yield Cluster(client)


def _address(path: str, patience: float) -> str:
    """Return the address in a scheduler's file, as soon as it is there and whole."""
    until = time.monotonic() + patience
    while True:
        try:
            with open(path, encoding="utf-8") as file:
                return str(json.load(file)["address"])
        except (OSError, ValueError, KeyError, TypeError):
            if time.monotonic() > until:
                raise
        time.sleep(0.05)
