"""The configuration that the examples share, from the environment.

RXNET_MANAGEMENT_URL   the management server, such as http://10.99.0.1:8080
RXNET_SETUP_KEY        needed the first time only
RXNET_DIRECTORY        where key and state are kept, ./rxnet-example by default
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import rxnet
from rxnet.config import parse_management_url
from rxnet.files import make_private
from rxnet.identity import load_or_make_identity


def from_environment() -> rxnet.ClientConfig:
    """Make a configuration; ends the program with one line if something is missing."""
    directory = Path(os.environ.get("RXNET_DIRECTORY", "rxnet-example"))
    try:
        url = os.environ["RXNET_MANAGEMENT_URL"]
        make_private(directory)
        private_key, _new = load_or_make_identity(directory / "private.key")
        return rxnet.ClientConfig(
            management=parse_management_url(url),
            private_key=private_key,
            setup_key=os.environ.pop("RXNET_SETUP_KEY", None),
            state_directory=directory,
        )
    except KeyError as missing:
        sys.exit(f"set the variable {missing.args[0]}: {__doc__}")
    except rxnet.RxnetError as error:
        sys.exit(str(error))
