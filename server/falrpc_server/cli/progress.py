"""Progress on standard error: bars on a terminal, plain lines elsewhere, nothing for programs."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TransferSpeedColumn,
)

from falrpc import v1
from falrpc_server.cli import downloads, printing

__all__ = ["QueueProgress", "queue_progress", "transfer_progress"]


class QueueProgress:
    """What a queue request is doing: a bar that fills while the places before it empty."""

    def __init__(self, console: Console, bars: Progress | None, task: TaskID) -> None:
        self._console = console
        self._bars = bars
        self._task = task
        self._places = 0

    def show_status(self, status: v1.RequestStatus) -> None:
        """Shows where the request stands."""
        sentence = printing.status_sentence(status)
        if self._bars is None:
            self.show_line(sentence)
            return
        if status.state == v1.RequestState.REQUEST_STATE_IN_QUEUE and status.HasField("queue_position"):
            self._places = max(self._places, status.queue_position + 1)
            done, total = self._places - status.queue_position - 1, self._places
        elif status.state == v1.RequestState.REQUEST_STATE_COMPLETED:
            done, total = 1, 1
        else:
            done, total = 0, None  # pulses
        self._bars.tasks[0].total = total  # update() takes None for "as it was"
        self._bars.update(self._task, description=sentence, completed=done)

    def show_logs(self, logs: v1.Logs) -> None:
        """Prints log entries above the bar."""
        for line in printing.log_lines(logs):
            self.show_line(line)

    def show_line(self, text: str) -> None:
        """Prints a line above the bar."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def queue_progress(*, quiet: bool) -> Iterator[QueueProgress]:
    """Progress of one queue request."""
    console = Console(stderr=True, quiet=quiet)
    if quiet or not console.is_terminal:
        yield QueueProgress(console, None, TaskID(0))
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as bars:
        yield QueueProgress(console, bars, bars.add_task("submitting", total=None))


@contextmanager
def transfer_progress(name: str, *, quiet: bool) -> Iterator[downloads.Progress]:
    """Progress of one file's bytes; nothing when there is no terminal."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
    )
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal) as bars:
        task = bars.add_task(printing.plain(name), total=None)
        yield lambda done, size: bars.update(task, completed=done, total=size)
