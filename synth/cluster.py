"""Work in parallel, on this machine's cores or on a Dask cluster: one mechanism for both."""

import logging
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager, suppress
from tempfile import TemporaryDirectory
from threading import current_thread, main_thread
from typing import Any, TypeVar

import dask
import psutil
from distributed import Client, LocalCluster, wait
from distributed.scheduler import KilledWorker

from synth import SynthError

__all__ = ["SCHEDULER", "WORKER", "clients", "each", "refuse_unfit"]

PATIENCE = 30  # seconds that a cluster may take to answer, or be without workers
SCHEDULER = "PYTHONPATH=. .venv/bin/dask scheduler"
WORKER = "PYTHONPATH=. .venv/bin/dask worker ADDRESS --nthreads 1 --nworkers N"
T = TypeVar("T")


@contextmanager
def clients(jobs: int, scheduler: str | None) -> Iterator[Client]:
    """Give a client of the cluster at ``scheduler``, or of ``jobs`` processes of our own, which end
    with the block, and all that they have started."""
    for name in ("distributed", "distributed.client"):  # what goes wrong we say ourselves
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with ExitStack() as stack:
        if scheduler is None:
            yield stack.enter_context(_local(jobs))
            return
        try:
            client = stack.enter_context(Client(scheduler, timeout=PATIENCE))
            client.wait_for_workers(1, timeout=PATIENCE)
        except TimeoutError as error:
            raise SynthError(
                f"no scheduler with a worker answers at {scheduler}; start it with `{SCHEDULER}` "
                f"and workers with `{WORKER.replace('ADDRESS', scheduler)}`"
            ) from error
        except (OSError, ValueError) as error:
            raise SynthError(f"there is no scheduler at {scheduler}: {error}") from error
        yield client


@contextmanager
def _local(jobs: int) -> Iterator[Client]:
    # A worker has one thing at a time, and its loss is the failure of that.
    lost = dask.config.set({
        "distributed.scheduler.allowed-failures": 0, "distributed.scheduler.worker-saturation": 1.0
    })  # fmt: skip
    with lost, TemporaryDirectory(prefix="explore-", ignore_cleanup_errors=True) as scratch:
        with _deaf():
            cluster = LocalCluster(
                n_workers=jobs, threads_per_worker=1, processes=True,
                dashboard_address="127.0.0.1:0",  # a port that nothing else has
                memory_limit=None, local_directory=scratch, env={"TMPDIR": scratch},
                silence_logs=logging.CRITICAL,
            )  # fmt: skip
            client = Client(cluster)
        try:
            yield client
        finally:
            with _deaf(), suppress(Exception):
                for nanny in cluster.workers.values():
                    nanny.auto_restart = False
                    if nanny.pid is not None:  # it is, between a worker's death and the next one
                        _end(nanny.pid)
                client.close(timeout=5)
                cluster.close(timeout=5)


def _end(pid: int) -> None:
    """End a process and those that it has started; while it stands still it starts no others."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        process.suspend()
        for child in process.children():
            _end(child.pid)
        process.kill()


@contextmanager
def _deaf() -> Iterator[None]:
    """Ignore Ctrl-C: processes that start meanwhile do so for ever and are ended by us."""
    if current_thread() is not main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def refuse_unfit(client: Client, identity: Callable[[], T], expected: T) -> None:
    """Raise SynthError unless the scheduler has our code, and ``identity`` gives what is
    ``expected`` on every worker."""
    try:
        client.run_on_scheduler(_present)
    except Exception as error:  # whatever a scheduler elsewhere has to say
        raise SynthError(
            f"the scheduler is unfit: {_words(error)}; start it in the root of this repository: "
            f"`{SCHEDULER}`"
        ) from error
    for worker, answer in client.run(identity, on_error="return").items():
        if isinstance(answer, BaseException):
            raise SynthError(
                f"the worker {worker} is unfit: {_words(answer)}; start it in the root of this "
                f"repository: `{WORKER}`"
            )
        if answer != expected:
            raise SynthError(
                f"the worker {worker} has {answer}, not {expected} as here: give it this commit of "
                "the repository and the same tools"
            )


def _present() -> None:
    """Do nothing; where this cannot be imported, it fails."""


def _words(error: BaseException) -> str:
    """Return what an error says, in one line."""
    kind = "" if isinstance(error, SynthError) else f"{type(error).__name__}: "
    return kind + " ".join(str(error).split())


def each(
    client: Client, work: Callable[..., T], items: Sequence[Any], *more: Any
) -> Iterator[tuple[Any, T | SynthError]]:
    """Yield every item, as soon as it is done, with what ``work(item, *more)`` gives, or why it
    fails. The first items are begun first."""
    futures = {
        client.submit(work, item, *more, pure=False, priority=-n): item
        for n, item in enumerate(items)
    }
    waiting, idle = set(futures), 0
    try:
        while waiting:
            try:
                done = wait(waiting, timeout=1, return_when="FIRST_COMPLETED").done
            except TimeoutError:
                idle = 0 if client.scheduler_info()["workers"] else idle + 1
                if idle > PATIENCE:
                    raise SynthError("no worker is left; what is done is kept") from None
                continue
            waiting -= done
            for future in done:
                outcome = _outcome(future)
                future.release()  # or it is done again when the worker that did it dies
                yield futures[future], outcome
    except CancelledError as error:
        raise SynthError("the scheduler is gone; what is done is kept") from error
    finally:
        with suppress(Exception):
            client.cancel(list(waiting))


def _outcome(future: Any) -> Any:
    if future.status == "cancelled":
        raise SynthError("the scheduler is gone; what is done is kept")
    error = future.exception()
    if error is None:
        return future.result()
    if isinstance(error, SynthError):
        return error
    if isinstance(error, KilledWorker):
        return SynthError("its worker died: for want of memory, or ended by somebody")
    return SynthError(_words(error))
