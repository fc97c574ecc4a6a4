"""The pure half of rxnet: inbox, reduce, state and epics. Nothing here does I/O; see docs/engine.md."""
