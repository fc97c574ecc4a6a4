"""The configuration file: read strictly, written atomically and privately, comments kept."""

import os
from pathlib import Path

import pytest

from rxnet.config import ClientConfig, Settings, load_settings, parse_management_url, parse_settings, store_settings
from rxnet.errors import ConfigError
from rxnet.model import ServerAddress


@pytest.fixture
def file(tmp_path: Path) -> Path:
    directory = tmp_path / "config"
    directory.mkdir(mode=0o700)
    return directory / "config.toml"


FULL = Settings(
    management_url="https://mesh.example:8443",
    interface_name="wt7",
    wireguard_port=1234,
    hostname='a "quoted" \\ name ü',
    disable_dns=True,
    disable_ipv6=False,
    root_certificates="/etc/ca.pem",
    proxy="http://user:word@proxy:3128",
    wireguard_program="wireguard-go",
)


def test_a_missing_file_says_nothing(file: Path) -> None:
    assert load_settings(file) == Settings()
    assert load_settings(file.parent / "none" / "config.toml") == Settings()


def test_round_trip(file: Path) -> None:
    assert store_settings(file, FULL)
    assert load_settings(file) == FULL
    assert not store_settings(file, FULL), "an unchanged file is not written"


def test_private_from_the_first_byte(tmp_path: Path) -> None:
    file = tmp_path / "new" / "deeper" / "config.toml"
    old = os.umask(0)
    try:
        store_settings(file, FULL)
    finally:
        os.umask(old)
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert file.parent.parent.stat().st_mode & 0o777 == 0o700
    assert os.listdir(file.parent) == ["config.toml"]


def test_comments_and_order_stay(file: Path) -> None:
    head = '# mine\nschema = 1\n\nhostname = "a" # the old one\n# port\n'
    file.write_text(head + "wireguard_port = 1\ndisable_dns = true\n")
    store_settings(file, Settings(hostname="a", wireguard_port=2, interface_name="wt1"))
    assert file.read_text() == head + 'wireguard_port = 2\ninterface_name = "wt1"\n'


def test_an_edit_that_would_go_wrong_writes_the_file_anew(file: Path) -> None:
    """A key on a line inside a multi-line string must not be taken for the key."""
    file.write_text('schema = 1\nroot_certificates = """\\\nhostname = x\\\n"""\n')
    assert load_settings(file).root_certificates == "hostname = x"
    wanted = Settings(root_certificates="hostname = x", hostname="b")
    store_settings(file, wanted)
    assert load_settings(file) == wanted


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("hostname = 'x'", "the key schema is missing"),
        ("schema = '1'", "schema must be a number"),
        ("schema = true", "schema must be a number"),
        ("schema = 2\nwhatever = 3", "schema 2 is of a newer rxnet"),
        ("schema = 1\n\nhostnam = 'x'", ", line 3: unknown key hostnam"),
        ("schema = 1\n[hostname]\nx = 1", ", line 2: hostname must be text"),
        ("schema = 1\nwireguard_port = '1'", ", line 2: wireguard_port must be a number"),
        ("schema = 1\nwireguard_port = true", ", line 2: wireguard_port must be a number"),
        ("schema = 1\nwireguard_port = 0", ", line 2: wireguard_port 0 is not a port"),
        ("schema = 1\ndisable_dns = 1", "disable_dns must be true or false"),
        ("schema = 1\nmanagement_url = 'mesh'", "not an address of a management server"),
        ("schema = 1\ninterface_name = 'a/b'", "cannot name an interface"),
        ("schema = 1\nhostname = ''", "is not a host name"),
        ("schema = 1\nroot_certificates = ''", "root_certificates is empty"),
        ("schema = 1\nhostname = 'x", "not valid TOML"),
        ("schema = 1\n" + "a.b=1\n" + "[" * 5000, "not valid TOML"),
        ("schema = 1\nx = " + "[" * 100_000, "not valid TOML"),
    ],
)
def test_mistakes_name_file_place_and_mend(file: Path, text: str, says: str) -> None:
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_settings(file)
    assert says in str(caught.value) and str(file) in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError):
        store_settings(file, FULL)
    assert file.read_text() == text, "a file that is wrong is left alone"


def test_bytes_that_are_no_text(file: Path) -> None:
    file.write_bytes(b"schema = 1\nhostname = '\xff'")
    with pytest.raises(ConfigError, match="byte 23: not UTF-8"):
        load_settings(file)


def test_a_proxy_password_is_not_repeated() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_settings(b'schema = 1\nproxy = "socks5://user:s3cret@host"', "f")
    assert "s3cret" not in str(caught.value)
    assert "s3cret" not in repr(Settings(proxy="http://user:s3cret@host"))


def test_who_else_could_write(file: Path) -> None:
    store_settings(file, FULL)
    file.chmod(0o620)
    with pytest.raises(ConfigError, match="chmod 600"):
        load_settings(file)
    file.chmod(0o644)
    assert load_settings(file) == FULL, "it holds no secret of ours: others may read it"
    file.parent.chmod(0o777)
    with pytest.raises(ConfigError, match="chmod go-w"):
        load_settings(file)
    with pytest.raises(ConfigError, match="chmod go-w"):
        store_settings(file, Settings())


def test_a_planted_link_is_replaced_not_followed(file: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("schema = 1\n")
    file.symlink_to(victim)
    store_settings(file, FULL)
    assert victim.read_text() == "schema = 1\n"
    assert not file.is_symlink() and load_settings(file) == FULL


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make another user's files")
def test_directories_and_links_of_others(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir(mode=0o700)
    os.chown(theirs, 12345, 12345)
    with pytest.raises(ConfigError, match="belongs to user 12345"):
        store_settings(theirs / "config.toml", FULL)
    mine = tmp_path / "mine"
    mine.mkdir(mode=0o700)
    link = tmp_path / "link"
    link.symlink_to(mine)
    os.chown(link, 12345, 12345, follow_symlinks=False)
    with pytest.raises(ConfigError, match="symbolic link of user 12345"):
        store_settings(link / "config.toml", FULL)
    os.chown(link, 0, 0, follow_symlinks=False)
    store_settings(link / "config.toml", FULL)
    assert load_settings(mine / "config.toml") == FULL


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("https://mesh.example", ServerAddress("mesh.example", 443, True)),
        ("http://mesh.example/", ServerAddress("mesh.example", 80, False)),
        (" http://10.0.0.1:8080 ", ServerAddress("10.0.0.1", 8080, False)),
        ("https://[fd00::1]:33073", ServerAddress("fd00::1", 33073, True)),
    ],
)
def test_management_urls(text: str, address: ServerAddress) -> None:
    assert parse_management_url(text) == address


@pytest.mark.parametrize(
    "text",
    ["", "mesh", "mesh:443", "ftp://mesh", "https://", "https://mesh/x", "https://mesh?x", "https://mesh:0",
     "https://mesh:99999", "https://mesh:x", "https://[fd00::1", "https://me sh", "https://u:p@mesh", "https://-a"],
)  # fmt: skip
def test_bad_management_urls(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_management_url(text)
    assert "\n" not in str(caught.value) and "p@" not in str(caught.value)


KEY = "3f1c9a52-7d6b-4e0f-8a21-5b9c0d7e6f43"


def config(**changes: object) -> ClientConfig:
    given = {"management": ServerAddress("h", 1), "private_key": bytes(range(32)), "state_directory": Path("/s")}
    return ClientConfig(**{**given, **changes})  # type: ignore[arg-type]


def test_secrets_do_not_show() -> None:
    text = repr(config(setup_key=KEY, proxy="http://u:s3cret@p"))
    assert KEY not in text and "s3cret" not in text and repr(bytes(range(32))) not in text


@pytest.mark.parametrize(
    "changes",
    [{"private_key": b"x"}, {"setup_key": "x"}, {"interface": "way-too-long-a-name"}, {"interface": ""},
     {"wireguard_port": 0}, {"hostname": ""}, {"hostname": "a\nb"}, {"proxy": "ftp://x"}],
)  # fmt: skip
def test_a_config_that_cannot_work_is_not_made(changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        config(**changes)
