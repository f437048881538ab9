"""Commands that follow a stream: subscribe, stream, stream-workflow."""

from typing import Annotated

import typer

from falrpc_server.cli.options import (
    EXIT_CODES,
    CallChoices,
    Connection,
    Endpoint,
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
    for command in (subscribe, stream, stream_workflow):
        app.command(epilog=EXIT_CODES)(take_groups(command))


def subscribe(
    endpoint: Endpoint,
    choices: InputChoices,
    call: CallChoices,
    queue: QueueChoices,
    connection: Connection,
    security: Security,
    logs: Annotated[bool, typer.Option(help="Show the model's log.")] = True,
    detach: Annotated[
        bool, typer.Option("--detach", help="When interrupted, let the request go on at fal.")
    ] = False,
    output: OutputDirectory = None,
) -> None:
    """Submit a request to fal's queue and follow it to its result.

    Interrupting it cancels the request, unless --detach is given.
    """
    with open_session(connection, security) as session:
        from falrpc import v1
        from falrpc_server.cli import printing, progress, requests, results

        policy = v1.AbandonPolicy
        request = v1.SubscribeRequest(
            submit=requests.submit_request(session, endpoint, choices, call, queue),
            on_abandon=policy.ABANDON_POLICY_DETACH if detach else policy.ABANDON_POLICY_CANCEL,
            include_logs=logs,
        )
        answer = v1.ResultResponse()
        with progress.queue_progress(quiet=session.as_json) as shown:
            for message in session.stub.Subscribe(request, **session.call):
                match message.WhichOneof("kind"):
                    case "heartbeat":
                        continue
                    case "accepted":
                        shown.show_line(f"accepted: {printing.handle_words(message.accepted)}")
                    case "status":
                        shown.show_status(message.status)
                    case "logs":
                        shown.show_logs(message.logs)
                    case "result":
                        answer = message.result
                if session.as_json:
                    results.show_line(message)
        if session.as_json:
            results.save(session, answer.output, output)
        else:
            results.show_result(session, answer, output)


def stream(
    endpoint: Endpoint,
    choices: InputChoices,
    call: CallChoices,
    connection: Connection,
    security: Security,
    output: OutputDirectory = None,
) -> None:
    """Call a model that streams and print its events as they come. The last one is the result."""
    with open_session(connection, security) as session:
        from falrpc import v1
        from falrpc_server.cli import printing, requests, results

        request = v1.StreamRequest(
            endpoint_id=endpoint,
            options=requests.call_options(call),
            input=requests.input_message(session, choices),
        )
        last = v1.Output()
        for message in session.stub.Stream(request, **session.call):
            kind = message.WhichOneof("kind")
            if kind == "event":
                last = message.event
            if session.as_json and kind != "heartbeat":
                results.show_line(message)
            elif kind == "started":
                session.note(printing.call_sentence(message.started))
            elif kind == "event":
                print(printing.one_line(message.event), flush=True)
        results.save(session, last, output)


def stream_workflow(
    endpoint: Endpoint,
    choices: InputChoices,
    call: CallChoices,
    connection: Connection,
    security: Security,
    output: OutputDirectory = None,
) -> None:
    """Run a workflow and print its steps as they come, then its output."""
    with open_session(connection, security) as session:
        from falrpc import v1
        from falrpc_server.cli import printing, requests, results

        request = v1.StreamWorkflowRequest(
            endpoint_id=endpoint,
            options=requests.call_options(call),
            input=requests.input_message(session, choices),
        )
        last = v1.Output()
        for message in session.stub.StreamWorkflow(request, **session.call):
            kind = message.WhichOneof("kind")
            if kind == "output":
                last = message.output.output
            if kind == "heartbeat":
                continue
            if session.as_json:
                results.show_line(message)
            else:
                print(printing.workflow_line(message), flush=True)
        results.save(session, last, output)
