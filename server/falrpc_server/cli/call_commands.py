"""Commands of one question and one answer: run, submit, status, result, cancel."""

from typing import Annotated

import typer

from falrpc_server.cli.options import (
    EXIT_CODES,
    CallChoices,
    Connection,
    Endpoint,
    Handle,
    InputChoices,
    OutputDirectory,
    QueueChoices,
    Security,
    take_groups,
)
from falrpc_server.cli.session import open_session

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Adds the commands to `app`."""
    for command in (run, submit, status, result, cancel):
        app.command(epilog=EXIT_CODES)(take_groups(command))


def run(
    endpoint: Endpoint,
    choices: InputChoices,
    call: CallChoices,
    connection: Connection,
    security: Security,
    output: OutputDirectory = None,
) -> None:
    """Call a model and wait for its output on one connection.

    For work that takes longer than a minute use subscribe, or submit and result.
    """
    with open_session(connection, security) as session:
        from falrpc import v1
        from falrpc_server.cli import requests, results

        request = v1.RunRequest(
            endpoint_id=endpoint,
            options=requests.call_options(call),
            input=requests.input_message(session, choices),
        )
        results.show_result(session, session.stub.Run(request, **session.call), output)


def submit(
    endpoint: Endpoint,
    choices: InputChoices,
    call: CallChoices,
    queue: QueueChoices,
    connection: Connection,
    security: Security,
) -> None:
    """Put a request into fal's queue and print its handle, as result, status and cancel take it.

    fal looks at the input only when the request runs: result tells whether it was right.
    """
    with open_session(connection, security) as session:
        from falrpc_server.cli import printing, requests, results

        request = requests.submit_request(session, endpoint, choices, call, queue)
        answer = session.stub.Submit(request, **session.call)
        if session.as_json:
            results.show_line(answer)
            return
        print(printing.plain(printing.handle_words(answer.handle)))
        if answer.HasField("queue_position"):
            session.note(f"queue position {answer.queue_position}")


def status(
    handle: Handle,
    connection: Connection,
    security: Security,
    logs: Annotated[bool, typer.Option("--logs", help="Show log entries too.")] = False,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Until it is completed.")] = False,
) -> None:
    """Show where a queue request stands.

    COMPLETED includes failed and cancelled: result tells.
    """
    with open_session(connection, security) as session:
        from falrpc import v1
        from falrpc_server.cli import printing, requests, results

        target = requests.request_handle(handle)
        if not follow:
            answer = session.stub.Status(v1.StatusRequest(handle=target, include_logs=logs), **session.call)
            if session.as_json:
                results.show_line(answer)
                return
            print("\n".join([*map(printing.log_line, answer.logs), printing.status_sentence(answer.status)]))
            return
        request = v1.StreamStatusRequest(handle=target, include_logs=logs)
        for update in session.stub.StreamStatus(request, **session.call):
            if update.WhichOneof("kind") == "heartbeat":
                continue
            if session.as_json:
                results.show_line(update)
            elif update.WhichOneof("kind") == "status":
                print(printing.status_sentence(update.status), flush=True)
            else:
                print("\n".join(printing.log_lines(update.logs)), flush=True)


def result(
    handle: Handle,
    connection: Connection,
    security: Security,
    wait: Annotated[
        float | None, typer.Option(min=0, metavar="SECONDS", help="How long to wait for its completion.")
    ] = None,
    output: OutputDirectory = None,
) -> None:
    """Print the output of a queue request, or why it failed."""
    with open_session(connection, security) as session:
        from falrpc import v1
        from falrpc_server.cli import requests, results

        request = v1.ResultRequest(handle=requests.request_handle(handle))
        if wait is not None:
            request.wait.CopyFrom(requests.duration(wait))
        results.show_result(session, session.stub.Result(request, **session.call), output)


def cancel(handle: Handle, connection: Connection, security: Security) -> None:
    """Ask fal to drop a queue request. A model that is running may go on to its end."""
    with open_session(connection, security) as session:
        from falrpc import v1
        from falrpc_server.cli import printing, requests, results

        answer = session.stub.Cancel(v1.CancelRequest(handle=requests.request_handle(handle)), **session.call)
        if session.as_json:
            results.show_line(answer)
        else:
            print(printing.enum_word(answer, "outcome", "CANCEL_OUTCOME_"))
