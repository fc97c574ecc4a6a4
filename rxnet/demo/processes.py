"""The programs of the demo: each a process in its namespace, its output in files, so that it can outlive the demo."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import rxnet
from rxnet.demo.lan import CORE_ADDRESS, Lan, Place
from rxnet.demo.trace import Seen, Trace, parse
from rxnet.errors import DeviceError
from rxnet.files import problem
from rxnet.server.serve import DEFAULT_PORT

END_LIMIT: Final = 5.0
"""Seconds for all programs to end by themselves."""
_CHUNK: Final = 1 << 20
_OTHERS: Final = ("RXNET_", "JOURNAL_STREAM", "http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY")
"""Variables that would make the hosts of the demo talk to somebody else."""


class Program:
    """A process in a namespace. What it prints goes to `NAME.out` and `NAME.log` in the run's directory."""

    def __init__(self, name: str, namespace: str, directory: Path, arguments: Sequence[str]) -> None:
        self.name = name
        self.log = directory / f"{name}.log"
        out = directory / f"{name}.out"
        command = ["ip", "netns", "exec", namespace, sys.executable, "-P", "-m", *arguments]
        try:
            with open(out, "wb") as standard, open(self.log, "wb") as errors:
                self.process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=standard,
                    stderr=errors,
                    env=environment(),
                    cwd="/",
                    start_new_session=True,  # the terminal's Ctrl-C is for the demo, which ends them in order
                )
            self._out = open(out, "rb")  # noqa: SIM115  closed by `close`
        except OSError as error:
            raise DeviceError(f"cannot start {name}: {problem(error)}") from None
        self._rest = b""

    @property
    def pid(self) -> int:
        """Of the program itself: `ip netns exec` becomes it."""
        return self.process.pid

    def lines(self) -> Iterator[bytes]:
        """The whole lines that it has printed since the last call."""
        while chunk := self._out.read(_CHUNK):
            *whole, self._rest = (self._rest + chunk).split(b"\n")
            yield from whole

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if it still runs."""
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def last_words(self) -> str:
        """The last line of its log."""
        with contextlib.suppress(OSError):
            lines = self.log.read_text(errors="replace").strip().splitlines()
            if lines:
                return lines[-1][-300:]
        return ""

    def close(self) -> None:
        """Let go of its output."""
        self._out.close()


class Host(Program):
    """`rxnet up` in a host's namespace."""

    def __init__(self, place: Place, directory: Path) -> None:
        self.place = place
        self.socket = directory / f"{place.name}.sock"
        self.trace = Trace()
        arguments = [
            *("rxnet.cli.main", "up", "--foreground", "--json", "--disable-dns"),
            *("--management-url", f"http://{CORE_ADDRESS}:{DEFAULT_PORT}"),
            *("--setup-key-file", str(directory / "setup-key")),
            *("--config-dir", str(directory / place.name)),
            *("--daemon-addr", f"unix://{self.socket}"),
            *("--hostname", place.name),
        ]
        super().__init__(place.name, place.namespace, directory, arguments)

    def news(self) -> list[Seen]:
        """The events since the last call; they are in `trace` too."""
        found = [event for line in self.lines() if (event := parse(line)) is not None]
        for event in found:
            self.trace.add(event)
        return found


def start_plane(lan: Lan, directory: Path) -> Program:
    """The control plane, in the core's namespace."""
    arguments = ["rxnet.demo.plane", str(directory / "server"), CORE_ADDRESS, str(directory / "setup-key")]
    return Program("server", lan.core, directory, arguments)


def environment() -> dict[str, str]:
    """Ours, less what would lead the hosts elsewhere; with the rxnet that runs now, wherever it was imported from."""
    found = {name: value for name, value in os.environ.items() if not name.startswith(_OTHERS)}
    home = str(Path(rxnet.__file__).parents[1])
    found["PYTHONPATH"] = os.pathsep.join(filter(None, (home, os.environ.get("PYTHONPATH"))))
    return found


def is_stopped(pid: int) -> bool:
    """Whether the kernel shows a process as stopped (proc(5), state T)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    except (OSError, IndexError):
        return False


def end(programs: Iterable[Program], *, at_once: Iterable[Program] = ()) -> None:
    """End programs: politely, all at the same time, then by force. `at_once` are not asked first. Blocks."""
    programs, killed = list(programs), list(at_once)
    for program in killed:
        program.send(signal.SIGKILL)
    polite = [program for program in programs if program not in killed]
    for program in polite:
        program.send(signal.SIGCONT)
        program.send(signal.SIGTERM)
    deadline = time.monotonic() + END_LIMIT
    for program in polite:
        try:
            program.process.wait(max(0.05, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            program.send(signal.SIGKILL)
    for program in (*polite, *killed):
        with contextlib.suppress(subprocess.TimeoutExpired):
            program.process.wait(2)
        program.close()
