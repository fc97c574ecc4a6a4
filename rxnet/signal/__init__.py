"""The signal driver: codec (bytes in, values out) apart from the gRPC client."""
