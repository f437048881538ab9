"""falrpc_server: the gRPC service in front of fal.ai."""
