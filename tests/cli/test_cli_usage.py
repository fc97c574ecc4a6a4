"""The grammar: every verb parses, nothing is guessed, every mistake is one line and exit code 2."""

import re

import pytest

from rxnet.cli.failure import Exit, Failure, exit_code
from rxnet.cli.main import main
from rxnet.cli.usage import DOC, grammar, parse
from rxnet.errors import ConfigError, DirectoryInUse, ProtocolError, ResourceTaken, RxnetError

LAB_UP = (
    "up --foreground --management-url http://10.99.0.1:8080 --setup-key-file D/key --config-dir D/config "
    "--daemon-addr unix://D/rxnet.sock --interface-name wt0 --wireguard-port 51820 --hostname lab-a --disable-dns"
)


def test_the_lab_command_lines() -> None:
    """A lab beside this project starts us with exactly these."""
    up = parse(LAB_UP.split())
    assert up is not None and up.verb == "up"
    assert up.flag("--foreground") and up.flag("--disable-dns") and not up.flag("--json")
    assert up.text("--management-url") == "http://10.99.0.1:8080"
    assert up.text("--setup-key-file") == "D/key"
    assert up.text("--setup-key") is None
    assert up.text("--daemon-addr") == "unix://D/rxnet.sock"
    assert up.number("--wireguard-port", 1, 65535) == 51820
    status = parse(["status", "--json", "--daemon-addr", "unix://D/rxnet.sock"])
    assert status is not None and status.flag("--json") and status.text("--daemon-addr") == "unix://D/rxnet.sock"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("up", {"--foreground": False, "--json": False}),
        ("up --setup-key K", {"--setup-key": "K", "--setup-key-file": None}),
        ("up --setup-key=K --setup-key-file=F", {"--setup-key": "K", "--setup-key-file": "F"}),
        ("up --setup-key-file F --setup-key K", {"--setup-key": "K", "--setup-key-file": "F"}),
        ("up --log-level debug --disable-ipv6", {"--log-level": "debug", "--disable-ipv6": True}),
        ("status --detail", {"--detail": True}),
        ("down", {"--daemon-addr": None}),
        ("deregister --config-dir D", {"--config-dir": "D"}),
        ("cleanup --config-dir D", {"--config-dir": "D"}),
        ("server", {"--listen": None, "peers": False}),
        ("server --listen :1 --advertise h --stun-port off --tls-certificate C --tls-key K", {"--tls-key": "K"}),
        ("server peers", {"peers": True, "delete": False}),
        ("server peers delete host-a", {"delete": True, "PEER": "host-a"}),
        ("server setup-keys create --name n --reusable --expires-in 60", {"create": True, "--reusable": True}),
        ("server setup-keys revoke 3", {"revoke": True, "ID": "3"}),
        ("server setup-keys list --json", {"list": True, "--json": True}),
        ("demo --peers 3 --keep --json", {"--peers": "3", "--keep": True}),
        ("version", {}),
    ],
)
def test_every_verb(line: str, expected: dict[str, object]) -> None:
    command = parse(line.split())
    assert command is not None and command.verb == line.split()[0]
    assert {name: command.values[name] for name in expected} == expected


def test_no_option_is_the_prefix_of_another() -> None:
    """Docopt completes abbreviations. One pair is NetBird's own (--setup-key, --setup-key-file); it parses exactly."""
    options = sorted(set().union(*grammar().values()))
    assert len(options) > 20
    pairs = {(a, b) for a in options for b in options if a != b and b.startswith(a)}
    assert pairs == {("--setup-key", "--setup-key-file")}


def test_every_option_is_described_and_every_description_is_of_an_option() -> None:
    described = set(re.findall(r"^  (?:-h )?(--[a-z0-9-]+)", DOC.split("Options:\n")[1].split("\n\n")[0], re.M))
    assert described == set().union(*grammar().values()) | {"--help"}


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("", "name a verb"),
        ("upp", "unknown verb 'upp'"),
        ("--json status", "put the verb first"),
        ("up --setup-k x", "up has no option --setup-k"),
        ("up --man http://x", "up has no option --man"),
        ("status --detai", "status has no option --detai"),
        ("down --json", "down has no option --json, only demo, server, status, up"),
        ("status -d", "status has no option -d"),
        ("status --json --json", "--json is given twice"),
        ("status extra", "these arguments do not fit together"),
        ("status --daemon-addr", "--daemon-addr needs a value"),
        ("status --json=yes", "--json takes no value"),
        ("server peers --listen :80", "these arguments do not fit together"),
        ("server peers delete", "these arguments do not fit together"),
    ],
)
def test_mistakes(line: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(line.split()) == Exit.USAGE
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("rxnet: ") and err.count("\n") == 1 and says in err


@pytest.mark.parametrize("line", ["--help", "-h", "help", "status --help", "up -h"])
def test_help_is_the_grammar(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(line.split()) == 0
    assert capsys.readouterr().out == DOC


@pytest.mark.parametrize("text", ["0", "65536", "x", "-1", "1.5", "", "１", "99999999999999"])
def test_numbers(text: str) -> None:
    command = parse(["up", f"--wireguard-port={text}"])
    assert command is not None
    with pytest.raises(Failure, match="is not a number from 1 to 65535"):
        command.number("--wireguard-port", 1, 65535)


def test_exit_codes_are_in_the_help() -> None:
    table = DOC.split("Exit codes:\n")[1]
    for code in Exit:
        assert re.search(rf"(^|  ){int(code)}  \S", table, re.M), code


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (ConfigError, Exit.USAGE),
        (DirectoryInUse, Exit.TAKEN),
        (ResourceTaken, Exit.TAKEN),
        (ProtocolError, Exit.UNREACHABLE),
        (RxnetError, Exit.UNEXPECTED),
    ],
)
def test_each_error_has_its_code(kind: type[RxnetError], code: Exit) -> None:
    assert exit_code(kind("what")) is code


def test_help_fits_a_terminal() -> None:
    assert max(map(len, DOC.splitlines())) <= 100
