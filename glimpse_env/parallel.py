"""Work in tasks, each done by one process, here or on a Ray cluster, and begun again where that process died."""

import importlib.util
import logging
import multiprocessing
import threading
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.util import Finalize
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np
import torch
from tqdm.auto import tqdm

from glimpse_env.checks import whole_number
from glimpse_env.console.names import pip_extra
from glimpse_env.errors import ConfigurationError, GlimpseError
from glimpse_env.processes import become_worker
from glimpse_env.threads import at_most_threads

logger = logging.getLogger(__name__)

MAX_ATTEMPTS = 3
"""Times that a task is begun, at most."""


class ShardError(GlimpseError, RuntimeError):
    """Every process that worked on a shard died."""


class Task(Protocol):
    """What one process does without a break, a shard of the work: hashable, picklable, its text its name."""

    @property
    def size(self) -> str:
        """How much it is, for messages."""
        ...


T = TypeVar("T", bound=Task)
Arrays: TypeAlias = dict[str, np.ndarray]
Result: TypeAlias = dict[str, Any]
Make: TypeAlias = Callable[[T], Result]
"""Does a task; it must be picklable where other processes are to call it."""


def make_shards(
    make: Make[T],
    shards: Iterable[T],
    *,
    workers: int = 1,
    ray: str | None = None,
    fresh_process: bool = False,
    gpus: float = 0,
) -> Iterator[tuple[T, Result]]:
    """Yields each task with the result of ``make``, as they get finished.

    PyTorch has one thread in each: the last digits of sums depend on the number of threads, and two processes with two
    threads each, side by side on two cores, are several times slower than with one thread each.

    Args:
        make: called once for each task; more often only where a process died.
        shards: the tasks, in the order in which they are begun.
        workers: processes on this machine; 1 is this process itself.
        ray: address of a Ray cluster, as ``ray.init`` takes it, or ``"local"`` for one on this machine.
        fresh_process: whether each task has a process of its own, even with one worker.
        gpus: that Ray gives each task.

    Raises:
        ConfigurationError: see :func:`check_means`; or if no cluster is at the address.
        ShardError: if the processes that worked on a task died :data:`MAX_ATTEMPTS` times.
        Exception: what ``make`` raised; that ends the run.
    """
    check_means(workers, ray)
    if ray is not None:
        return _on_ray(make, shards, ray, fresh_process, gpus)
    return (
        _here(make, shards)
        if workers == 1 and not fresh_process
        else _on_processes(make, shards, workers, fresh_process)
    )


def check_means(workers: int, ray: str | None) -> None:
    """Checks that ``workers`` and ``ray`` can be followed.

    Raises:
        ConfigurationError: if there are workers beside a Ray cluster, or Ray is not installed.
    """
    if whole_number("workers", workers, 1) > 1 and ray is not None:
        raise ConfigurationError(
            f"workers={workers} and ray={ray!r} contradict each other: leave one of them out, Ray counts its own cores."
        )
    if ray is not None and importlib.util.find_spec("ray") is None:
        raise ConfigurationError(f"ray={ray!r} needs the package ray, which is not installed: {pip_extra('ray')}.")


def _here(make: Make[T], shards: Iterable[T]) -> Iterator[tuple[T, Result]]:
    for shard in shards:
        with at_most_threads(1):
            arrays = make(shard)
        yield shard, arrays


def _on_processes(make: Make[T], shards: Iterable[T], workers: int, fresh_process: bool) -> Iterator[tuple[T, Result]]:
    waiting, begun = deque(shards), Counter[T]()
    alive: set[_Worker] = set()
    busy: dict[Connection, tuple[_Worker, T]] = {}
    idle: list[_Worker] = []
    try:
        while waiting or busy:
            while waiting and len(busy) < workers:
                worker, shard = idle.pop() if idle else _Worker(make, fresh_process), waiting.popleft()
                alive.add(worker)
                begun[shard] += 1
                busy[worker.connection] = worker, shard
                with suppress(OSError):  # it died while it waited, which is noticed when its answer is read
                    worker.connection.send(shard)
            answered = wait(list(busy))
            for connection in [connection for connection in busy if connection in answered]:
                worker, shard = busy.pop(connection)
                try:
                    answer = connection.recv()
                except (EOFError, OSError) as error:
                    alive.remove(worker)
                    code = worker.end()
                    if begun[shard] == MAX_ATTEMPTS:
                        raise ShardError(_given_up(shard, f"exit code {code}", "fewer workers need less")) from error
                    logger.warning("A worker died over shard %s (exit code %s); another one begins it.", shard, code)
                    waiting.appendleft(shard)
                    continue
                if isinstance(answer, _Failure):
                    raise answer.error from RuntimeError(f"in a worker process:\n{answer.trace}")
                if fresh_process:
                    alive.remove(worker)
                    worker.end()
                else:
                    idle.append(worker)
                yield shard, answer
    finally:
        for worker in alive:
            worker.end()


class _Worker:
    """A process that does one task after the other."""

    def __init__(self, make: Make[Any], fresh_process: bool):
        # a fork of a process in which torch has threads can hang; one in which modules were imported only cannot
        clean = fresh_process and "forkserver" in multiprocessing.get_all_start_methods()
        context: Any = multiprocessing.get_context("forkserver" if clean else "spawn")
        if clean:
            # an optimiser's first step imports torch._dynamo, which takes longer than all of a short shard
            context.set_forkserver_preload([type(make).__module__, "torch._dynamo"])
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(make, theirs), daemon=True)
        self.process.start()
        theirs.close()  # then the worker's death ends the connection
        self._at_exit = Finalize(None, self.process.kill, exitpriority=1)  # Python's own way is SIGTERM, left to us

    def end(self) -> int | None:
        """Kills the process, whatever it is doing, and returns its exit code."""
        self._at_exit.cancel()
        self.connection.close()
        self.process.kill()
        self.process.join()
        return self.process.exitcode


@dataclass(frozen=True)
class _Failure:
    """An exception on its way to the driver."""

    error: Exception
    trace: str


def _work(make: Make[Any], connection: Connection) -> None:
    """Runs in a worker process: does the tasks that arrive on ``connection`` and sends the results back."""
    become_worker()
    torch.set_num_threads(1)
    tqdm.set_lock(threading.RLock())  # in place of one for all processes, which outlives a process that is killed
    with suppress(EOFError, OSError):  # the driver is gone
        while True:
            shard = connection.recv()
            try:
                answer: Result | _Failure = make(shard)
            except Exception as error:
                answer = _Failure(error, traceback.format_exc())
            connection.send(answer)


def _on_ray(
    make: Make[T], shards: Iterable[T], address: str, fresh_process: bool, gpus: float
) -> Iterator[tuple[T, Result]]:
    import ray  # an optional package
    from ray.exceptions import RayError, RayTaskError

    own = not ray.is_initialized()
    if own:
        try:
            ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level=logging.WARNING)
        except (ConnectionError, ValueError) as error:
            raise ConfigurationError(
                f"no Ray cluster is at {address!r} ({error}); start one with `ray start --head`, or take 'local'."
            ) from error
    try:
        shipped = ray.put(make)
        remote: Any = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=MAX_ATTEMPTS - 1, max_calls=int(fresh_process))(
            _make_on_ray
        )
        running = {remote.remote(shipped, shipped.hex(), shard): shard for shard in shards}
        while running:
            (finished,), _ = ray.wait(list(running), num_returns=1)
            shard = running.pop(finished)
            try:
                arrays = ray.get(finished)
            except RayTaskError as error:
                raise error.cause from error
            except RayError as error:
                raise ShardError(_given_up(shard, type(error).__name__, "give its tasks more")) from error
            yield (
                shard,
                {  # out of Ray's shared memory
                    field: np.array(values) if isinstance(values, np.ndarray) else values
                    for field, values in arrays.items()
                },
            )
    finally:
        if own:
            ray.shutdown()


_held: dict[str, Any] = {}
"""The ``make`` of the present run by the run's name, kept from one task to the next on a worker of Ray."""


def _make_on_ray(make: Make[T], run: str, shard: T) -> Result:
    """Does a task on a worker of Ray, which runs it again itself where the worker dies."""
    if run not in _held:
        _held.clear()
        _held[run] = make
    torch.set_num_threads(1)
    return _held[run](shard)


def _given_up(shard: Task, how: str, remedy: str) -> str:
    """Returns the message for a task whose processes died too often."""
    return (
        f"shard {shard} ({shard.size}) was begun {MAX_ATTEMPTS} times and each time its "
        f"process died ({how}); if memory ran out, {remedy}. The next call goes on behind the finished shards."
    )
