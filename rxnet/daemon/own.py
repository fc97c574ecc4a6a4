"""`rxnet.v1.Daemon`: the status with reasons, the stream of events, down, and what was changed on the host."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final, cast, get_args

import grpc

from rxnet.daemon.context import Context, in_slices
from rxnet.daemon.documents import event_document, line
from rxnet.daemon.netbird import stop_after_down
from rxnet.daemon.report import text_of
from rxnet.daemon.snapshot import peers, summary
from rxnet.daemon.status import timestamp
from rxnet.daemon.subject import following
from rxnet.engine.feed import Gap
from rxnet.engine.inbox import Stamped
from rxnet.events import Kind
from rxnet.v1 import daemon_pb2 as v1

SERVICE: Final = "rxnet.v1.Daemon"
STATUS: Final = f"/{SERVICE}/Status"
EVENTS: Final = f"/{SERVICE}/Events"
DOWN: Final = f"/{SERVICE}/Down"
LIST_HOST_CHANGES: Final = f"/{SERVICE}/ListHostChanges"


class OwnService:
    """The service; `handler` is what a gRPC server takes."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def handler(self) -> grpc.GenericRpcHandler[Any, Any]:
        """The service for a `grpc.aio` server."""
        unary, stream = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Status": _codec(unary, self.status, v1.StatusRequest, v1.StatusResponse),
                "Events": _codec(stream, self.events, v1.EventsRequest, v1.EventsResponse),
                "Down": _codec(unary, self.down, v1.DownRequest, v1.DownResponse),
                "ListHostChanges": _codec(
                    unary, self.list_host_changes, v1.ListHostChangesRequest, v1.ListHostChangesResponse
                ),
            },
        )

    async def status(self, request: v1.StatusRequest, context: Any) -> v1.StatusResponse:
        return await self._status(without_peers=request.summary)

    async def _status(self, *, without_peers: bool) -> v1.StatusResponse:
        shared = self._context
        statistics = {} if without_peers else await shared.statistics()
        state, moment = shared.subject.state, shared.moment()
        response = summary(
            state,
            moment,
            management=shared.config.management,
            version=shared.version,
            sequence=shared.sequence,
            process_id=shared.process_id,
        )
        if shared.packets_through_python is not None:
            response.packets_through_python = shared.packets_through_python()
        if not without_peers:
            async for some in in_slices(peers(state, statistics, moment)):
                response.peers.extend(some)
        return response

    async def events(self, request: v1.EventsRequest, context: Any) -> AsyncIterator[v1.EventsResponse]:
        unknown = set(request.kinds) - set(get_args(Kind))
        if unknown:
            known = ", ".join(get_args(Kind))
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT, f"unknown kind {sorted(unknown)[0]!r}: use some of {known}"
            )
        kinds = set(request.kinds)
        async with following(self._context.subject) as entries:  # before the snapshot: nothing falls between the two
            first = await self._status(without_peers=request.summary)
            yield v1.EventsResponse(snapshot=first)
            async for item in entries:
                if isinstance(item, Gap):
                    yield v1.EventsResponse(gap=v1.Gap(dropped=item.lost))
                elif item.seq > first.sequence and (not kinds or item.event.kind in kinds):
                    yield v1.EventsResponse(event=self._event(item))

    def _event(self, stamped: Stamped) -> v1.Event:
        moment = self._context.moment()
        event = stamped.event
        return v1.Event(
            sequence=stamped.seq,
            time=timestamp(moment.wall_time(stamped.at)),
            cause=stamped.cause,
            kind=event.kind,
            name=type(event).__name__,
            peer=event.peer or "",
            text=text_of(event, self._context.subject.state),
            json=line(event_document(stamped, moment)),
        )

    async def down(self, request: v1.DownRequest, context: Any) -> v1.DownResponse:
        await stop_after_down(self._context, context)
        return v1.DownResponse()

    async def list_host_changes(self, request: v1.ListHostChangesRequest, context: Any) -> v1.ListHostChangesResponse:
        changes = self._context.changes
        return v1.ListHostChangesResponse(
            changes=changes.listed(), journal=str(changes.journal) if changes.journal else ""
        )


def _codec(make: Any, call: Any, request: Any, response: Any) -> grpc.RpcMethodHandler[Any, Any]:
    made = make(call, request_deserializer=request.FromString, response_serializer=response.SerializeToString)
    return cast("grpc.RpcMethodHandler[Any, Any]", made)
