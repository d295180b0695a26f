"""Machines in miniature: network namespaces joined by a bridge, each with folders of its own.

What runs in one has an address of its own, and neither the shared memory nor the scratch folders
of the others. Needs root and `ip` (Debian's iproute2).
"""

import contextlib
import itertools
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

_MADE = itertools.count()


class NoNamespacesError(Exception):
    """This machine makes none, and why."""


class Machine:
    """One namespace."""

    def __init__(self, name: str, address: str, hidden: list[Path]) -> None:
        self.name, self.address = name, address
        self._hidden = ["/dev/shm", *map(str, hidden)]
        self._started: list[subprocess.Popen] = []

    def start(self, command: list[str], environment: dict[str, str], log: Path) -> subprocess.Popen:
        """Run a command as the first of the machine, with empty folders where it hides some."""
        mounts = " && ".join(f"mount -t tmpfs tmpfs {folder}" for folder in self._hidden)
        shell = ["ip", "netns", "exec", self.name, "sh", "-c", f'{mounts} && exec "$@"', "sh"]
        with log.open("w") as file:
            process = subprocess.Popen(
                [*shell, *command],
                env={**os.environ, **environment},
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        self._started.append(process)
        return process

    def pids(self) -> list[int]:
        """List all that runs here."""
        said = subprocess.run(["ip", "netns", "pids", self.name], capture_output=True, text=True)
        return [int(pid) for pid in said.stdout.split()]

    def runs(self) -> list[str]:
        """Return the command lines of all that runs here."""
        lines = []
        for pid in self.pids():
            with contextlib.suppress(OSError):
                lines.append(Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " "))
        return lines

    def pull_the_plug(self) -> None:
        """Kill everything here, at once."""
        deadline_s = time.monotonic() + 30
        while pids := self.pids():
            assert time.monotonic() < deadline_s, f"{self.name} does not die: {pids}"
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.1)
        for process in self._started:
            process.wait()


@contextlib.contextmanager
def machines(hidden: list[list[Path]]) -> Iterator[tuple[str, list[Machine]]]:
    """Give the address of this machine on the bridge, and a machine for each list of folders.

    Raises:
        NoNamespacesError: they cannot be made here.
    """
    mark = (os.getpid() + 1009 * next(_MADE)) % 62_000  # the kernel forgets a name with a delay
    bridge, network = f"vdp{mark}", f"10.{mark // 250 + 1}.{mark % 250 + 1}"
    made = [
        Machine(f"vdp{mark}n{number}", f"{network}.{number + 2}", folders)
        for number, folders in enumerate(hidden)
    ]
    try:
        _ip(f"link add {bridge} type bridge")
        _ip(f"addr add {network}.1/24 dev {bridge}")
        _ip(f"link set {bridge} up")
        for number, machine in enumerate(made):
            wire = f"{bridge}w{number}"
            _ip(f"netns add {machine.name}")
            _ip(f"link add {wire} type veth peer name eth0 netns {machine.name}")
            _ip(f"link set {wire} master {bridge} up")
            _ip(f"-n {machine.name} addr add {machine.address}/24 dev eth0")
            _ip(f"-n {machine.name} link set eth0 up")
            _ip(f"-n {machine.name} link set lo up")
        yield f"{network}.1", made
    finally:
        for machine in made:
            machine.pull_the_plug()
            _ip(f"netns del {machine.name}", check=False)
        _ip(f"link del {bridge}", check=False)


def _ip(words: str, *, check: bool = True) -> None:
    try:
        done = subprocess.run(["ip", *words.split()], capture_output=True, text=True)
    except FileNotFoundError:
        raise NoNamespacesError("there is no `ip`; install iproute2") from None
    if check and done.returncode:
        raise NoNamespacesError(f"ip {words}: {done.stderr.strip()}")
