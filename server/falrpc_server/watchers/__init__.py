"""Shared watching of queue requests: one flow of states from fal, any number of callers."""
