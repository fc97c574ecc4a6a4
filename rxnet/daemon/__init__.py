"""The daemon: gRPC API on a unix socket, log lines, status."""
