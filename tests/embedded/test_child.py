"""A child process is never left behind, and says why when it fails."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from jobs.processes import AlreadyRunning, Child, ProcessDidNotStart
from tests.embedded.processes import (
    eventually,
    is_alive,
    is_zombie_or_alive,
    owner,
    read_line,
)

SLEEP = ["sleep", "600"]
STUBBORN = ["sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.1; done"]
START_AND_WAIT = """
import sys, time
from jobs.processes import Child
child = Child("child", sys.argv[1:]).start()
print(child.pid, flush=True)
time.sleep(600)
"""


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def printed(child: Child, word: str) -> None:
    child.wait_until(lambda: word in child.log_tail(), 10)


def test_a_child_ends_when_its_parent_is_killed() -> None:
    with owner(START_AND_WAIT, *SLEEP) as parent:
        pid = int(read_line(parent))
        assert eventually(lambda: is_alive(pid))
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        assert eventually(lambda: not is_alive(pid))


def test_children_of_children_end_too_when_the_first_is_killed() -> None:
    with owner(START_AND_WAIT, sys.executable, "-c", START_AND_WAIT, *SLEEP) as parent:
        child, grandchild = int(read_line(parent)), int(read_line(parent))
        assert eventually(lambda: is_alive(child) and is_alive(grandchild))
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        assert eventually(lambda: not is_alive(child) and not is_alive(grandchild))


def test_a_child_lives_on_when_the_thread_that_asked_for_it_ends() -> None:
    child = Child("sleep", SLEEP)
    thread = threading.Thread(target=child.start)
    thread.start()
    thread.join()
    time.sleep(0.3)
    assert child.is_running
    child.stop()


def test_a_child_whose_parent_is_gone_before_it_is_set_up_does_not_run(tmp_path: Path) -> None:
    import jobs.exec_with_parent

    trampoline, mark = Path(jobs.exec_with_parent.__file__), tmp_path / "mark"
    nobody = str(2**22 + 1)  # above the highest process id
    command = [sys.executable, "-I", "-S", str(trampoline), nobody, "15", "touch", str(mark)]
    child = Child("orphan", command).start()
    assert child.wait(10) == jobs.exec_with_parent.GONE
    assert not mark.exists()


def test_a_child_is_in_a_session_of_its_own() -> None:
    with Child("sleep", SLEEP) as child:
        assert child.pid is not None
        assert os.getsid(child.pid) == child.pid != os.getsid(0)


def test_stop_asks_first_and_gives_the_exit_status(tmp_path: Path) -> None:
    polite = "trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.1; done"
    child = Child("polite", ["sh", "-c", polite], log=tmp_path / "log").start()
    printed(child, "up")
    assert child.stop(timeout=10) == 7
    assert "bye" in child.log_tail()


def test_stop_kills_what_does_not_listen(tmp_path: Path) -> None:
    child = Child("stubborn", STUBBORN, log=tmp_path / "log").start()
    printed(child, "up")
    assert child.stop(timeout=0.3) == -signal.SIGKILL


def test_a_stopped_child_leaves_no_zombie_and_no_descriptor(tmp_path: Path) -> None:
    Child("first", ["true"], log=tmp_path / "log").start().wait()  # the keeper's own costs
    before = open_descriptors()
    child = Child("sleep", SLEEP, log=tmp_path / "log").start()
    child.stop()
    assert child.pid is not None
    assert not is_zombie_or_alive(child.pid)
    assert open_descriptors() == before


def test_what_a_child_leaves_in_its_group_ends_with_it(tmp_path: Path) -> None:
    child = Child("leader", ["sh", "-c", "sleep 600 & echo $!"], log=tmp_path / "log").start()
    assert child.wait(10) == 0
    left = int(child.log_tail())
    assert eventually(lambda: not is_alive(left))


def test_a_child_that_fails_at_once_shows_the_end_of_its_log(tmp_path: Path) -> None:
    fails = "for i in $(seq 100); do echo line $i; done; echo no such table >&2; exit 3"
    child = Child("fails", ["sh", "-c", fails], log=tmp_path / "fails.log").start()
    began = time.monotonic()
    with pytest.raises(ProcessDidNotStart) as caught:
        child.wait_until(lambda: False, timeout=60)
    assert time.monotonic() - began < 10
    message = str(caught.value)
    assert message.startswith("fails ended with status 3")
    assert message.endswith("no such table")
    assert "line 100" in message
    assert "line 10\n" not in message


def test_a_child_that_is_never_ready_is_reported_after_the_timeout(tmp_path: Path) -> None:
    with (
        Child("slow", SLEEP, log=tmp_path / "log") as child,
        pytest.raises(ProcessDidNotStart, match=r"slow was not ready after 0\.2 s"),
    ):
        child.wait_until(lambda: False, timeout=0.2)


def test_a_program_that_does_not_exist_is_named() -> None:
    with pytest.raises(ProcessDidNotStart, match="'no-such-program'"):
        Child("ghost", ["no-such-program"]).start()


def test_a_running_child_is_not_started_twice() -> None:
    with Child("sleep", SLEEP) as child, pytest.raises(AlreadyRunning, match=str(child.pid)):
        child.start()


def test_a_child_that_ended_can_be_started_again(tmp_path: Path) -> None:
    child = Child("twice", ["sh", "-c", "echo $$"], log=tmp_path / "log")
    child.start().wait()
    first = child.log_tail()
    child.start().wait()
    assert child.log_tail() != first
    assert (tmp_path / "log.1").read_text().strip() == first


def test_the_log_is_private(tmp_path: Path) -> None:
    Child("quick", ["true"], log=tmp_path / "log").start().wait()
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600


def test_children_start_after_a_fork_too() -> None:
    code = """
import os
from jobs.processes import Child
Child("before", ["true"]).start().wait()
if os.fork() == 0:
    os._exit(Child("after", ["sh", "-c", "exit 5"]).start().wait(10) or 0)
print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
"""
    with owner(code) as process:
        assert read_line(process) == "5"


def test_who_waits_for_a_child_that_another_starts_again_is_told_of_its_end() -> None:
    child = Child("sleep", SLEEP)
    with child:
        ended = []
        waiting = threading.Thread(target=lambda: ended.append(child.wait(10)))
        waiting.start()
        time.sleep(0.1)
        os.kill(child.pid, signal.SIGKILL)
        while child.is_running:
            pass
        child.start()
        waiting.join()
    assert ended == [-signal.SIGKILL]
