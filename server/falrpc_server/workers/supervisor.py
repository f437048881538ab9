"""Starts the workers, keeps them running, and ends them together.

One thread and one wait: for signals, for what workers say, and for the next thing that is due. It never
serves a call, and does nothing while nothing happens.
"""

import contextlib
import logging
import os
import selectors
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import structlog

from falrpc_server.config import Settings
from falrpc_server.observability import make_logger
from falrpc_server.workers import port
from falrpc_server.workers.backoff import Backoff
from falrpc_server.workers.control import DRAIN, STOP, settings_line
from falrpc_server.workers.process import Command, WorkerProcess, worker_command

__all__ = ["supervise"]

START_SECONDS_MAX = 60.0
CLEAN_UP_SECONDS_MAX = 60.0  # of a worker, beyond what its settings allow it: app.py bounds each of its waits
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
FAILURE = 1
FAILURE_BY_SIGNAL = 128  # plus the signal's number, as in shells


def supervise(settings: Settings, command: Command = worker_command) -> int:
    """Runs the workers until SIGTERM or SIGINT; a second signal stops them at once. Returns the exit code.

    Args:
        settings: What they all get, with the port that was taken.
        command: The command line of a worker.
    """
    log = make_logger(settings.log_level)
    try:
        with port.held(settings.listen) as address, _signals() as signals:
            return Supervisor(settings.model_copy(update={"listen": address}), command, signals, log).run()
    except port.PortUnavailable as error:
        log.error("server.failed", cause=str(error))
        return FAILURE


@dataclass
class Place:
    """What there must be a worker for: its number, its process or the time of its next start."""

    number: int
    process: WorkerProcess | None = None
    due_seconds: float | None = 0.0
    """By the monotonic clock."""
    backoff: Backoff = field(default_factory=Backoff)


class Supervisor:
    """The workers and what is to be done about them."""

    def __init__(
        self,
        settings: Settings,
        command: Command,
        signals: socket.socket,
        log: structlog.typing.FilteringBoundLogger,
    ) -> None:
        self._settings = settings
        self._settings_line = settings_line(settings)
        self._command = command
        self._log = log
        self._places = [Place(number) for number in range(1, settings.workers + 1)]
        self._signals = signals
        self._selector = selectors.DefaultSelector()
        self._selector.register(signals, selectors.EVENT_READ)
        self._has_started = False
        self._is_ending = False
        self._end_seconds: float | None = None
        """When workers that are left are killed, by the monotonic clock."""
        self._code = 0

    def run(self) -> int:
        """Returns the exit code."""
        with self._selector:
            while self._start_due() or self._running():
                for key, _ in self._selector.select(self._wait_seconds()):
                    if key.data is None:
                        for number in self._signals.recv(64):
                            self._signalled(number)
                    elif not key.data.read():
                        self._selector.unregister(key.fileobj)
                self._reap()
                self._kill_late()
                self._look_whether_started()
        self._log.info("server.stopped")
        return self._code

    def _running(self) -> list[WorkerProcess]:
        return [place.process for place in self._places if place.process]

    def _start_due(self) -> bool:
        """Starts what is due. Returns whether there is anything to start, now or later."""
        for place in self._places:
            if place.due_seconds is not None and place.due_seconds <= time.monotonic():
                place.due_seconds = None
                self._start(place)
        return any(place.due_seconds is not None for place in self._places)

    def _start(self, place: Place) -> None:
        try:
            place.process = WorkerProcess(self._command(place.number), self._settings_line)
        except OSError as error:
            self._log.error("worker.failed", worker=place.number, cause=str(error))
            self._ended(place, 0.0, FAILURE)
            return
        self._selector.register(place.process.line, selectors.EVENT_READ, place.process)
        self._log.info("worker.started", worker=place.number, pid=place.process.pid)

    def _look_whether_started(self) -> None:
        if not self._has_started and all(
            place.process and place.process.is_serving for place in self._places
        ):
            self._has_started = True
            if not self._is_ending:
                address, workers = self._settings.listen, self._settings.workers
                self._log.info("server.started", address=address, workers=workers)

    def _signalled(self, number: int) -> None:
        match number:
            case signal.SIGHUP:
                for process in self._running():
                    process.hang_up()
            case signal.SIGTERM | signal.SIGINT if self._is_ending:
                self._end(STOP, 0.0)
            case signal.SIGTERM | signal.SIGINT:
                self._log.info("server.draining", workers=len(self._running()))
                self._end(DRAIN, self._settings.drain_delay_seconds + self._settings.drain_seconds)

    def _end(self, order: bytes, seconds_max: float) -> None:
        """Orders all workers to end, within so many seconds and some for clean-ups."""
        self._is_ending = True
        self._end_seconds = time.monotonic() + seconds_max + CLEAN_UP_SECONDS_MAX
        for place in self._places:
            place.due_seconds = None
        for process in self._running():
            process.order(order)
            if not process.is_serving:
                process.signal(signal.SIGTERM)  # it may not read orders yet

    def _reap(self) -> None:
        """Takes note of ended workers. As process 1 of a container it also reaps what others left behind."""
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                pid, status = ended
                for place in self._places:
                    if place.process and place.process.pid == pid:
                        self._close(place, place.process, os.waitstatus_to_exitcode(status))

    def _close(self, place: Place, process: WorkerProcess, code: int) -> None:
        place.process = None
        with contextlib.suppress(KeyError):  # its end was read
            self._selector.unregister(process.line)
        process.line.close()
        was_told = self._is_ending and (code == 0 or (code == -signal.SIGTERM and not process.is_serving))
        self._log.log(
            logging.INFO if was_told else logging.ERROR,
            "worker.ended",
            worker=place.number,
            pid=process.pid,
            lived_seconds=round(process.lived_seconds, 3),
            **({"exit_code": code} if code >= 0 else {"signal": _name(-code)}),
        )
        if not was_told:
            self._ended(place, process.lived_seconds, code)

    def _ended(self, place: Place, lived_seconds: float, code: int) -> None:
        """A worker ended, or could not be started, and should not have."""
        if self._is_ending:
            self._code = self._code or FAILURE
        elif self._has_started:
            place.due_seconds = time.monotonic() + place.backoff.seconds(lived_seconds)
        else:
            self._code = code if code > 0 else FAILURE_BY_SIGNAL - code if code else FAILURE
            self._log.error("server.failed", cause=f"worker {place.number} ended before all served")
            self._end(STOP, 0.0)

    def _kill_late(self) -> None:
        """Kills what hangs: at its start, or at the end."""
        now = time.monotonic()
        is_over = self._end_seconds is not None and now >= self._end_seconds
        for process in self._running():
            is_late = not process.is_serving and now >= process.started_seconds + START_SECONDS_MAX
            if (is_over or is_late) and not process.is_killed:
                self._log.error("worker.killed", pid=process.pid)
                process.signal(signal.SIGKILL)
                process.is_killed = True
        if is_over:
            self._end_seconds = None

    def _wait_seconds(self) -> float | None:
        """Until the next thing is due, if any is."""
        due = [place.due_seconds for place in self._places if place.due_seconds is not None]
        starting = [p for p in self._running() if not p.is_serving and not p.is_killed]
        late = [process.started_seconds + START_SECONDS_MAX for process in starting]
        ends = [] if self._end_seconds is None else [self._end_seconds]
        return max(0.0, min(times) - time.monotonic()) if (times := [*due, *late, *ends]) else None


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # not all of the real-time signals have names
        return str(number)


@contextlib.contextmanager
def _signals() -> Iterator[socket.socket]:
    """A socket from which the numbers of signals are read."""
    reads, writes = socket.socketpair()
    with reads, writes:
        writes.setblocking(False)
        signal.set_wakeup_fd(writes.fileno(), warn_on_full_buffer=False)
        for number in SIGNALS:
            signal.signal(number, lambda *_: None)
        yield reads
