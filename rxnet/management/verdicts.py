"""What a gRPC status of management means for us (management document, 3.5, 4.6 and 4.8).

`Ended` is how a driver's attempt ends: one line for people and what to do next. No text of the server is taken for
more than a hint, and none can contain our setup key: it travels only inside sealed bodies.
"""

from __future__ import annotations

from enum import Enum, auto

import grpc
import grpc.aio

from rxnet.errors import ControlPlaneError
from rxnet.model import Retry
from rxnet.wire.channel import MAX_RECEIVE, explain

_Code = grpc.StatusCode

SETUP_KEY_REFUSED = (
    "setup key refused: unknown, revoked, expired or used up; make a new one in the dashboard (Setup Keys) and "
    "register again with it"
)
_NOT_REGISTERED = "this peer is not registered with management: a setup key is needed (--setup-key)"
_DELETED = (
    "management does not accept this peer any more: it was deleted on the server, or its login has expired; register "
    "again with a setup key"
)
_EXPIRED = "the login of this peer has expired; register again with a setup key"


class Ended(ControlPlaneError):
    """The attempt is over. `refused` says that it was a refusal for good, as LoginRefused reports it."""

    def __init__(self, reason: str, retry: Retry = Retry.BACK_OFF, *, refused: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry = retry
        self.refused = refused


class Step(Enum):
    """Where in the conversation we are."""

    CONNECT = auto()
    """GetServerKey."""
    LOGIN = auto()
    """Login of a peer that may be known."""
    REGISTER = auto()
    """Login with a setup key."""
    SYNC = auto()


def from_proxy(error: grpc.aio.AioRpcError) -> bool:
    """The status was made up from an HTTP status: no NetBird server said so, but something in front of it."""
    return "received http2 header with status" in (error.details() or "").lower()


def ended(step: Step, error: grpc.aio.AioRpcError, *, known_before: bool = False) -> Ended:
    """What to make of a failed call. `known_before`: management has accepted this peer since we started."""
    code, text = error.code(), explain(error.code(), error.details())
    low = (error.details() or "").lower()
    if from_proxy(error):
        return Ended(f"management cannot be reached: {text}")
    if "same public key is already logged in" in low:
        return Ended(f"management bans this peer for a while, it came too often: {text}", Retry.SLOWLY)
    if code is _Code.RESOURCE_EXHAUSTED and "received message larger" in low:
        return Ended(f"management sent a message beyond the limit of {MAX_RECEIVE} bytes: {text}", Retry.SLOWLY)
    if code is _Code.DEADLINE_EXCEEDED:
        return Ended(f"management did not answer {_WAITED[step]} in time")
    if code is _Code.UNAVAILABLE:
        return Ended(f"management {'cannot be reached' if step is Step.CONNECT else 'went away'}: {text}")
    if code is _Code.UNIMPLEMENTED:
        return Ended(f"there is no NetBird management server at this address: {text}")
    special = _SPECIAL[step](code, low, known_before)
    if special is not None:
        return special
    return Ended(f"management refused {_WAITED[step]}: {text}")


_WAITED = {
    Step.CONNECT: "to tell its key",
    Step.LOGIN: "the login",
    Step.REGISTER: "the registration",
    Step.SYNC: "the network map",
}


def _connect(code: grpc.StatusCode, low: str, known_before: bool) -> Ended | None:
    return None


def _login(code: grpc.StatusCode, low: str, known_before: bool) -> Ended | None:
    if code is _Code.PERMISSION_DENIED:
        if "expired" in low:
            return Ended(_EXPIRED, refused=True)
        if "no peer auth method" in low:
            return Ended(_DELETED if known_before else _NOT_REGISTERED, refused=True)
        return Ended(f"management refused the login of this peer: {_quoted(low)}", refused=True)
    return _common(code)


def _register(code: grpc.StatusCode, low: str, known_before: bool) -> Ended | None:
    if code is _Code.NOT_FOUND:
        return Ended(SETUP_KEY_REFUSED, refused=True)
    if code is _Code.PERMISSION_DENIED:
        return Ended(f"management refused to register this peer: {_quoted(low)}", refused=True)
    if code is _Code.FAILED_PRECONDITION:
        return Ended(f"management refused to register this peer: {_quoted(low)}", refused=True)
    return _common(code)


def _sync(code: grpc.StatusCode, low: str, known_before: bool) -> Ended | None:
    if code is _Code.PERMISSION_DENIED:
        return Ended(f"management refused the network map, a login is needed: {_quoted(low)}", Retry.LOG_IN)
    if code in (_Code.INTERNAL, _Code.UNKNOWN):
        # How an orderly stop of the server looks on its main port: the stream ends without a status (4.6).
        return Ended("management ended the stream (it is stopping, or has trouble)")
    return _common(code)


def _common(code: grpc.StatusCode) -> Ended | None:
    if code is _Code.INVALID_ARGUMENT:
        # Not a stale key: the driver fetched the key again and retried.
        return Ended("management cannot open what we seal for the key that it gives out", Retry.SLOWLY)
    if code is _Code.UNAUTHENTICATED:
        return Ended("management wants a login by single sign-on, which rxnet does not have", refused=True)
    if code is _Code.INTERNAL:
        return Ended("management failed to handle the request (a fault of the server, or of our host name)")
    return None


_SPECIAL = {Step.CONNECT: _connect, Step.LOGIN: _login, Step.REGISTER: _register, Step.SYNC: _sync}


def _quoted(low: str) -> str:
    text = "".join(c for c in low if c.isprintable())[:160]
    return text or "no reason given"
