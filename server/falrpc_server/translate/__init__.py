"""Protobuf messages to values and back. Pure: no IO, no gRPC."""
