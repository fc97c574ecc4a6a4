"""The demo's control plane as a process: `python -m rxnet.demo.plane DIRECTORY ADDRESS KEYFILE`.

The same as `rxnet server`, and one thing more: SIGUSR1 takes the signal service away, SIGUSR2 brings it back.
Prints `ready`, `signal off` and `signal on`, each when it is so.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from rxnet.server.app import ControlPlane
from rxnet.server.serve import DEFAULT_PORT, keep_setup_key


async def serve(directory: Path, address: str, key_file: Path) -> None:
    """Serve until SIGTERM."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    tasks: set[asyncio.Task[None]] = set()
    async with ControlPlane(directory, host=address, port=DEFAULT_PORT) as plane:
        await keep_setup_key(plane, key_file)

        def on(number: signal.Signals, do: Callable[[], Coroutine[Any, Any, None]], said: str) -> None:
            async def obey() -> None:
                await do()
                say(said)

            def handle() -> None:
                task = loop.create_task(obey())
                tasks.add(task)
                task.add_done_callback(tasks.discard)

            loop.add_signal_handler(number, handle)

        on(signal.SIGUSR1, plane.stop_signal, "signal off")
        on(signal.SIGUSR2, plane.start_signal, "signal on")
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, ended.set)
        say("ready")
        await ended.wait()


def say(text: str) -> None:
    """One line for the demo, at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])))
