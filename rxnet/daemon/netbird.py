"""NetBird's `daemon.DaemonService` on our state: as much as `netbird status`, `down` and `deregister` need.

What each call must answer, and what makes NetBird's command line crash, is in the daemon document, 4 and 6. Calls that
change settings or profiles are answered with UNIMPLEMENTED: options are given to `rxnet up`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc

from rxnet.config import DEFAULT_INTERFACE
from rxnet.daemon.context import Context, in_slices
from rxnet.daemon.status import CONNECTING, client_status, outline, peer_states
from rxnet.errors import LoginError, RxnetError
from rxnet.wire import daemon_pb2 as wire
from rxnet.wire.services import DAEMON_METHODS, DAEMON_SERVICE, Method

READY_LIMIT: Final = 50.0
"""Seconds that a caller who waits for the connection is kept waiting."""
LOG_OUT_LIMIT: Final = 12.0
"""Seconds; NetBird's command line waits 15."""
PROFILE: Final = "default"
EXIT_CODE: Final = "rxnet-exit-code"
"""Trailing metadata of an error: how rxnet's own command line ends (docs/cli.md)."""
LOGIN_REFUSED, UNREACHABLE, UNFINISHED = 4, 7, 8


class NetBirdService:
    """The service; `handler` is what a gRPC server takes."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def handler(self) -> grpc.GenericRpcHandler[Any, Any]:
        """The service for a `grpc.aio` server."""
        own: dict[str, Callable[[Any, Any], Awaitable[Any]]] = {
            "Status": self.status,
            "Down": self.down,
            "GetConfig": self.get_config,
            "GetFeatures": self.get_features,
            "GetActiveProfile": self.get_active_profile,
            "Logout": self.log_out,
        }
        handlers = {name: _handler(method, own.get(name)) for name, method in DAEMON_METHODS.items()}
        return grpc.method_handlers_generic_handler(DAEMON_SERVICE, handlers)

    async def status(self, request: wire.StatusRequest, context: Any) -> wire.StatusResponse:
        if request.waitForReady:
            await self._until_ready()
        shared = self._context
        full = request.getFullPeerStatus
        relays = await shared.stuns.states(shared.subject.state.stuns) if full else []
        statistics = await shared.statistics() if full else {}
        state, moment = shared.subject.state, shared.moment()
        response = outline(
            state,
            management=shared.config.management,
            version=shared.version,
            full=full,
            relays=relays,
            events=shared.recent,
        )
        if full:
            async for peers in in_slices(peer_states(state, statistics, moment)):
                response.fullStatus.peers.extend(peers)
        return response

    async def _until_ready(self) -> None:
        """Wait while we are connecting, and never when nothing is going on."""
        subject = self._context.subject
        try:
            async with asyncio.timeout(READY_LIMIT):
                await self._context.until(lambda: client_status(subject.state) != CONNECTING)
        except TimeoutError:
            return  # the status says how far it came

    async def down(self, request: wire.DownRequest, context: Any) -> wire.DownResponse:
        await stop_after_down(self._context, context)
        return wire.DownResponse()

    async def get_config(self, request: wire.GetConfigRequest, context: Any) -> wire.GetConfigResponse:
        if not request.profileName:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "name a profile: rxnet has one, default")
        if request.profileName != PROFILE:
            await context.abort(
                grpc.StatusCode.NOT_FOUND, f'profile "{request.profileName}" not found: rxnet has one, default'
            )
        config, state = self._context.config, self._context.subject.state
        return wire.GetConfigResponse(
            managementUrl=str(config.management),
            interfaceName=state.device.name or config.interface or DEFAULT_INTERFACE,
            wireguardPort=config.wireguard_port,
            mtu=state.local.mtu if state.local else 0,
            disable_notifications=True,
            networkMonitor=True,
            disable_dns=config.disable_dns,
            disable_ipv6=config.disable_ipv6,
            disable_client_routes=True,
            disable_server_routes=True,
        )

    async def get_features(self, request: wire.GetFeaturesRequest, context: Any) -> wire.GetFeaturesResponse:
        return wire.GetFeaturesResponse(
            disable_profiles=True, disable_update_settings=True, disable_networks=True, disable_advanced_view=True
        )

    async def get_active_profile(
        self, request: wire.GetActiveProfileRequest, context: Any
    ) -> wire.GetActiveProfileResponse:
        return wire.GetActiveProfileResponse(profileName=PROFILE, id=PROFILE)

    async def log_out(self, request: wire.LogoutRequest, context: Any) -> wire.LogoutResponse:
        if request.HasField("profileName") and request.profileName != PROFILE:
            await context.abort(
                grpc.StatusCode.NOT_FOUND, f'profile "{request.profileName}" not found: rxnet has one, default'
            )
        try:
            async with asyncio.timeout(LOG_OUT_LIMIT):
                await self._context.subject.log_out()
        except TimeoutError:
            text = f"management did not answer within {LOG_OUT_LIMIT:g} s"
            await _fail(context, grpc.StatusCode.DEADLINE_EXCEEDED, text, UNREACHABLE)
        except LoginError as error:
            await _fail(context, grpc.StatusCode.PERMISSION_DENIED, str(error), LOGIN_REFUSED)
        except RxnetError as error:
            await _fail(context, grpc.StatusCode.UNAVAILABLE, str(error), UNREACHABLE)
        await stop_after_down(self._context, context)
        return wire.LogoutResponse()


async def stop_after_down(shared: Context, context: Any) -> None:
    """Go down, and have the process end once this call is answered."""
    if not await shared.go_down():
        shared.stop()  # the end of the process undoes by force what is left
        text = "going down takes too long: the process ends by force"
        await _fail(context, grpc.StatusCode.DEADLINE_EXCEEDED, text, UNFINISHED)
    context.add_done_callback(lambda _: shared.stop())


async def _fail(context: Any, status: grpc.StatusCode, text: str, code: int) -> None:
    """Abort a call; rxnet's own command line ends with `code`."""
    await context.abort(status, text, ((EXIT_CODE, str(code)),))


def _handler(method: Method, call: Callable[[Any, Any], Awaitable[Any]] | None) -> Any:
    async def refuse(_request: Any, context: Any) -> None:
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, f"rxnet does not offer {method.name}: see rxnet --help")

    make = grpc.unary_stream_rpc_method_handler if method.server_streaming else grpc.unary_unary_rpc_method_handler
    return make(
        call or refuse,
        request_deserializer=getattr(wire, method.request).FromString,
        response_serializer=getattr(wire, method.response).SerializeToString,
    )
