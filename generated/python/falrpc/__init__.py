"""The contract of falrpc. Use `from falrpc import v1`.

Generated from protos/ by `make gen`. Do not edit.
"""
