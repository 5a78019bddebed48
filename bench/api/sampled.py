"""`edict serve`, looked at from within: where its threads are, two hundred times a second.

    python -m bench.api.sampled PORT FILE

serves until SIGTERM, and then writes the shares of samples, of threads that were not waiting, into
FILE: `own` where the innermost Python frame is of our packages, else by the library's name.
"""

import json
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import FrameType

from jobs.settings import load_settings
from producer.api.serve import bind, make_server
from producer.client import Client

SAMPLE_SECONDS = 0.005
_ROOT = Path(__file__).parents[2]
_OURS = tuple(f"{_ROOT / name}/" for name in ("producer", "jobs"))
_WAITING = ("selectors.py", "threading.py", "queue.py", "concurrent/futures/thread.py")


def place(frame: FrameType) -> str | None:
    """Whose code a thread is in; None: it waits."""
    file = frame.f_code.co_filename
    if file.endswith(_WAITING):
        return None
    if file.startswith(_OURS):
        return "own"
    _, found, rest = file.partition("site-packages/")
    return rest.split("/")[0].removesuffix(".py") if found else "python"


def sample(stop: threading.Event, counts: Counter[str]) -> None:
    """Look at all threads but this one until told to stop."""
    me = threading.get_ident()
    while not stop.wait(SAMPLE_SECONDS):
        for thread, frame in sys._current_frames().items():
            if thread != me and (where := place(frame)) is not None:
                counts[where] += 1


def main() -> None:
    """Serve and sample."""
    port, file = int(sys.argv[1]), Path(sys.argv[2])
    stop, counts = threading.Event(), Counter[str]()
    with Client(load_settings()) as client, bind("127.0.0.1", port) as listening:
        server = make_server(client, keyless=True)
        serving = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        sampling = threading.Thread(target=sample, args=(stop, counts))
        serving.start()
        signal.signal(signal.SIGTERM, lambda *_: stop.set())
        sampling.start()
        while not stop.is_set():
            time.sleep(0.05)
        sampling.join()
        server.should_exit = True
        serving.join()
    total = counts.total()
    file.write_text(json.dumps({name: count / total for name, count in counts.most_common()}))


if __name__ == "__main__":
    main()
