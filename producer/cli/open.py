"""`edict open`: the dashboard in a browser."""

from typing import Annotated

import typer

from producer.cli.options import Json, examples
from producer.cli.output import out, print_data, say

EXAMPLES = examples(
    "edict serve &  edict open",
    "edict open fruit",
    "edict open --job 0198c0de-… --url https://edict.example.org",
)
LOOK_SECONDS = 3.0


def open_(
    batch: Annotated[
        str | None, typer.Argument(metavar="BATCH", help="Its name or id. Default: all of them.")
    ] = None,
    job: Annotated[
        str | None, typer.Option("--job", metavar="ID", help="A job instead of a batch.")
    ] = None,
    url: Annotated[
        str, typer.Option("--url", metavar="URL", help="Where `edict serve` runs.")
    ] = "http://127.0.0.1:8080",
    json: Json = False,
) -> None:
    """Open the dashboard, a batch or a job in a browser, and print its address.

    Ends with 0 once the server answers, whether or not this machine has a browser.
    """
    import webbrowser
    from urllib.parse import quote

    from jobs.errors import InvalidInput

    if batch is not None and job is not None:
        raise InvalidInput("job", "is given besides a batch; give one of both")
    base = url.rstrip("/")
    _look(base)
    path = "/"
    if batch is not None:
        path = f"/batches/{quote(batch, safe='')}"
    if job is not None:
        path = f"/jobs/{quote(job, safe='')}"
    opened = webbrowser.open(base + path)
    if json:
        print_data({"url": base + path, "opened": opened})
    else:
        out.print(base + path, highlight=False, soft_wrap=True, markup=False)
    if not opened:
        say("no browser was found: open this address in one")


def _look(base: str) -> None:
    """Ask the server whether it lives.

    Raises:
        InvalidInput: it is no address of a web server.
        ServiceUnavailable: it does not answer.
    """
    from urllib.error import URLError
    from urllib.parse import urlsplit
    from urllib.request import ProxyHandler, build_opener

    from jobs.errors import InvalidInput, ServiceUnavailable

    if not base.startswith(("http://", "https://")):
        raise InvalidInput("url", f"{base!r:.120} is not of the form https://host")
    # Behind a company's proxy, our own machine is not to be asked of the proxy.
    here = urlsplit(base).hostname in {"127.0.0.1", "::1", "localhost"}
    opener = build_opener(ProxyHandler({})) if here else build_opener()
    try:
        with opener.open(f"{base}/livez", timeout=LOOK_SECONDS):
            return
    except (URLError, OSError, ValueError) as error:
        raise ServiceUnavailable(
            f"{base} does not answer ({error}); start it with `edict serve`, or give --url"
        ) from None
