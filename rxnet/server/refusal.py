"""Refusals of a gRPC call: raised by the services, turned into a status at the border."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias, TypeVar

import grpc

from rxnet.log import logger

_T = TypeVar("_T")

Context: TypeAlias = "grpc.aio.ServicerContext[bytes, bytes]"
"""What a handler learns about its call and does to it."""


class Refusal(Exception):
    """The call ends with this status. The text goes to the client: nothing secret, nothing internal."""

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


def refusing(handler: Callable[[Any, Context], Awaitable[_T]]) -> Callable[[Any, Context], Awaitable[_T]]:
    """Wrap a handler: a `Refusal` becomes its status, an unexpected error INTERNAL without details."""

    async def call(request: Any, context: Context) -> _T:
        try:
            return await handler(request, context)
        except Refusal as refusal:
            await context.abort(refusal.code, refusal.text)
        except Exception as error:
            # As the real server does: the client learns nothing about our inside.
            logger.opt(exception=error).debug("a call of the control plane failed")
            await context.abort(grpc.StatusCode.INTERNAL, "failed handling request")
        raise AssertionError("abort always raises")

    return call


def generic_handler(methods: Mapping[str, grpc.RpcMethodHandler[bytes, bytes]]) -> grpc.GenericRpcHandler[bytes, bytes]:
    """Put handlers of one service, by full path, into the form that a server takes."""
    split = {path.split("/")[2]: (path.split("/")[1], handler) for path, handler in methods.items()}
    (service,) = {service for service, _ in split.values()}
    return grpc.method_handlers_generic_handler(service, {name: handler for name, (_, handler) in split.items()})
