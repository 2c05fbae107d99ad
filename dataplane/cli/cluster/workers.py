"""The workers of a Dask cluster, and how work is handed out to them.

A cluster is processes of this machine, or the one whose scheduler is named. What a worker that died was doing, and
what came of its work and was not fetched yet, is done again by another one: nothing is lost, and nothing told twice.
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import typer

from dataplane import __version__
from dataplane.cli.interrupt import Interrupt
from dataplane.cli.output import refuse, say
from dataplane.cli.repeatable import passes_once
from dataplane.outputs import OutputError
from dataplane.policy.mistakes import ChangeError, PolicyError
from dataplane.replay.ports import UnknownInstanceError
from dataplane.replay.urls import is_remote
from dataplane.terminal import console, counted

if TYPE_CHECKING:
    from distributed import Client, Future

#: `--on` of a cluster of processes here.
LOCAL = "dask"
#: How long a scheduler is waited for, in seconds.
_PATIENCE = 10
#: Work that is handed out ahead, by worker: what came of it and was not taken yet is in the workers' memory.
_AHEAD = 4
#: How often Ctrl-C is looked for, in seconds.
_LOOK_EVERY = 0.2
#: How long what came of some work may take to be fetched from its worker, in seconds.
_FETCH_SECONDS = 20
EXIT_USAGE = 2


def refuse_what_passes_once(captures: Sequence[str]) -> None:
    """Ends the command where a worker could not read a capture again that another one had begun."""
    for capture in captures:
        if passes_once(capture):
            refuse(f"{capture}: --on needs captures that workers can read, and read again: name a file")


@dataclass(frozen=True, slots=True)
class Lost:
    """In place of what came of some work that was given up: why, in words; `killed`, with workers that died."""

    words: str
    killed: bool = False


class Workers:
    """A cluster that is asked for by `--on`, until the end of the stack's context; ends the command where it cannot be.

    `n` is how many threads the workers have, each of which does one piece of work at a time. From now on what ends the
    command is noted by `interrupt`: it ends what is being done, and the cluster, if it is of this machine.
    """

    def __init__(self, stack: ExitStack, on: str, interrupt: Interrupt) -> None:
        distributed = _library()
        self.interrupt = interrupt
        self._on = on
        if on != LOCAL and "://" not in on:
            refuse(
                f"--on {on}: write {LOCAL} for processes of this machine, or a scheduler such as tcp://10.0.0.5:8786"
            )
        interrupt.ask(lambda: None)
        try:
            self._client: Client = _local(stack, distributed) if on == LOCAL else _connected(distributed, on)
        except (OSError, ValueError, RuntimeError) as error:
            refuse(f"--on {on}: no cluster is to be had there: {str(error) or type(error).__name__}")
        stack.callback(self._client.close)
        if interrupt.status:
            raise typer.Exit(interrupt.status)
        self._refuse_others(on)
        self.n = sum(self._client.nthreads().values())
        self._made = 0
        # A line by itself: the dashboard tells of every worker and piece of work meanwhile.
        shown = "dashboard" in self._client.scheduler_info()["services"]
        dashboard = f"dashboard: {self._client.dashboard_link}" if shown else "no dashboard"
        say(f"{counted(len(self._client.nthreads()), 'worker')}; {dashboard}", err=True)

    def _refuse_others(self, on: str) -> None:
        """Workers judge as the version that they have installed does, and take work that is packed by Python and Dask:
        they have to be these.
        """
        try:
            found = self._client.run(versions)
        except Exception as error:
            refuse(f"--on {on}: its workers have no dataplane {__version__}: install it there: {error}")
        here = versions()
        for name, version in here.items():
            if others := sorted({there[name] for there in found.values()} - {version}):
                refuse(f"--on {on}: its workers have {name} {', '.join(others)}: install {version} there, as here")

    def _tell_that_it_is_gone(self) -> None:
        """Ends the command as Ctrl-C does: what is there is told."""
        say(
            f"--on {self._on}: its scheduler is gone, and what was not judged by then is missing: begin again", err=True
        )
        self.interrupt.status = EXIT_USAGE

    def shared(self, value: Any) -> Future[Any]:
        """A value that much of the work needs; workers hand it on among themselves."""
        import cloudpickle

        return self._submit("shared", _same, cloudpickle.dumps(value))

    def _submit(self, name: str, work: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Hands out work, which the dashboard calls by a name."""
        self._made += 1
        with warnings.catch_warnings():
            # Policies may be large.
            warnings.filterwarnings("ignore", "Sending large graph", UserWarning)
            return self._client.submit(work, *arguments, key=f"{name}-{os.getpid()}-{self._made}")

    def done(
        self,
        work: Callable[[Any, Any], Any],
        shared: Future[Any],
        items: Sequence[Any],
        interrupt: Interrupt,
        *,
        in_order: bool,
        sizes: Sequence[int] | None = None,
    ) -> Iterator[tuple[int, Any]]:
        """What comes of each item: its position and `work(shared, item)`, or Lost. As they are done, or in order.

        Ends early once the interrupt says so; what is still being done is given up then, and so it is where nobody asks
        on. `sizes` say how many bytes each of them is, for people who wait; the largest are begun first. What went with
        workers that died is done once more with nothing beside it, as it may be another item's fault.
        """
        import cloudpickle

        folder, pickled, name = os.getcwd(), cloudpickle.dumps(work), work.__name__.strip("_")
        finished = queue.SimpleQueue[int]()
        running: dict[int, Future[Any]] = {}
        ready: dict[int, Any] = {}
        # Large ones first, so that none is left when all the others are done.
        waiting = list(range(len(items)))
        if sizes and not in_order:
            waiting.sort(key=lambda position: -sizes[position])
        waiting.reverse()
        upcoming = 0
        stopped = interrupt.status != 0

        def stop() -> None:
            nonlocal stopped
            stopped = True

        interrupt.ask(stop)

        def begin(position: int) -> None:
            item = cloudpickle.dumps(items[position])
            running[position] = future = self._submit(name, _worked, folder, pickled, shared, item)
            future.add_done_callback(lambda _: finished.put(position))

        with ExitStack() as stack:
            stack.callback(lambda: self._client.cancel(list(running.values()), force=True))
            shown = _Progress(stack, sum(sizes) if sizes else None, len(items))
            suspected, tried = list[int](), set[int]()
            while (waiting or running or suspected) and not stopped:
                if self._client.status not in ("running", "connecting"):
                    self._tell_that_it_is_gone()
                    return
                if suspected and not running:
                    tried.add(suspected[0])
                    begin(suspected.pop(0))
                alone = suspected or not tried.isdisjoint(running)
                while waiting and not alone and len(running) + len(ready) < _AHEAD * max(self.n, 1):
                    begin(waiting.pop())
                try:
                    position = finished.get(timeout=_LOOK_EVERY)
                except queue.Empty:
                    continue
                try:
                    outcome = _outcome(running[position])
                except TimeoutError:
                    # The worker died that had made it: it is being made again, or has to be.
                    if running[position].status == "finished":
                        begin(position)
                    else:
                        finished.put(position)
                    continue
                except _CancelledError:
                    self._tell_that_it_is_gone()
                    return
                del running[position]
                if isinstance(outcome, Lost) and outcome.killed and position not in tried:
                    suspected.append(position)
                    continue
                shown.add(sizes[position] if sizes else 1)
                if not in_order:
                    yield position, outcome
                    continue
                ready[position] = outcome
                while upcoming in ready:
                    yield upcoming, ready.pop(upcoming)
                    upcoming += 1


def versions() -> dict[str, str]:
    """What a worker has, by name; of Python what its bytecode depends on."""
    from importlib.metadata import version

    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return {"dataplane": __version__, "Python": python, "dask": version("distributed")}


# What goes to a worker and back is pickled here and there, not on the way: a value that cannot be is an error of the
# work then, and what a worker has made of a shared one stays with it.


def _same(pickled: bytes) -> bytes:
    return pickled


@lru_cache(maxsize=1)
def _unpickled(pickled: bytes) -> Any:
    return pickle.loads(pickled)


def _worked(folder: str, work: bytes, shared: bytes, item: bytes) -> bytes:
    """Runs on a worker, in the folder of the command, where there is one: names are of files there."""
    import cloudpickle

    with suppress(OSError):
        os.chdir(folder)
    made: bytes = cloudpickle.dumps(pickle.loads(work)(_unpickled(shared), pickle.loads(item)))
    return made


def _library() -> Any:
    from dataplane.installation import how_to_install

    try:
        import bokeh  # noqa: F401
        import distributed
        import pyarrow  # noqa: F401
    except ModuleNotFoundError as error:
        refuse(f"--on needs {error.name}: {how_to_install('dask')} brings it")
    return distributed


def _local(stack: ExitStack, distributed: Any) -> Client:
    """A process for each processor. Nothing of it listens beyond this machine, nor hears what a terminal sends to all:
    the command ends them.
    """
    import logging
    from multiprocessing import resource_tracker

    # Whoever begins the tracker of multiprocessing unblocks what is blocked.
    resource_tracker.ensure_running()
    # Threads that are begun here, and the processes that these begin, keep the mask.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGHUP))
    try:
        cluster = distributed.LocalCluster(
            n_workers=len(os.sched_getaffinity(0)),
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            # That a worker died is told where it matters, with the capture.
            silence_logs=logging.CRITICAL,
        )
        stack.callback(cluster.close)
        client: Client = distributed.Client(cluster)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return client


def _connected(distributed: Any, on: str) -> Client:
    import logging

    # What it says of a scheduler that is gone is told in a sentence.
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)
    made = queue.SimpleQueue[Any]()

    def connect() -> None:
        try:
            made.put(distributed.Client(on, timeout=_PATIENCE))
        except Exception as error:
            made.put(error)

    # Who takes the connection and says nothing is waited for without end there.
    threading.Thread(target=connect, daemon=True).start()
    try:
        client = made.get(timeout=2 * _PATIENCE)
    except queue.Empty:
        raise OSError("its scheduler does not answer") from None
    if isinstance(client, Exception):
        raise client
    connected: Client = client
    return connected


def _outcome(future: Future[Any]) -> Any:
    """What came of it, or Lost; raises what a command answers in a sentence of its own, TimeoutError, and
    _CancelledError where the scheduler is gone.
    """
    from distributed import CancelledError
    from distributed.scheduler import KilledWorker

    try:
        return pickle.loads(future.result(timeout=_FETCH_SECONDS))
    except KilledWorker as error:
        workers = counted(error.allowed_failures + 1, "worker")
        words = f"{workers} died while judging it, and it was given up: it may need more memory than a worker has"
        return Lost(words, killed=True)
    except CancelledError:
        raise _CancelledError from None
    except (OSError, OutputError, ModuleNotFoundError, PolicyError, ChangeError, UnknownInstanceError):
        raise
    except Exception as error:
        return Lost(f"a worker could not judge it: {type(error).__name__}: {error}")


class _CancelledError(Exception):
    """The scheduler has given work up, or is gone."""


def size_of(capture: str) -> int:
    """The bytes of a capture's file, 0 where that cannot be told here."""
    try:
        if is_remote(capture):
            from dataplane.replay.remote import RemoteFile

            return RemoteFile.look(capture).size
        return os.stat(capture).st_size
    except OSError:
        return 0


class _Progress:
    """A bar on standard error where that is a terminal: how much is judged, how fast, and how long the rest takes."""

    def __init__(self, stack: ExitStack, total: int | None, items: int) -> None:
        self._done = 0
        self._items = 0
        self._update: Callable[[], object] = lambda: None
        if not sys.stderr.isatty():
            return
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

        by_size = [DownloadColumn()] if total else []
        bar = stack.enter_context(
            Progress(
                "judging",
                BarColumn(),
                TextColumn("{task.description}"),
                *by_size,
                TimeRemainingColumn(),
                console=console(sys.stderr),
                transient=True,
            )
        )
        task = bar.add_task(f"0 of {items:,}", total=total or items)
        self._update = lambda: bar.update(task, completed=self._done, description=f"{self._items:,} of {items:,}")

    def add(self, size: int) -> None:
        """One more is done."""
        self._done += size
        self._items += 1
        self._update()
