"""A process without progress says where it stands and ends."""

import subprocess
import sys
import threading
import time

import pytest

from video_platform.errors import HungError
from video_platform.training.watchdog import Watchdog, all_stacks


def test_progress_keeps_the_process_alive_and_its_lack_tells_the_stacks_and_ends_it():
    told, ended = [], threading.Event()
    codes = []

    def end(code):
        codes.append(code)
        ended.set()

    def stand_still():
        ended.wait(20)

    with Watchdog(0.5, on_hang=lambda line, stacks: told.append((line, stacks)), end=end) as dog:
        for step in range(8):
            dog.alive(f"step {step}")
            time.sleep(0.1)
        assert not told
        stand_still()
    assert codes == [HungError.exit_code]
    ((line, stacks),) = told
    assert line.startswith("no progress for ") and line.endswith("in step 7")
    assert "in stand_still" in stacks


def test_the_main_thread_is_told_of_first_among_very_many():
    done = threading.Event()
    others = [threading.Thread(target=done.wait, name=f"idle-{i}") for i in range(150)]
    for thread in others:
        thread.start()
    stacks = all_stacks()
    done.set()
    for thread in others:
        thread.join()
    assert stacks.startswith("thread MainThread:")
    assert all(f"thread idle-{i}:" in stacks for i in range(150))


def test_a_watchdog_without_a_limit_never_fires():
    with Watchdog(None, end=lambda code: pytest.fail("it fired")) as dog:
        dog.alive("nothing")


def test_a_process_that_holds_the_interpreter_lock_for_ever_is_ended_too():
    """The regular expression takes longer than the universe has been, and never gives it back."""
    code = (
        "import re, video_platform.training.watchdog as w\n"
        "w.GRACE_S = 0.2\n"
        "with w.Watchdog(1.0):\n"
        "    re.match('(a+)+b', 'a' * 60)\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60,
        env={"PYTHONPATH": "platform"},
    )  # fmt: skip
    assert process.returncode == 1
    assert "Timeout (0:00:01.4" in process.stderr and 'File "<string>", line 4' in process.stderr
