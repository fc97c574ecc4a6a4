"""ICE on WireGuard's own UDP port: the shared port and the aioice agent on it."""
