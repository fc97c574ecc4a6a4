"""The entry point of `rxnet`: parse, hand over to the verb, end with one line and an exit code.

Each verb is a module with `run(command) -> int`, imported when it is called for, so that `rxnet version` does not pay
for gRPC.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Sequence
from typing import cast

from rxnet.cli.failure import Exit, Failure, exit_code
from rxnet.cli.usage import DOC, Command, parse
from rxnet.errors import RxnetError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; returns the exit code."""
    # gRPC's own log lines would go to stderr beside ours, in a format of their own.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    debugging = False
    try:
        command = parse(sys.argv[1:] if arguments is None else arguments)
        if command is None:
            return _print(DOC, end="")
        debugging = command.text("--log-level") in ("debug", "trace")
        return _run(command)
    except (Failure, RxnetError) as error:
        code = exit_code(error)
        complain(str(error))
        return code
    except KeyboardInterrupt:
        return Exit.KILLED
    except BrokenPipeError:
        _drop_stdout()
        return Exit.OK
    except Exception as error:  # the last line of defence
        if debugging:
            raise
        complain(f"internal error: {type(error).__name__}: {error}; please report it (--log-level debug tells more)")
        return Exit.UNEXPECTED


def _run(command: Command) -> int:
    if command.verb == "version":
        from rxnet._version import __version__

        return _print(__version__)
    verb = importlib.import_module(f"rxnet.cli.{command.verb}")
    code = cast(int, verb.run(command))
    sys.stdout.flush()
    return code


def _print(text: str, end: str = "\n") -> int:
    print(text, end=end)
    sys.stdout.flush()
    return Exit.OK


def complain(text: str) -> None:
    """Write one line to stderr, whatever is in the text."""
    one_line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    with contextlib.suppress(OSError, ValueError):
        print(f"rxnet: {one_line}", file=sys.stderr, flush=True)


def _drop_stdout() -> None:
    """Whoever read our output is gone; keep the interpreter from complaining about that at exit."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


if __name__ == "__main__":
    sys.exit(main())
