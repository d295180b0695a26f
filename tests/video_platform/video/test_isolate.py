"""The decoder's process: it may die, hang or swell, and the next call works all the same."""

import copy
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from video_platform.errors import MediaError
from video_platform.video.decode import decode
from video_platform.video.isolate import IsolatedDecoder
from video_platform.video.limits import MediaLimits
from video_platform.video.probe import probe


@pytest.fixture(scope="module")
def decoder():
    with IsolatedDecoder(MediaLimits()) as decoder:
        yield decoder


def child_of(decoder):
    return decoder._child._process.pid


def alive(pid):
    """Whether a process runs; one that is dead but not yet reaped does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def reason_of(call, *arguments):
    with pytest.raises(MediaError) as caught:
        call(*arguments)
    return caught.value.reason


def test_it_gives_what_a_call_in_this_process_gives(decoder, media, policy, tmp_path):
    data = media.video(media.grey(8))
    (tmp_path / "clip.mp4").write_bytes(data)
    here = decode(data, policy=policy, limits=decoder.limits)
    for source in (data, tmp_path / "clip.mp4"):
        there = decoder.decode(source, policy)
        np.testing.assert_array_equal(there.frames, here.frames)
        assert (there.pts_s, there.backend) == (here.pts_s, here.backend)
        assert decoder.probe(source) == probe(data, decoder.limits)


def test_a_clip_may_begin_anywhere(decoder, media, policy):
    data = media.video(media.grey(45), g="5")
    clip = decoder.decode(data, policy, start_s=3.5)
    assert media.seen(clip.frames) == [35, 36, 37, 38, 39]
    assert clip.why
    assert not clip.from_start


def test_relative_paths_are_those_of_the_caller(decoder, media, tmp_path, monkeypatch):
    (tmp_path / "-clip.mp4").write_bytes(media.video(media.grey(3)))
    monkeypatch.chdir(tmp_path)
    assert decoder.probe(Path("-clip.mp4")).frames == 3


def test_a_reject_keeps_its_reason_and_the_process(decoder):
    assert reason_of(decoder.probe, b"nonsense" * 100) == "not_video"
    pid = child_of(decoder)
    assert reason_of(decoder.probe, b"") == "empty_file"
    assert child_of(decoder) == pid


def test_a_misuse_is_raised_as_what_it_is(decoder, media, policy):
    ten_bits = media.video(media.grey(6), pixel_format="yuv420p10le")
    with pytest.raises(ValueError, match="decord"):
        decoder.decode(ten_bits, policy, backend="decord")


def test_a_process_that_dies_costs_one_call(decoder, media):
    data = media.video(media.grey(3))
    decoder.probe(data)
    os.kill(child_of(decoder), signal.SIGKILL)
    with pytest.raises(MediaError, match=r"crash: .*killed by SIGKILL"):
        decoder.probe(data)
    assert decoder.probe(data).frames == 3


def test_a_process_that_dies_during_a_call_costs_one_call(media):
    with IsolatedDecoder(MediaLimits()) as decoder:
        decoder.probe(media.video(media.grey(3)))
        pid = child_of(decoder)
        os.kill(pid, signal.SIGSTOP)
        killer = subprocess.Popen(["sh", "-c", f"sleep 0.3; kill -SEGV {pid}; kill -CONT {pid}"])
        with pytest.raises(MediaError, match="killed by SIGSEGV"):
            decoder.probe(media.video(media.grey(3)))
        killer.wait()
        assert decoder.probe(media.video(media.grey(3))).frames == 3


def test_a_call_that_hangs_is_killed_in_time(media):
    with IsolatedDecoder(MediaLimits(timeout_s=0.5)) as decoder:
        data = media.video(media.grey(3))
        decoder.probe(data)
        hung = child_of(decoder)
        os.kill(hung, signal.SIGSTOP)
        started = time.monotonic()
        assert reason_of(decoder.probe, data) == "timeout"
        assert time.monotonic() - started < 5
        assert not alive(hung)
        assert decoder.probe(data).frames == 3


def test_memory_is_capped_in_the_process_alone(media, policy):
    greedy = {"frames": 300, "height": 1080, "width": 1920}
    with IsolatedDecoder(MediaLimits(max_memory_bytes=200 * 1024**2)) as decoder:
        data = media.video(media.grey(3))
        large = type(policy)(fps=10.0, short="repeat_last", **greedy)
        assert reason_of(decoder.decode, data, large) == "too_much_memory"
        assert decoder.probe(data).frames == 3
    np.ones(300 * 1024**2, np.uint8)


def test_closing_leaves_no_process_and_a_later_call_starts_one(media):
    decoder = IsolatedDecoder(MediaLimits())
    data = media.video(media.grey(3))
    decoder.probe(data)
    first = child_of(decoder)
    decoder.close()
    decoder.close()
    assert not alive(first)
    decoder.probe(data)
    second = child_of(decoder)
    del decoder
    assert not alive(second)


def test_a_copy_has_a_process_of_its_own(decoder, media):
    data = media.video(media.grey(3))
    decoder.probe(data)
    for twin in (copy.deepcopy(decoder), pickle.loads(pickle.dumps(decoder))):
        assert twin.limits == decoder.limits
        assert twin.probe(data).frames == 3
        assert child_of(twin) != child_of(decoder)
        twin.close()


def run_script(media, tmp_path, ending):
    """Run a script without a `__main__` guard that probes a clip; return it and its output."""
    (tmp_path / "clip.mp4").write_bytes(media.video(media.grey(3)))
    (tmp_path / "script.py").write_text(SCRIPT + ending)
    return subprocess.run(
        [sys.executable, tmp_path / "script.py", tmp_path / "clip.mp4"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )


SCRIPT = """
import os
import sys
from video_platform.video.isolate import IsolatedDecoder
from video_platform.video.limits import MediaLimits

print("ran")
decoder = IsolatedDecoder(MediaLimits())
print(decoder.probe(open(sys.argv[1], "rb").read()).frames)
print(decoder._child._process.pid, flush=True)
"""


def test_a_script_without_a_guard_runs_once_and_leaves_nothing(media, tmp_path):
    ended = run_script(media, tmp_path, "")
    ran, frames, pid = ended.stdout.split()
    assert (ran, frames, ended.stderr, ended.returncode) == ("ran", "3", "", 0)
    assert not alive(int(pid))


def test_the_process_does_not_outlive_a_parent_that_is_killed(media, tmp_path):
    ended = run_script(media, tmp_path, "os.kill(os.getpid(), 9)")
    assert ended.returncode == -signal.SIGKILL
    pid = int(ended.stdout.split()[-1])
    deadline = time.monotonic() + 10
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not alive(pid)


def test_no_thread_of_the_decoder_waits_for_python_to_log():
    """At any other log level, closing a decoder with two threads may wait for ever."""
    code = """if True:
        import multiprocessing, os, threading
        import av.logging
        from video_platform.video import child
        from video_platform.video.limits import MediaLimits
        ours, theirs = multiprocessing.Pipe()
        ours.send(MediaLimits())
        thread = threading.Thread(target=lambda: (ours.recv(), ours.close()))
        thread.start()
        child.main(os.dup(theirs.fileno()))
        print(av.logging.get_level())
    """
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.stdout.split() == ["None"], ended.stderr


def test_the_process_imports_nothing_heavy():
    code = "import sys, video_platform.video.child; print(*sys.modules)"
    modules = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    heavy = {"torch", "ray", "mlflow", "deepspeed", "decord", "scenedetect", "cv2", "scipy"}
    assert not heavy & set(modules)
