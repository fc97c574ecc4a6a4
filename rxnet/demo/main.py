"""One run from start to end: is everything there, build, tell, show, and leave nothing behind whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shlex
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from rich.text import Text

from rxnet.cli.failure import Exit
from rxnet.demo import LEAST_PEERS, MOST_PEERS, record
from rxnet.demo.lan import Lan, plan
from rxnet.demo.processes import end
from rxnet.demo.screen import Screen, open_screen
from rxnet.demo.stage import Stage
from rxnet.demo.story import Story
from rxnet.demo.table import tables
from rxnet.errors import ConfigError, DeviceError, RxnetError
from rxnet.wireguard.host import check_rights
from rxnet.wireguard.userspace import find_program

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_demo(peers: int, *, as_json: bool, keep: bool) -> int:
    """See `rxnet.demo.run`."""
    if not LEAST_PEERS <= peers <= MOST_PEERS:
        raise ConfigError(f"--peers {peers}: the demo shows {LEAST_PEERS} to {MOST_PEERS} hosts")
    check_machine()
    removed = record.remove_dead()
    lan = plan(f"rxdemo-{os.getpid()}", peers + 1)
    directory = record.open_run(lan.namespaces)
    screen: Screen | None = None
    stage: Stage | None = None
    left: list[str] = []
    kept = False
    try:
        screen = open_screen(as_json=as_json)
        for pid in removed:
            screen.note(f"removed what the killed demo of process {pid} had left")
        stage = Stage(lan, directory, screen)
        interrupted = not asyncio.run(_tell(stage))
        kept = keep and not interrupted
    finally:
        with _undisturbed():
            if screen is not None:
                screen.close()
            if stage is not None and kept:
                record.keep(directory)
            else:
                left = _remove(lan, directory, stage)
    if interrupted:
        screen.note("interrupted; everything is removed")
        return Exit.KILLED
    return _conclude(stage, screen, as_json=as_json, kept=kept, left=left)


def check_machine() -> None:
    """See that everything is there before anything is made.

    :raises DeviceError: names the first thing that is missing and the mend.
    """
    if sys.platform != "linux":
        raise DeviceError("the demo needs Linux: it lives in network namespaces")
    if os.geteuid() != 0:
        raise DeviceError("the demo makes network namespaces, which needs root: run it with sudo")
    if shutil.which("ip") is None:
        raise DeviceError("the demo needs the program ip: install the package iproute2")
    check_rights()
    find_program()


async def _tell(stage: Stage) -> bool:
    """Build the network and tell the story; False if a signal ended it."""
    story = Story(stage)
    loop = asyncio.get_running_loop()
    telling = asyncio.current_task()
    assert telling is not None
    for number in _SIGNALS:
        loop.add_signal_handler(number, telling.cancel)
    try:
        await asyncio.to_thread(stage.lan.build)
        await story.tell()
    except asyncio.CancelledError:
        return False
    finally:
        await asyncio.shield(story.probes.stop())
    return True


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Ignore the signals that would stop us: cleaning up is short, and half of it would be worse."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _remove(lan: Lan, directory: Path, stage: Stage | None) -> list[str]:
    if stage is not None:
        silent = [host for host in stage.hosts if host.name == stage.silent_name]
        end(stage.programs, at_once=silent)
    return record.remove(directory, lan.namespaces)


def _conclude(stage: Stage, screen: Screen, *, as_json: bool, kept: bool, left: list[str]) -> int:
    """Judge, and show the results."""
    facts = stage.facts
    facts.judge()
    if left:
        facts.failures.append(f"could not be removed: {', '.join(left)}; `ip netns del` does it")
    if as_json:
        document = facts.document() | ({"kept": look_around(stage)} if kept else {})
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
    else:
        screen.final(stage.timeline, stage.start, stage.start + (facts.seconds or 0.0))
        if facts.peers:
            screen.print(tables(facts, screen.width, ascii_only=screen.ascii_only))
        _verdict(stage, screen)
        if kept:
            _tell_kept(look_around(stage), screen)
    if left:
        return Exit.UNFINISHED
    return Exit.OK if facts.passed else Exit.UNEXPECTED


def _verdict(stage: Stage, screen: Screen) -> None:
    facts = stage.facts
    screen.print(Text())
    if facts.passed:
        screen.print(Text(f"All pings passed. {facts.seconds or 0:.0f} seconds.", "bold green"))
        return
    screen.print(Text("Not everything went as promised:", "bold red"))
    for failure in facts.failures:
        screen.note(failure)
    screen.note("(with --keep the hosts and their logs stay, to look into)")


def look_around(stage: Stage) -> dict[str, Any]:
    """Commands for a run that was kept."""
    rxnet = f"{shlex.quote(sys.executable)} -m rxnet.cli.main"
    h1, first = stage.h1 if stage.hosts else None, stage.lan.hosts[0]
    other = stage.overlay(stage.others[0])[4] if len(stage.live) > 1 and stage.overlay(stage.others[0]) else ""
    plane = stage.plane.pid if stage.plane is not None else 0
    return {
        "directory": str(stage.directory),
        "namespaces": list(stage.lan.namespaces),
        "commands": {
            "status of h1": f"{rxnet} status --detail --daemon-addr unix://{h1.socket}" if h1 else "",
            "events of h1": f"tail -f {stage.directory}/h1.out",
            "ping another host": f"ip netns exec {first.namespace} ping {other}" if other else "",
            "a shell on h1": f"ip netns exec {first.namespace} {os.environ.get('SHELL') or 'sh'}",
            "pull the cable": f"ip -n {stage.lan.core} link set {first.port} down",
            "plug it in again": f"ip -n {stage.lan.core} link set {first.port} up",
            "signal off, signal on": f"kill -USR1 {plane}; kill -USR2 {plane}",
            "end it all": f"{shlex.quote(sys.executable)} -m rxnet.cli.main demo --clean",
        },
    }


def _tell_kept(found: dict[str, Any], screen: Screen) -> None:
    screen.print(Text())
    screen.print(Text("Everything still runs. Look around:", "bold"))
    for what, command in found["commands"].items():
        if command:
            screen.note(f"{what}:")
            screen.note(f"  {command}")


def clean() -> int:
    """Remove all demos that are over or were kept."""
    try:
        removed = record.remove_kept()
    except RxnetError as error:
        sys.stderr.write(f"rxnet: {error}\n")
        return Exit.UNFINISHED
    sys.stdout.write("".join(f"removed the demo of process {pid}\n" for pid in removed) or "nothing to remove\n")
    return Exit.OK
