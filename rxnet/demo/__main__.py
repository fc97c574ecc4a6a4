"""`python -m rxnet.demo [--clean]`: the demo without the command line around it; --clean ends those that were kept."""

from __future__ import annotations

import sys

from rxnet.demo import run
from rxnet.demo.main import clean
from rxnet.errors import RxnetError


def main() -> int:
    arguments = sys.argv[1:]
    if arguments == ["--clean"]:
        return clean()
    if arguments:
        sys.stderr.write("rxnet: options of the demo go to `rxnet demo`; here is only --clean\n")
        return 2
    try:
        return run()
    except RxnetError as error:
        sys.stderr.write(f"rxnet: {error}\n")
        return 5


if __name__ == "__main__":
    sys.exit(main())
