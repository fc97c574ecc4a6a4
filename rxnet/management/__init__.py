"""The management driver: codec and map reader (bytes in, values out) apart from the gRPC client."""
