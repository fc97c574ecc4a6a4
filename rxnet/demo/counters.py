"""Counters at the end: what the kernel counted on the tunnel's interface, what rxnet's driver counted in Python."""

from __future__ import annotations

import json
from typing import Any

from rxnet.cli.call import connected
from rxnet.cli.failure import Failure
from rxnet.demo.facts import HostPackets
from rxnet.demo.lan import ip
from rxnet.demo.processes import Host
from rxnet.errors import RxnetError

_STATUS = "/rxnet.v1.Daemon/Status"


def own_status(host: Host) -> Any:
    """The host's status (`rxnet.v1.StatusResponse`). Blocks.

    :raises Failure: if it does not answer.
    """
    from rxnet.v1 import daemon_pb2 as v1

    with connected(host.socket) as daemon:
        return daemon.call(_STATUS, v1.StatusRequest(), v1.StatusResponse)


def packets(host: Host) -> HostPackets:
    """The counters of one host. Blocks; never raises: what cannot be read is None with a reason."""
    found = HostPackets(host.name)
    try:
        status = own_status(host)
        if status.HasField("packets_through_python"):
            found.through_python = status.packets_through_python
        else:
            found.reason = "rxnet does not report packets through Python"
        counted = interface_counters(host, status.device.name)
        found.tunnel_received, found.tunnel_sent = counted
    except (Failure, RxnetError, ValueError, KeyError, IndexError) as error:
        found.reason = found.reason or str(error)
    return found


def interface_counters(host: Host, interface: str) -> tuple[int, int]:
    """Packets received and sent by a host's interface, as the kernel counts them.

    :raises DeviceError: if `ip` cannot tell.
    """
    found = json.loads(ip(["-n", host.place.namespace, "-json", "-statistics", "link", "show", "dev", interface]))
    counters = found[0]["stats64"]
    return int(counters["rx"]["packets"]), int(counters["tx"]["packets"])
