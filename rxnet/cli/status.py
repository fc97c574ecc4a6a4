"""`rxnet status`: what the running rxnet, or NetBird's daemon, is connected to."""

from __future__ import annotations

import sys
import time

from rxnet._version import __version__
from rxnet.cli.call import ANSWER_LIMIT, Daemon, connected, socket_path
from rxnet.cli.failure import Exit
from rxnet.cli.usage import Command

_STATUS = "/daemon.DaemonService/Status"
_PROFILE = "/daemon.DaemonService/GetActiveProfile"
_OWN_STATUS = "/rxnet.v1.Daemon/Status"
_NO_LOGIN = ("NeedsLogin", "LoginFailed", "SessionExpired")


def run(command: Command) -> int:
    """Show the status; see docs/cli.md."""
    with connected(socket_path(command)) as daemon:
        text = _json(daemon) if command.flag("--json") else _plain(daemon, detail=command.flag("--detail"))
    sys.stdout.write(text)
    return Exit.OK


def _json(daemon: Daemon) -> str:
    from rxnet.cli.view import as_json, document
    from rxnet.wire import daemon_pb2 as wire

    response = daemon.call(_STATUS, wire.StatusRequest(getFullPeerStatus=True), wire.StatusResponse, ANSWER_LIMIT)
    return as_json(document(response, version=__version__, profile=_profile(daemon))) + "\n"


def _plain(daemon: Daemon, *, detail: bool) -> str:
    from rxnet.cli import view_text
    from rxnet.v1 import daemon_pb2 as v1
    from rxnet.wire import daemon_pb2 as wire

    response = daemon.call(_STATUS, wire.StatusRequest(getFullPeerStatus=True), wire.StatusResponse, ANSWER_LIMIT)
    own = daemon.try_call(_OWN_STATUS, v1.StatusRequest(summary=not detail), v1.StatusResponse)
    if response.status in _NO_LOGIN:
        reason = view_text.clean(own.management.reason) if own else ""
        return f"Daemon status: {response.status}{f', {reason}' if reason else ''}\n"
    reasons = {peer.public_key: peer.reason for peer in own.peers} if own else {}
    text = view_text.details(response, reasons, time.time()) if detail else ""
    text += view_text.summary(response, version=__version__, profile=_profile(daemon), detail=detail)
    if own and not own.gate_open and own.gate_reason and response.status != "Idle":
        text += f"Peers wait: {view_text.clean(own.gate_reason)}\n"
    if own and detail and own.HasField("packets_through_python"):
        text += f"Packets through Python: {own.packets_through_python}\n"
    return text + "".join(f"Notice: {view_text.clean(notice)}\n" for notice in (own.notices if own else ()))


def _profile(daemon: Daemon) -> str:
    from rxnet.wire import daemon_pb2 as wire

    found = daemon.try_call(_PROFILE, wire.GetActiveProfileRequest(), wire.GetActiveProfileResponse)
    return found.profileName if found else ""
