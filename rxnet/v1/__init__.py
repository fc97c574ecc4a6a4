"""Generated protobuf code of rxnet's own daemon API, version 1 (from proto/rxnet/v1/, by `make proto`)."""
