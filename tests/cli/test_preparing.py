"""From command line, environment and files to a configuration."""

import os
from pathlib import Path

import pytest

from rxnet.cli.failure import Exit, Failure, exit_code
from rxnet.cli.paths import Paths, find_paths, parse_daemon_address
from rxnet.cli.prepare import (
    Prepared,
    demand_free,
    given_settings,
    paths_of,
    prepare,
    read_setup_key,
    take_setup_key,
)
from rxnet.cli.usage import Command, parse
from rxnet.config import load_settings
from rxnet.errors import ConfigError, DirectoryInUse
from rxnet.files import lock_directory
from rxnet.identity import load_identity
from rxnet.model import ServerAddress
from rxnet.wire.box import public_key

KEY = "3F1C9A52-7d6b-4e0f-8a21-5b9c0d7e6f43"


def command(*arguments: str) -> Command:
    parsed = parse(["up", *arguments])
    assert parsed is not None
    return parsed


def prepared(base: Path, *arguments: str) -> Prepared:
    given = command("--config-dir", str(base), *arguments)
    return prepare(given, paths_of(given, {}), take_setup_key(given, {}), {})


# -- paths


def test_everything_inside_the_config_dir() -> None:
    paths = find_paths("/x/y", {"XDG_CONFIG_HOME": "/home/c"}, 0)
    assert (paths.config, paths.identity) == (Path("/x/y/config.toml"), Path("/x/y/private.key"))
    assert paths.state == Path("/x/y/state")


def test_system_wide_for_root_and_xdg_for_others() -> None:
    assert find_paths(None, {"HOME": "/root", "XDG_CONFIG_HOME": "/r"}, 0) == Paths(
        Path("/etc/rxnet/config.toml"),
        Path("/var/lib/rxnet/private.key"),
        Path("/var/lib/rxnet"),
        Path("/run/rxnet/rxnet.sock"),
    )
    mine = find_paths(None, {"HOME": "/h", "XDG_STATE_HOME": "relative", "XDG_RUNTIME_DIR": "/run/user/7"}, 7)
    assert mine.config == Path("/h/.config/rxnet/config.toml")
    assert mine.state == Path("/h/.local/state/rxnet")
    assert mine.socket == Path("/run/user/7/rxnet/rxnet.sock")


def test_the_directory_named_by_the_environment() -> None:
    assert paths_of(command(), {"RXNET_CONFIG_DIR": "/e"}).config == Path("/e/config.toml")
    assert paths_of(command("--config-dir", "/o"), {"RXNET_CONFIG_DIR": "/e"}).config == Path("/o/config.toml")


@pytest.mark.parametrize("text", ["unix:///a/b.sock", "unix:/a/b.sock", "/a/b.sock"])
def test_daemon_addresses(text: str) -> None:
    assert parse_daemon_address(text) == Path("/a/b.sock")


@pytest.mark.parametrize("text", ["", "tcp://127.0.0.1:1", "unix://a", "a.sock", "unix:///" + "x" * 120, "unix:///a\0"])
def test_bad_daemon_addresses(text: str) -> None:
    with pytest.raises(ConfigError, match="--daemon-addr"):
        parse_daemon_address(text)


# -- setup keys


def test_the_environment_is_read_once_and_wiped() -> None:
    environment = {"RXNET_SETUP_KEY": f" {KEY}\n", "HOME": "/"}
    assert take_setup_key(command(), environment).text == KEY
    assert environment == {"HOME": "/"}


def test_it_is_wiped_even_if_an_option_wins(tmp_path: Path) -> None:
    environment = {"RXNET_SETUP_KEY": KEY}
    other = KEY.replace("3F", "4F")
    assert take_setup_key(command("--setup-key", other), environment).text == other
    assert environment == {}


@pytest.mark.parametrize("content", [KEY, f"{KEY}\n", f"\n\n  {KEY}\r\n\n", f"\ufeff{KEY}\n", f"\t{KEY} "])
def test_a_file_with_any_reasonable_blanks(tmp_path: Path, content: str) -> None:
    file = tmp_path / "key"
    file.write_text(content)
    file.chmod(0o600)
    found = read_setup_key(file)
    assert found.text == KEY and found.warnings == () and KEY not in repr(found)


def test_a_file_that_others_can_read(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(KEY)
    file.chmod(0o644)
    assert "chmod 600" in read_setup_key(file).warnings[0]


def test_a_key_through_a_pipe() -> None:
    """As a shell's <(...) gives it."""
    read, write = os.pipe()
    os.write(write, f"{KEY}\n".encode())
    os.close(write)
    try:
        assert read_setup_key(Path(f"/dev/fd/{read}")).text == KEY
    finally:
        os.close(read)


@pytest.mark.parametrize(
    "content", ["", " \n", "not-a-key", KEY[:-1], f"{KEY} {KEY}", KEY.replace("-", ""), "x" * 9999]
)
def test_what_is_no_key_is_not_repeated(tmp_path: Path, content: str) -> None:
    file = tmp_path / "key"
    file.write_text(content)
    with pytest.raises(ConfigError) as caught:
        read_setup_key(file)
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)
    assert not content.strip() or content.strip() not in str(caught.value)
    if content.strip():
        with pytest.raises(ConfigError, match="--setup-key is not"):
            take_setup_key(command("--setup-key", content), {})


def test_a_missing_key_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        read_setup_key(tmp_path / "none")


def test_two_keys_are_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="either"):
        take_setup_key(command("--setup-key", KEY, "--setup-key-file", "x"), {})


def test_a_key_in_the_process_list_is_warned_about() -> None:
    found = take_setup_key(command("--setup-key", KEY), {})
    assert "process list" in found.warnings[0] and KEY not in found.warnings[0]


# -- the whole


def test_the_first_up_and_the_second(tmp_path: Path) -> None:
    base = tmp_path / "c"
    first = prepared(base, "--management-url", "http://m:8080", "--setup-key", KEY, "--hostname", "me",
                     "--wireguard-port", "1234", "--disable-dns")  # fmt: skip
    assert first.new_identity == public_key(first.config.private_key)
    assert first.config.setup_key == KEY and first.config.management == ServerAddress("m", 8080)
    assert first.config.state_directory == base / "state"
    second = prepared(base)
    assert second.new_identity == "" and second.config.private_key == first.config.private_key
    assert second.config.setup_key is None
    assert (second.config.hostname, second.config.wireguard_port, second.config.disable_dns) == ("me", 1234, True)
    third = prepared(base, "--setup-key", KEY, "--management-url", "http://n:1")
    assert third.config.private_key == first.config.private_key
    assert third.config.management == ServerAddress("n", 1)


def test_the_setup_key_is_nowhere_on_the_disk(tmp_path: Path) -> None:
    prepared(tmp_path / "c", "--management-url", "http://m:1", "--setup-key", KEY)
    files = [file for file in (tmp_path / "c").rglob("*") if file.is_file()]
    assert len(files) == 2
    assert not [file for file in files if KEY.lower() in file.read_text().lower()]


def test_no_interface_is_forced_unless_named(tmp_path: Path) -> None:
    assert prepared(tmp_path / "c", "--management-url", "http://m:1").config.interface is None
    assert prepared(tmp_path / "c", "--interface-name", "wt0").config.interface == "wt0"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--management-url", "m"],
        ["--management-url", "http://m:1", "--interface-name", "much-too-long-name"],
        ["--management-url", "http://m:1", "--hostname", ""],
        ["--management-url", "http://m:1", "--wireguard-port", "0"],
    ],
)
def test_a_wrong_value_leaves_no_trace(tmp_path: Path, arguments: list[str]) -> None:
    with pytest.raises((ConfigError, Failure)):
        prepared(tmp_path / "c", *arguments)
    assert not (tmp_path / "c").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make a file immutable to us by a mount")
def test_a_configuration_that_cannot_be_written_is_used_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / "c"
    prepared(base, "--management-url", "http://m:1")

    def refuse(*_: object, **__: object) -> None:
        raise ConfigError("cannot write config.toml: read-only file system")

    monkeypatch.setattr("rxnet.config.write_private", refuse)
    found = prepared(base, "--hostname", "other")
    assert found.config.hostname == "other"
    assert "for this run only" in found.warnings[-1]
    assert load_settings(base / "config.toml").hostname is None


def test_a_broken_identity_stops_it(tmp_path: Path) -> None:
    base = tmp_path / "c"
    prepared(base, "--management-url", "http://m:1")
    (base / "private.key").write_text("garbage")
    with pytest.raises(ConfigError, match="restore it from a backup"):
        prepared(base)
    assert (base / "private.key").read_text() == "garbage"
    with pytest.raises(ConfigError):
        load_identity(base / "private.key")


def test_environment_and_file_for_programs_and_certificates(tmp_path: Path) -> None:
    given = command("--config-dir", str(tmp_path / "c"), "--management-url", "http://m:1")
    key = take_setup_key(given, {})
    found = prepare(given, paths_of(given, {}), key, {"WIREGUARD_GO": "/opt/wg", "SSL_CERT_FILE": "/ca.pem"}).config
    assert found.wireguard_program == "/opt/wg" and found.root_certificates == Path("/ca.pem")


def test_options_name_themselves_in_errors() -> None:
    with pytest.raises(ConfigError, match="--management-url"):
        given_settings(command("--management-url", "x"))
    with pytest.raises(ConfigError, match="--interface-name"):
        given_settings(command("--interface-name", "a b"))


def test_one_process_at_a_time(tmp_path: Path) -> None:
    paths = find_paths(str(tmp_path / "c"), {}, 0)
    demand_free(paths)
    assert not paths.state.exists()  # looking makes nothing
    with lock_directory(paths.state, "rxnet"):
        with pytest.raises(DirectoryInUse, match=rf"process {os.getpid()}\): stop it with `rxnet down`") as caught:
            demand_free(paths)
        assert exit_code(caught.value) is Exit.TAKEN
    demand_free(paths)  # a lock file that nobody holds is only a file
