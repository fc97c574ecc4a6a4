"""One run of the client in the foreground: its API, its log, its end."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final

from rxnet.cli.collector import calm_collector
from rxnet.cli.ending import Ending
from rxnet.cli.failure import Exit, Failure, exit_code
from rxnet.cli.logs import LineWriter
from rxnet.cli.neighbours import host_addresses, overlap, taken_port
from rxnet.cli.prepare import Prepared
from rxnet.client import Client
from rxnet.daemon.api import serving_api
from rxnet.daemon.context import Context, HostChanges
from rxnet.daemon.documents import event_document, line
from rxnet.daemon.report import Line, Reporter, clean
from rxnet.daemon.status import CONNECTED, client_status
from rxnet.daemon.subject import NOTICES, Moment
from rxnet.engine.feed import Gap
from rxnet.engine.inbox import Stamped
from rxnet.engine.state import State
from rxnet.errors import RxnetError
from rxnet.events import LoggedIn
from rxnet.log import logger
from rxnet.system.journal import FILE as JOURNAL

_LAST: Final = 1.0
"""Seconds for the last events to be told."""


class Foreground:
    """Runs a client until it is told to stop, or cannot go on. `run` returns the exit code.

    :param out: where events go as JSON lines; None: they go to the log, in words.
    """

    def __init__(
        self, prepared: Prepared, socket: Path, log: LineWriter, out: LineWriter | None, *, debug: bool
    ) -> None:
        self._prepared = prepared
        self._config = prepared.config
        self._socket = socket
        self._log = log
        self._out = out
        self._reporter = Reporter(debug)
        self._told_connected = False
        self._told_broken = False

    async def run(self) -> int:
        calm_collector()
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_loop_failed)
        sys.unraisablehook = _unraisable
        self._collision: asyncio.Future[Failure] = loop.create_future()
        ending = Ending(self._config.state_directory, self._last_words)
        ending.install()
        try:
            self._greet()
            return await self._connect(ending)
        finally:
            ending.finish()

    def _greet(self) -> None:
        if self._prepared.new_identity:
            logger.info("new identity {}, kept in a file of its own", self._prepared.new_identity)
        for warning in (*self._prepared.warnings, taken_port(self._config), *NOTICES):
            if warning:
                logger.warning("{}", warning)
        logger.info("connecting to {}", self._config.management)

    async def _connect(self, ending: Ending) -> int:
        async with Client(self._config) as client:
            report = asyncio.create_task(self._report(client, client.watch_events()))
            context = Context(
                client,
                self._config,
                stop=lambda: ending.request("`rxnet down` or another call of the control socket"),
                changes=HostChanges(client.host_changes, self._config.state_directory / JOURNAL),
                packets_through_python=lambda: client.packets_through_python,
            )
            try:
                async with serving_api(context, self._socket):
                    code = await self._until_end(client, ending, report)
            finally:
                # However we came here, leaving must not take forever.
                ending.request("")
            logger.info("disconnecting")
        await asyncio.wait((report,), timeout=_LAST)
        report.cancel()
        logger.info("disconnected, the host is as it was")
        return code

    async def _until_end(self, client: Client, ending: Ending, report: asyncio.Task[None]) -> int:
        finished = asyncio.create_task(client.finished())
        requested = asyncio.create_task(ending.requested.wait())
        try:
            await asyncio.wait((finished, requested, self._collision, report), return_when=asyncio.FIRST_COMPLETED)
            if self._collision.done():
                raise self._collision.result()
            if finished.done():
                await asyncio.sleep(0)  # the report of the same event
                return self._final(finished.result())
            if not requested.done():
                report.result()  # raises what ended it
                raise Failure(Exit.UNEXPECTED, "the stream of events ended by itself")
            logger.info("stopping: {}", ending.reason)
            return Exit.OK
        finally:
            finished.cancel()
            requested.cancel()

    def _final(self, error: RxnetError) -> Exit:
        """The exit code after which nothing more can happen; without `--json` the words are in the log already."""
        if self._out is not None:
            logger.error("{}", clean(str(error)))
        return exit_code(error)

    # -- telling

    async def _report(self, client: Client, watch: AsyncGenerator[Stamped | Gap]) -> None:
        async with aclosing(watch) as entries:
            async for item in entries:
                if isinstance(item, Gap):
                    logger.warning("{} events came too fast to be told", item.lost)
                else:
                    self._tell(item, client.state)

    def _tell(self, stamped: Stamped, state: State) -> None:
        if self._out is not None:
            self._out.write(line(event_document(stamped, Moment.now())) + "\n")
            self._notice_broken(self._out)
        else:
            held_back = self._reporter.flush_at
            _log(self._reporter.report(stamped, state))
            if self._reporter.flush_at is not None and held_back is None:
                asyncio.get_running_loop().call_at(self._reporter.flush_at, self._flush)
        if isinstance(stamped.event, LoggedIn):
            self._look_for_collision(stamped.event, state)
        if not self._told_connected and client_status(state) == CONNECTED:
            self._told_connected = True
            self._tell_connected(state)

    def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        _log(self._reporter.flush(loop.time()))
        if self._reporter.flush_at is not None:
            loop.call_at(self._reporter.flush_at, self._flush)

    def _look_for_collision(self, event: LoggedIn, state: State) -> None:
        text = overlap(event.local, host_addresses(), state.device.name)
        if text and not self._collision.done():
            self._collision.set_result(Failure(Exit.TAKEN, text))

    def _tell_connected(self, state: State) -> None:
        local, device = state.local, state.device
        if local is None:
            return
        address = f"{local.address}" + (f" and {local.address_v6}" if local.address_v6 else "")
        logger.info(
            "connected as {} with address {} on {}, UDP port {}",
            clean(local.fqdn or "a nameless peer"),
            address,
            device.name,
            device.port,
        )

    def _notice_broken(self, out: LineWriter) -> None:
        if out.broken and not self._told_broken:
            self._told_broken = True
            logger.warning("nobody reads the events on stdout any more; going on without")

    def _last_words(self, text: str) -> None:
        logger.warning("{}", text)
        self._log.close(0.3)


def _log(lines: list[Line]) -> None:
    for told in lines:
        logger.log(told.level.upper(), "{}", told.text)


def _loop_failed(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    logger.opt(exception=context.get("exception")).error("internal error: {}; please report it", context["message"])


def _unraisable(found: Any) -> None:
    logger.debug("ignored at clean-up: {!r}", found.exc_value)
