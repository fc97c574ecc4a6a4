"""Generated protobuf code (from proto/, by `make proto`) and the constants of the gRPC services."""
