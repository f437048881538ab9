"""fal's HTTP API in Python. It knows neither protobuf nor gRPC and could be a library of its own."""
