"""`edict serve`: the HTTP API."""

from typing import Annotated

import typer

from producer.cli.options import Home, Json, examples
from producer.cli.output import out, print_data

EXAMPLES = examples(
    "edict serve                          [dim]for this machine, without keys[/]",
    "edict keys create ci --scope submit && edict serve --host 0.0.0.0 --port 8080",
    "curl http://127.0.0.1:8080/v1/batches",
)


def serve(
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="Where to listen.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65_535, help="0 takes any that is free.")
    ] = 8_080,
    require_key: Annotated[
        bool,
        typer.Option("--require-key", help="Also on 127.0.0.1, such as behind a proxy."),
    ] = False,
    json: Json = False,
    home: Home = None,
) -> None:
    """Serve the HTTP API until Ctrl-C or SIGTERM.

    Where other machines can reach it, every request needs a key.
    """
    from jobs.errors import ConfigurationError
    from jobs.logs import configure_logging
    from producer.cli.services import open_client

    try:
        from producer.api.serve import bind, check_keys, make_server
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"{error.name} is not installed; run pip install 'edict[serve]'"
        ) from None
    with open_client(home, "api") as client:
        configure_logging()
        keyless = check_keys(client.store, host, require_key=require_key)
        with bind(host, port) as listening:
            shown = f"[{host}]" if ":" in host else host
            url = f"http://{shown}:{listening.getsockname()[1]}"
            if json:
                print_data({"url": url})
            else:
                out.print(f"serving {url}", highlight=False, soft_wrap=True)
            make_server(client, keyless=keyless).run(sockets=[listening])
