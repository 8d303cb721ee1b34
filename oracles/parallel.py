"""Work in pieces: each is made whole by one process, here or on a Ray cluster, and again where that process died."""

import importlib.util
import logging
import multiprocessing
import os
import signal
import threading
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np
import torch
from tqdm.auto import tqdm

from glimpse_env.checks import whole_number
from glimpse_env.errors import ConfigurationError, GlimpseError

logger = logging.getLogger(__name__)

ATTEMPTS = 3
"""Times that a shard is begun at most."""


class ShardError(GlimpseError, RuntimeError):
    """Every process that worked on a shard died."""


@dataclass(frozen=True, eq=False)
class Shard:
    """Images whose sequences are made in one go; all there is in them depends on ``fold``, ``start`` and the seed."""

    fold: int
    """Of all its images."""
    start: int
    """Place of its first image among those of the fold."""
    rows: np.ndarray
    """(n,) int64: the images."""

    def __str__(self) -> str:
        return f"{self.fold}-{self.start:06d}"

    @property
    def size(self) -> str:
        """What it holds, in words."""
        return f"{len(self.rows)} images of fold {self.fold}"


class Piece(Protocol):
    """A piece of work, like a :class:`Shard`: hashable, and it pickles."""

    @property
    def size(self) -> str: ...


Work = TypeVar("Work", bound=Piece)
Arrays: TypeAlias = dict[str, np.ndarray]
Result: TypeAlias = dict[str, Any]
Make: TypeAlias = Callable[[Work], Result]
"""Makes a shard; it must pickle where others than this process are to call it."""


def make_shards(
    make: Make[Work], shards: Iterable[Work], *, workers: int = 1, ray: str | None = None, alone: bool = False
) -> Iterator[tuple[Work, Result]]:
    """The shards with what ``make`` makes of them, as they get finished; torch has one thread in each.

    Args:
        make: called once for each shard; twice or more only where a process died.
        shards: in the order in which they are begun.
        workers: processes on this machine; 1 is this process itself.
        ray: address of a Ray cluster, as ``ray.init`` takes it, or ``"local"`` for one on this machine.
        alone: whether each shard has a process of its own, even with one worker.

    Raises:
        ConfigurationError: see :func:`check_means`; or if no cluster is at the address.
        ShardError: if the processes that worked on a shard died :data:`ATTEMPTS` times.
        Exception: whatever ``make`` raised; it is not called again then.
    """
    check_means(workers, ray)
    if ray is not None:
        return _on_ray(make, shards, ray, alone)
    return _here(make, shards) if workers == 1 and not alone else _on_processes(make, shards, workers, alone)


def check_means(workers: int, ray: str | None) -> None:
    """Raises ConfigurationError if ``workers`` and ``ray`` contradict each other or Ray is not installed."""
    if whole_number("workers", workers, 1) > 1 and ray is not None:
        raise ConfigurationError(
            f"workers={workers} and ray={ray!r} contradict each other: leave one of them out, Ray counts its own cores."
        )
    if ray is not None and importlib.util.find_spec("ray") is None:
        raise ConfigurationError(
            f"ray={ray!r} needs the package ray, which is not installed: pip install -c constraints.txt -e '.[ray]'."
        )


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for torch: sums in another order, and so the last digits, would depend on how many there are."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _here(make: Make[Work], shards: Iterable[Work]) -> Iterator[tuple[Work, Result]]:
    for shard in shards:
        with one_thread():
            arrays = make(shard)
        yield shard, arrays


def _on_processes(make: Make[Work], shards: Iterable[Work], workers: int, alone: bool) -> Iterator[tuple[Work, Result]]:
    waiting, begun = deque(shards), Counter[Work]()
    alive: set[_Worker] = set()
    busy: dict[Connection, tuple[_Worker, Work]] = {}
    idle: list[_Worker] = []
    try:
        while waiting or busy:
            while waiting and len(busy) < workers:
                worker, shard = idle.pop() if idle else _Worker(make, alone), waiting.popleft()
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
                    if begun[shard] == ATTEMPTS:
                        raise ShardError(_given_up(shard, f"exit code {code}", "fewer workers need less")) from error
                    logger.warning("A worker died over shard %s (exit code %s); another one begins it.", shard, code)
                    waiting.appendleft(shard)
                    continue
                if isinstance(answer, _Failure):
                    raise answer.error from RuntimeError(f"in a worker process:\n{answer.trace}")
                if alone:
                    alive.remove(worker)
                    worker.end()
                else:
                    idle.append(worker)
                yield shard, answer
    finally:
        for worker in alive:
            worker.end()


class _Worker:
    """A process that makes one shard after the other."""

    def __init__(self, make: Make[Any], alone: bool):
        # a fork of a process in which torch has threads can hang; one in which modules were imported only cannot
        clean = alone and "forkserver" in multiprocessing.get_all_start_methods()
        context: Any = multiprocessing.get_context("forkserver" if clean else "spawn")
        if clean:
            # an optimiser's first step imports torch._dynamo, which takes longer than all of a short shard
            context.set_forkserver_preload([type(make).__module__, "torch._dynamo"])
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(make, theirs), daemon=True)
        self.process.start()
        theirs.close()  # then the worker's death ends the connection

    def end(self) -> int | None:
        """Kills it, whatever it is doing; its exit code."""
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
    """What a worker process runs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the driver too, which ends its workers
    threading.Thread(target=_end_with_driver, daemon=True).start()
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


def _end_with_driver() -> None:
    """Ends this process in the middle of a shard where the driver was killed, since nobody would take the result."""
    driver = multiprocessing.parent_process()
    assert driver is not None
    wait([driver.sentinel])
    os._exit(1)


def _on_ray(make: Make[Work], shards: Iterable[Work], address: str, alone: bool) -> Iterator[tuple[Work, Result]]:
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
        remote: Any = ray.remote(num_cpus=1, max_retries=ATTEMPTS - 1, max_calls=int(alone))(_make_on_ray)
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
"""On a worker of Ray: what makes shards, kept from one task to the next, by the name of its run."""


def _make_on_ray(make: Make[Work], run: str, shard: Work) -> Result:
    """The task: Ray runs it again itself where its worker dies."""
    if run not in _held:
        _held.clear()
        _held[run] = make
    torch.set_num_threads(1)
    return _held[run](shard)


def _given_up(shard: Piece, how: str, remedy: str) -> str:
    return (
        f"shard {shard} ({shard.size}) was begun {ATTEMPTS} times and each time its "
        f"process died ({how}); if memory ran out, {remedy}. The next call goes on behind the finished shards."
    )
