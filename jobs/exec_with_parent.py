"""Trampoline: become a command that dies with its parent.

Run as a script, never imported: `python -I -S exec_with_parent.py PARENT SIGNAL COMMAND…`. It asks
the kernel for SIGNAL when the parent ends, then replaces itself with COMMAND, so the process id
stays. A `preexec_fn` could do the same without the 15 ms of a Python start, but it runs Python
between fork and exec of a process with threads, where any lock may be held for ever; and Debian's
`setpriv --pdeathsig` is not everywhere and leaves the race below open.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
GONE = 126
NOT_FOUND = 127


def main(arguments: list[str]) -> int:
    """Never returns if all goes well; otherwise gives the exit status."""
    parent, death_signal, command = int(arguments[0]), int(arguments[1]), arguments[2:]
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0) != 0:
        print(f"prctl: {os.strerror(ctypes.get_errno())}", file=sys.stderr)  # noqa: T201
        return GONE
    # The parent may have ended between fork and prctl: its signal will then never come.
    if os.getppid() != parent:
        return GONE
    # Python ignores these two and exec hands that on; servers expect the usual.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    # A shell that started us in the background has us ignore this one.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)  # noqa: S606 - replacing ourselves is the purpose
    except OSError as error:
        print(f"cannot run {command[0]}: {error.strerror}", file=sys.stderr)  # noqa: T201
        return NOT_FOUND


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
