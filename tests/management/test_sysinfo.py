"""What the host says about itself, from a made-up file tree and from the real kernel."""

from __future__ import annotations

import socket
from ipaddress import IPv4Interface, IPv6Interface
from pathlib import Path

import pytest

from rxnet.management import sysinfo
from rxnet.management.codec import NetworkAddress, encode_meta
from rxnet.management.sysinfo import Places


def interface(root: Path, name: str, index: int, mac: str, flags: str = "0x1003") -> None:
    place = root / "sys/class/net" / name
    place.mkdir(parents=True)
    (place / "ifindex").write_text(f"{index}\n")
    (place / "address").write_text(f"{mac}\n")
    (place / "flags").write_text(f"{flags}\n")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/os-release").write_text('# comment\nNAME="Debian GNU/Linux"\nVERSION_ID="12"\nnonsense\n')
    dmi = tmp_path / "sys/class/dmi/id"
    dmi.mkdir(parents=True)
    (dmi / "product_name").write_text("Bücher-Server\x07 9\n")
    (dmi / "sys_vendor").write_text("Vendor" * 100)
    interface(tmp_path, "lo", 1, "00:00:00:00:00:00", "0x9")
    interface(tmp_path, "e0", 2, "02:00:00:00:00:01")
    interface(tmp_path, "e1", 3, "02:00:00:00:00:02", "0x1002")  # down
    interface(tmp_path, "wt0", 4, "02:00:00:00:00:03")
    interface(tmp_path, "tun9", 5, "")
    (tmp_path / "sys/class/net/bonding_masters").write_text("")
    return tmp_path


ADDRESSES = [
    (1, IPv4Interface("127.0.0.1/8")),
    (2, IPv4Interface("10.99.0.16/16")),
    (2, IPv4Interface("10.99.0.16/16")),
    (2, IPv4Interface("10.98.0.1/24")),
    (2, IPv6Interface("fd99::10/64")),
    (2, IPv6Interface("fe80::1/64")),
    (3, IPv4Interface("10.1.0.1/24")),
    (4, IPv4Interface("100.64.0.1/16")),
    (5, IPv4Interface("10.2.0.1/24")),
    (77, IPv4Interface("10.3.0.1/24")),
]


def test_the_addresses_that_mean_something_to_others(root: Path) -> None:
    mac = "02:00:00:00:00:01"
    assert sysinfo.network_addresses(frozenset({"wt0"}), Places(root), lambda: ADDRESSES) == (
        NetworkAddress("10.99.0.16/16", mac),
        NetworkAddress("10.98.0.1/24", mac),
        NetworkAddress("fd99::10/64", mac),
    )


def test_the_host(root: Path) -> None:
    meta = sysinfo.system_meta("we", ipv6=False, disable_dns=True, places=Places(root))
    assert (meta.hostname, meta.os, meta.os_version) == ("we", "Debian GNU/Linux", "12")
    assert meta.product_name == "Bcher-Server 9"
    assert meta.manufacturer == ("Vendor" * 100)[:128]
    assert meta.serial_number == ""
    assert meta.kernel == "Linux"
    assert meta.kernel_version
    assert meta.platform
    assert encode_meta(meta).flags.disableIPv6
    assert encode_meta(meta).flags.disableDNS


def test_a_bare_root_gives_an_answer_too(tmp_path: Path) -> None:
    meta = sysinfo.system_meta("we", places=Places(tmp_path))
    assert meta.os == "Linux"
    assert meta.network_addresses == ()


def test_the_kernel_is_asked_for_addresses() -> None:
    loopback = socket.if_nametoindex("lo")
    assert (loopback, IPv4Interface("127.0.0.1/8")) in sysinfo.kernel_addresses()


def test_the_same_host_says_the_same() -> None:
    assert sysinfo.system_meta("we") == sysinfo.system_meta("we")
