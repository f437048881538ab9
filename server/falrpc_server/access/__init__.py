"""Who may call what, and how much of it at once.

It knows callers, policies and limits, and neither grpc nor protobuf nor fal's HTTP API: what grpc tells of a
call comes as plain values, what is refused is raised as a Refusal.
"""
