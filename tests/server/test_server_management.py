"""Management over the real wire, in process: what a NetBird client sees."""

from __future__ import annotations

import asyncio
from ipaddress import ip_interface, ip_network
from pathlib import Path

import grpc
import pytest
from server_client import Peer, channel, control_plane, meta, run

from rxnet.server.app import ControlPlane
from rxnet.server.network import Rules
from rxnet.wire import management_pb2 as pb
from rxnet.wire import services


async def registered(plane: ControlPlane, to: grpc.aio.Channel, *names: str) -> list[Peer]:
    key = await plane.create_setup_key(reusable=True)
    peers = [Peer(to) for _ in names]
    for peer, name in zip(peers, names, strict=True):
        await peer.login(key, name)
    return peers


def test_registration_gives_addresses_names_and_servers(tmp_path: Path) -> None:
    async def test() -> None:
        async with control_plane(tmp_path / "cp", stun_port=0) as plane, channel(plane.address) as to:
            key = await plane.create_setup_key(reusable=True)
            first = await Peer(to).login(key.lower(), "alpha")
            second = await Peer(to).login(key, "Alpha.example.org")
            assert plane.stun_address is not None
            own, other = ip_interface(first.peerConfig.address), ip_interface(second.peerConfig.address)
            assert own.network == other.network and own.network.prefixlen == 16
            assert own.network.subnet_of(ip_network("100.64.0.0/10")) and own.ip != other.ip  # type: ignore[arg-type]
            assert first.peerConfig.fqdn == "alpha.rxnet.internal"
            third, fourth = other.ip.packed[2:]
            assert second.peerConfig.fqdn == f"alpha-{third}-{fourth}.rxnet.internal"
            assert len(first.peerConfig.address_v6) == 17 and first.peerConfig.address_v6[16] == 64
            config = first.netbirdConfig
            assert config.signal.uri == f"127.0.0.1:{plane.address.port}"
            assert config.signal.protocol == pb.HostConfig.HTTP
            assert [stun.uri for stun in config.stuns] == [f"stun:127.0.0.1:{plane.stun_address.port}"]

    run(test())


def test_everybody_sees_everybody_with_rules_both_ways(tmp_path: Path) -> None:
    async def test() -> None:
        async with control_plane(tmp_path / "cp") as plane, channel(plane.address) as to:
            a, b, c = await registered(plane, to, "a", "b", "c")
            message = await (await a.sync("a")).next()
            assert message is not None
            network_map = message.NetworkMap
            assert {peer.wgPubKey for peer in network_map.remotePeers} == {b.key, c.key}
            assert network_map.peerConfig.address == message.peerConfig.address == (await a.login()).peerConfig.address
            for peer in network_map.remotePeers:
                v4, v6 = peer.allowedIps
                assert v4.endswith("/32") and v6.endswith("/128") and peer.agentVersion == "0.77.1"
                rules = [rule for rule in network_map.FirewallRules if rule.PeerIP == v4.removesuffix("/32")]
                assert {rule.Direction for rule in rules} == {pb.IN, pb.OUT}
                assert all(rule.Protocol == pb.ALL and rule.Action == pb.ACCEPT for rule in rules)
            assert len(network_map.FirewallRules) == 8
            assert not network_map.firewallRulesIsEmpty and not network_map.remotePeersIsEmpty
            assert message.netbirdConfig.signal.uri and message.HasField("sessionExpiresAt")

    run(test())


def test_open_rules_send_no_rules_and_no_empty_flags(tmp_path: Path) -> None:
    async def test() -> None:
        async with control_plane(tmp_path / "cp", rules=Rules.OPEN) as plane, channel(plane.address) as to:
            a, _ = await registered(plane, to, "a", "b")
            message = await (await a.sync("a")).next()
            assert message is not None
            got = message.NetworkMap
            assert len(got.remotePeers) == 1 and not got.FirewallRules
            assert not got.firewallRulesIsEmpty and not got.routesFirewallRulesIsEmpty

    run(test())


def test_ipv6_only_between_peers_that_both_announce_it(tmp_path: Path) -> None:
    async def test() -> None:
        async with control_plane(tmp_path / "cp") as plane, channel(plane.address) as to:
            key = await plane.create_setup_key(reusable=True)
            old, new, other = Peer(to), Peer(to), Peer(to)
            answer = await old.login(key, "old", meta=meta("old", ipv6=False))
            assert answer.peerConfig.address_v6 == b""
            await new.login(key, "new")
            disabled = meta("other")
            disabled.flags.disableIPv6 = True
            assert (await other.login(key, meta=disabled)).peerConfig.address_v6 == b""
            message = await (await old.sync("old", ipv6=False)).next()
            assert message is not None and message.peerConfig.address_v6 == b""
            assert all(len(peer.allowedIps) == 1 for peer in message.NetworkMap.remotePeers)
            assert len(message.NetworkMap.FirewallRules) == 4
            message = await (await new.sync("new")).next()
            assert message is not None and len(message.peerConfig.address_v6) == 17
            assert all(len(peer.allowedIps) == 1 for peer in message.NetworkMap.remotePeers)

    run(test())


def test_a_lone_peer_gets_an_empty_map_that_says_so(tmp_path: Path) -> None:
    async def test() -> None:
        async with control_plane(tmp_path / "cp") as plane, channel(plane.address) as to:
            (a,) = await registered(plane, to, "a")
            message = await (await a.sync("a")).next()
            assert message is not None
            assert message.remotePeersIsEmpty and message.NetworkMap.remotePeersIsEmpty
            assert message.NetworkMap.firewallRulesIsEmpty

    run(test())


def test_a_join_and_a_deletion_are_pushed(tmp_path: Path) -> None:
    async def test() -> None:
        async with control_plane(tmp_path / "cp") as plane, channel(plane.address) as to:
            a, b = await registered(plane, to, "a", "b")
            at_a, at_b = await a.sync("a"), await b.sync("b")
            before = await at_a.until_peers(1)
            await at_b.until_peers(1)
            (c,) = await registered(plane, to, "c")
            joined = await at_a.until_peers(2)
            assert joined.NetworkMap.Serial > before.NetworkMap.Serial
            assert not joined.HasField("netbirdConfig")
            assert c.key in {peer.wgPubKey for peer in joined.NetworkMap.remotePeers}
            assert await plane.delete_peer(b.key)
            left = await at_a.until_peers(1)
            assert left.NetworkMap.remotePeers[0].wgPubKey == c.key
            assert left.NetworkMap.Serial > joined.NetworkMap.Serial
            last = [message async for message in _rest(at_b)][-1]
            assert last.remotePeersIsEmpty and last.NetworkMap.remotePeersIsEmpty and not last.HasField("peerConfig")
            assert await at_b.call.code() is grpc.StatusCode.OK
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await (await b.sync("b")).next()
            assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED

    run(test())


async def _rest(stream):  # type: ignore[no-untyped-def]
    while (message := await stream.next()) is not None:
        yield message


def test_logout_deletes_the_peer(tmp_path: Path) -> None:
    async def test() -> None:
        async with control_plane(tmp_path / "cp") as plane, channel(plane.address) as to:
            a, b = await registered(plane, to, "a", "b")
            stream = await a.sync("a")
            await stream.until_peers(1)
            assert await b.call(services.LOGOUT, pb.Empty()) == b""
            assert (await stream.until_peers(0)).NetworkMap.remotePeersIsEmpty
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await b.call(services.LOGOUT, pb.Empty())
            assert refused.value.code() is grpc.StatusCode.NOT_FOUND
            assert refused.value.details() == f"peer not found: {b.key}"
            assert [info.key for info in plane.peers()] == [a.key]

    run(test())


def test_a_second_sync_ends_the_first_with_ok_and_stays(tmp_path: Path) -> None:
    async def test() -> None:
        async with control_plane(tmp_path / "cp") as plane, channel(plane.address) as to:
            (a,) = await registered(plane, to, "a")
            first = await a.sync("a")
            await first.next()
            second = await a.sync("a")
            await second.next()
            assert await first.next() is None
            assert await first.call.code() is grpc.StatusCode.OK
            # The clean-up of the first must not take the second with it (where NetBird's server errs).
            assert [info.connected for info in plane.peers()] == [True]
            await registered(plane, to, "b")
            await second.until_peers(1)

    run(test())


def test_changed_meta_is_pushed_with_the_same_serial_and_same_meta_is_not(tmp_path: Path) -> None:
    async def test() -> None:
        async with control_plane(tmp_path / "cp") as plane, channel(plane.address) as to:
            a, b = await registered(plane, to, "a", "b")
            at_a = await a.sync("a")
            before = await at_a.until_peers(1)
            await (
                await b.sync("b")
            ).next()  # says what it said before: nothing is pushed, or it would come first below
            await b.call(services.SYNC_META, pb.SyncMetaRequest(meta=meta("b", version="0.78.0")))
            after = await at_a.next()
            assert after is not None
            assert after.NetworkMap.remotePeers[0].agentVersion == "0.78.0"
            assert after.NetworkMap.Serial == before.NetworkMap.Serial

    run(test())


def test_ssh_key_of_a_later_login_reaches_the_others(tmp_path: Path) -> None:
    async def test() -> None:
        async with control_plane(tmp_path / "cp") as plane, channel(plane.address) as to:
            a, b = await registered(plane, to, "a", "b")
            at_a = await a.sync("a")
            await at_a.until_peers(1)
            await b.login(peerKeys=pb.PeerKeys(sshPubKey=b"ssh-ed25519 AAAA"))
            message = await at_a.next()
            assert message is not None
            assert message.NetworkMap.remotePeers[0].sshConfig.sshPubKey == b"ssh-ed25519 AAAA"

    run(test())


def test_the_job_stream_stays_open_and_silent(tmp_path: Path) -> None:
    async def test() -> None:
        async with control_plane(tmp_path / "cp") as plane, channel(plane.address) as to:
            (a,) = await registered(plane, to, "a")
            call = to.stream_stream(services.JOB)()
            await call.write(await a.sealed(pb.JobRequest(ID=b"hello")))
            reading = asyncio.ensure_future(call.read())
            # Everything else the server does for this peer is done while the stream says nothing.
            stream = await a.sync("a")
            await stream.next()
            assert not reading.done()
            await plane.delete_peer(a.key)
            with pytest.raises(grpc.aio.AioRpcError) as over:
                await reading
            assert over.value.code() is grpc.StatusCode.UNAVAILABLE

    run(test())


def test_a_client_that_hangs_up_in_mid_registration_is_registered_or_not_but_never_half(tmp_path: Path) -> None:
    async def test() -> None:
        async with control_plane(tmp_path / "cp") as plane, channel(plane.address) as to:
            key = await plane.create_setup_key(reusable=True)
            watcher = Peer(to)
            await watcher.login(key, "watcher")
            stream = await watcher.sync("watcher")
            await stream.next()
            peers = [Peer(to) for _ in range(20)]
            for number, peer in enumerate(peers):
                request = await peer.sealed(pb.LoginRequest(setupKey=key, meta=meta(f"p{number}")))
                call = to.unary_unary(services.LOGIN)(request)
                for _ in range(number):
                    await asyncio.sleep(0)
                call.cancel()
            # One more change, ordered after all of those: its map is the truth, and the data base says the same.
            last = Peer(to)
            await last.login(key, "last")
            while True:
                message = await stream.next()
                assert message is not None
                seen = {peer.wgPubKey for peer in message.NetworkMap.remotePeers}
                if last.key in seen:
                    break
            assert seen | {watcher.key} == {info.key for info in plane.peers()}

        async with control_plane(tmp_path / "cp") as again:
            assert seen | {watcher.key} == {info.key for info in again.peers()}

    run(test())
