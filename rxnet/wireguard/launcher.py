"""Runs a userspace WireGuard: `python -I -S launcher.py PARENT PROGRAM NAME`. Started by `userspace.py`, not imported.

It becomes the program after it has arranged three things that only the process itself can:

* it dies with its parent (PR_SET_PDEATHSIG; to be exact: with the parent's thread that started it);
* it gets a mount namespace of its own with an empty /run, where the program puts its control socket. Namespaces of
  the network share /run, so two programs with an interface `wt0` each would otherwise take one another's socket.
  Where this is not permitted the program uses the common /run, and the parent notices;
* its standard error is its standard output.

A separate program instead of `preexec_fn`: after fork() in a process with threads (gRPC has some) no Python code may
safely run. It uses the standard library alone, because -I and -S keep everything else away.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

CLONE_NEWNS = 0x00020000
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REC, MS_PRIVATE = 0x2, 0x4, 0x8, 0x4000, 0x40000
PR_SET_PDEATHSIG = 1


def main() -> None:
    """Arrange, then become the program. Exits with 127 and a line on standard output if it cannot be run."""
    parent, program, name = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    libc = ctypes.CDLL(None, use_errno=True)
    # Arguments as c_ulong: prctl is variadic, and bare ints would be passed with 32 bits.
    no = ctypes.c_ulong(0)
    libc.prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), no, no, no)
    if os.getppid() != parent:
        sys.exit(1)
    os.dup2(1, 2)
    private_run(libc)
    try:
        os.execv(program, [program, "-f", name])
    except OSError as error:
        print(f"{program}: {error.strerror}", flush=True)  # noqa: T201  the parent reads it as the program's log
        sys.exit(127)


def private_run(libc: ctypes.CDLL) -> bool:
    """Give this process a /run of its own; False where that is not permitted."""
    run = os.path.realpath("/var/run").encode()
    if libc.unshare(CLONE_NEWNS):
        return False
    # Private propagation first: otherwise the mount would appear on the host.
    if libc.mount(b"none", b"/", None, ctypes.c_ulong(MS_REC | MS_PRIVATE), None):
        return False
    flags = ctypes.c_ulong(MS_NOSUID | MS_NODEV | MS_NOEXEC)
    return bool(libc.mount(b"rxnet", run, b"tmpfs", flags, b"mode=700,size=1m") == 0)


if __name__ == "__main__":
    main()
