"""The command that runs the emulator."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from falrpc_server.emulator import Urls

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Adds the command to `app`."""
    app.command()(emulator)


def emulator(
    host: Annotated[str, typer.Option(help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free port.")] = 8088,
    tls_port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Serve TLS there, too, with a certificate of its own."),
    ] = None,
    speed: Annotated[
        float,
        typer.Option(
            min=0.001,
            max=1e6,
            help="fal's time passes so many times faster: queue, models, expiry, retries of webhooks. "
            "What a caller asks for in seconds stays real.",
        ),
    ] = 1.0,
    seed: Annotated[int | None, typer.Option(help="Gives the same ids in every run.")] = None,
    keepalive_seconds: Annotated[
        float, typer.Option(min=0.001, help="How often a silent status stream gets a comment.")
    ] = 15.0,
    key: Annotated[
        str | None,
        typer.Option(metavar="ID:SECRET", help="The only fal key that it accepts; any by default."),
    ] = None,
    gcs_uploads: Annotated[
        bool, typer.Option("--gcs-uploads", help="Take uploads of the older storage type gcs, too.")
    ] = False,
    drop_private_webhooks: Annotated[
        bool,
        typer.Option(
            "--drop-private-webhooks", help="Send none to private and loopback addresses, like fal."
        ),
    ] = False,
    show: Annotated[
        bool,
        typer.Option("--list", help="Print models, scenarios and the emulator's own endpoints, and exit."),
    ] = False,
) -> None:
    """Run an HTTP server that behaves like fal.ai, for trials and tests without a key."""
    from falrpc_server import emulator as fal
    from falrpc_server import garbage

    if show:
        _print_catalogue(fal.catalogue())
        return

    def announce(urls: "Urls") -> None:
        print(f"listening {' '.join(filter(None, (urls.http, urls.https)))}\n", flush=True)
        print("To point a gateway at it:")
        print(f"  export FALRPC_EMULATOR_URL={urls.http}")
        print(f"  export FAL_KEY={key or 'any-id:any-secret'}", flush=True)
        if urls.https:
            print(f"To trust its certificate: {urls.http}/_emulator/ca.pem", flush=True)

    garbage.look_rarely()
    fal.serve(
        fal.Listening(host, port, tls_port),
        fal.Options(speed, seed, keepalive_seconds, key, gcs_uploads, drop_private_webhooks),
        announce,
    )


def _print_catalogue(catalogue: dict[str, Any]) -> None:
    print("Models")
    for name, model in catalogue["models"].items():
        print(f"  {name}\n      {model['summary']}")
        for field, kind in model["input"].items():
            print(f"      {field}: {kind}")
    print("\nScenarios (the value of `act`)")
    for name, act in catalogue["scenarios"].items():
        print(f"  {name}\n      {act['summary']}")
        for field, default in act["fields"].items():
            print(f"      {field}: {default}")
    print("  fields of all")
    for field, meaning in catalogue["scenario fields"].items():
        print(f"      {field}: {meaning}")
    print("\nOperations (of a scenario)")
    for name, meaning in catalogue["operations"].items():
        print(f"  {name:26}{meaning}")
    print("\nFailures (of the scenario `fail`), and their HTTP status")
    for name, status in catalogue["failures"].items():
        print(f"  {name:36}{status}")
    print("\nThe emulator's own endpoints")
    for name, meaning in catalogue["endpoints"].items():
        print(f"  {name:30}{meaning}")
