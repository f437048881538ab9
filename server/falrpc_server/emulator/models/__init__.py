"""The models that can be called, and what they work with."""
