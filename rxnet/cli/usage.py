"""The command line's text, which is its grammar too (docopt), and its parsing."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from rxnet.cli.failure import Exit, Failure

DOC: Final = """\
rxnet - a NetBird-compatible mesh network client

Usage:
  rxnet up [--foreground] [--management-url URL] [--setup-key-file FILE] [--setup-key KEY]
           [--interface-name NAME] [--wireguard-port PORT] [--hostname NAME]
           [--disable-dns] [--disable-ipv6] [--config-dir DIR] [--daemon-addr ADDR]
           [--log-level LEVEL] [--json]
  rxnet status [--detail] [--json] [--daemon-addr ADDR]
  rxnet down [--daemon-addr ADDR]
  rxnet deregister [--config-dir DIR] [--daemon-addr ADDR] [--log-level LEVEL]
  rxnet cleanup [--config-dir DIR]
  rxnet server [--listen ADDR] [--advertise HOST] [--stun-port PORT] [--domain NAME]
               [--tls-certificate FILE] [--tls-key FILE] [--setup-key-file FILE]
               [--directory DIR] [--log-level LEVEL]
  rxnet server peers [--directory DIR] [--json]
  rxnet server peers delete PEER [--directory DIR]
  rxnet server setup-keys list [--directory DIR] [--json]
  rxnet server setup-keys create [--name NAME] [--reusable] [--usage-limit N]
                                 [--expires-in SECONDS] [--directory DIR] [--json]
  rxnet server setup-keys revoke ID [--directory DIR]
  rxnet demo [--peers N] [--keep] [--json]
  rxnet demo --clean
  rxnet version
  rxnet --help

Verbs:
  up           Connect this host and stay connected until Ctrl-C, SIGTERM or `rxnet down`.
  status       Show what the running rxnet is connected to.
  down         Stop the running rxnet and leave the host as it was.
  deregister   Delete this peer from the network on the management server.
  cleanup      Remove what a killed run left on this host.
  server       Run a control plane: management, signal and STUN in one process.
  demo         Show rxnet at work in network namespaces of its own.
  version      Print the version.

Options:
  --foreground           Run in this process. Without it nothing is started: a service
                         manager runs rxnet in the background.
  --management-url URL   Management server, https://HOST[:PORT] or http://HOST[:PORT].
  --setup-key-file FILE  File with the setup key that registers this peer. With `server`:
                         where a reusable setup key is kept, made if the file is missing.
  --setup-key KEY        The setup key itself. Other users can see it in the process list:
                         prefer the file or the variable.
  --interface-name NAME  Name that the WireGuard interface must have. Without it: wt0, or
                         another one if that is taken.
  --wireguard-port PORT  UDP port of WireGuard; another one is used if it is taken [51820].
  --hostname NAME        Name under which management shows this peer [the host's name].
  --disable-dns          Leave the host's DNS alone (accepted; this version always does).
  --disable-ipv6         No IPv6 address in the overlay network.
  --config-dir DIR       Directory that holds configuration, key and state, all of them.
  --daemon-addr ADDR     Control socket, unix:///PATH.
  --log-level LEVEL      error, warning, info, debug or trace [info].
  --json                 up: events as JSON lines on stdout. status: one JSON document
                         with the fields of `netbird status --json`. server, demo: what
                         is listed, made or measured, as JSON.
  --detail               Show every peer.
  --listen ADDR          Where the server listens, HOST:PORT or :PORT [:33073].
  --advertise HOST       Name or address under which peers reach this server.
  --stun-port PORT       UDP port of the STUN server, or `off` [3478].
  --domain NAME          Domain of the peers' names.
  --tls-certificate FILE  Certificate chain (PEM); with --tls-key the server speaks TLS.
  --tls-key FILE         Its private key (PEM).
  --directory DIR        The server's data [/var/lib/rxnet-server].
  --name NAME            What a setup key is for.
  --reusable             The setup key registers any number of peers.
  --usage-limit N        The setup key registers up to N peers.
  --expires-in SECONDS   The setup key is valid for so long.
  --peers N              How many peers to show, 2 to 20 [3].
  --keep                 Leave everything running at the end, and say how to end it.
  --clean                End what demos left running.
  -h --help              Show this text.

Environment:
  RXNET_SETUP_KEY    Setup key; removed from the environment at once.
  RXNET_DAEMON_ADDR  Default of --daemon-addr.
  RXNET_CONFIG_DIR   Default of --config-dir.
  WIREGUARD_GO       Userspace WireGuard program [wireguard-go].
  SSL_CERT_FILE      PEM file with the certificates to trust.
  HTTPS_PROXY        HTTP proxy on the way to management and signal; NO_PROXY lists
                     hosts that need none.
  NO_COLOR           No colours in the log.

Files (root; others: the XDG directories; all inside DIR with --config-dir):
  /etc/rxnet/config.toml      Options of earlier `up`, schema = 1.
  /var/lib/rxnet/private.key  The identity of this peer.
  /run/rxnet/rxnet.sock       Control socket.

Exit codes:
  0  done                                     5  trouble with the WireGuard interface
  1  unexpected error: please report it;      6  socket, directory, interface or address
     the demo: it did not go as promised         range taken by another process
  2  wrong option, configuration or key file  7  management cannot be reached
  3  rxnet is not running or does not answer  8  something could not be taken back
  4  management refused the login             130  interrupted
"""

Value = str | bool | None


@dataclass(frozen=True, slots=True)
class Command:
    """A parsed command line."""

    verb: str
    values: Mapping[str, Value]
    """By the names of the usage text: options with their dashes, arguments and words of the command itself."""

    def text(self, name: str) -> str | None:
        """The value of an option or argument, None if it was not given."""
        value = self.values[name]
        return value if isinstance(value, str) else None

    def flag(self, name: str) -> bool:
        """Whether an option without a value, or a word, was given."""
        return self.values[name] is True

    def number(self, option: str, lowest: int, highest: int) -> int | None:
        """The value of an option as a whole number.

        :raises Failure: if it is none, or out of range.
        """
        text = self.text(option)
        if text is None:
            return None
        if not re.fullmatch(r"[0-9]{1,9}", text) or not lowest <= int(text) <= highest:
            raise usage(f"{option} {text!r} is not a number from {lowest} to {highest}")
        return int(text)


def usage(text: str) -> Failure:
    """The error for a wrong command line."""
    return Failure(Exit.USAGE, f"{text} (see `rxnet --help`)")


def grammar() -> dict[str, frozenset[str]]:
    """The verbs and the options each takes, as the usage text says."""
    section = DOC.split("Usage:\n", 1)[1].split("\n\n", 1)[0]
    found: dict[str, frozenset[str]] = {}
    for pattern in re.sub(r"\n {4,}", " ", section).splitlines():
        verb = pattern.split()[1]
        if not verb.startswith("-"):
            found[verb] = found.get(verb, frozenset()) | set(re.findall(r"--[a-z0-9-]+", pattern))
    return found


def parse(arguments: Sequence[str]) -> Command | None:
    """Parse the arguments after the program's name; None: help is asked for.

    :raises Failure: if they do not follow the usage.
    """
    verbs = grammar()
    if any(argument in ("-h", "--help") for argument in arguments) or list(arguments) == ["help"]:
        return None
    if not arguments:
        raise usage(f"name a verb: {', '.join(verbs)}")
    verb = arguments[0]
    if verb not in verbs:
        what = "put the verb first" if verb.startswith("-") else f"unknown verb {verb!r}"
        raise usage(f"{what}: {', '.join(verbs)}")
    _check(verb, arguments[1:], verbs)
    from docopt import DocoptExit, docopt

    try:
        found = docopt(DOC, list(arguments), default_help=False)
    except DocoptExit as error:
        raise usage(f"{verb}: {_words(str(error))}") from None
    return Command(verb, found)


def _check(verb: str, arguments: Sequence[str], verbs: Mapping[str, frozenset[str]]) -> None:
    """Refuse what docopt would guess at (abbreviations) or say in many lines (options that are not this verb's)."""
    seen: set[str] = set()
    for argument in arguments:
        if not argument.startswith("-") or argument == "-":
            continue
        name = argument.partition("=")[0]
        if name not in verbs[verb]:
            others = sorted(v for v, options in verbs.items() if name in options)
            raise usage(f"{verb} has no option {name}" + (f", only {', '.join(others)}" if others else ""))
        if name in seen:
            raise usage(f"{name} is given twice")
        seen.add(name)


def _words(message: str) -> str:
    """The first line of docopt's complaint, if it says more than the usage."""
    first = message.strip().partition("\n")[0]
    if not first or first.startswith(("Usage:", "Warning:")):
        return "these arguments do not fit together"
    return first.replace("requires argument", "needs a value").replace("must not have an argument", "takes no value")
