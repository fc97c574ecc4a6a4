"""The logger of all modules. A library does not log unless its user asks: `loguru.logger.enable("rxnet")`.

Everybody imports it from here, so that this line runs once and before anybody can have enabled it: were it in a module
that is loaded later, it would silence a program that has just asked.
"""

from __future__ import annotations

from loguru import logger

__all__ = ["logger"]

logger.disable("rxnet")
