"""What a caller's identity may look like, and the refusal of those who have none. Pure.

An identity goes into logs and is compared with a policy's patterns: it is printable ASCII whatever it was
proven by.
"""

from falrpc_server.access.refusals import Kind, Refusal

__all__ = ["IDENTITY_CHARACTERS_MAX", "identity_problem", "unproven"]

IDENTITY_CHARACTERS_MAX = 200

_TEXT = "the caller is not authenticated"


def identity_problem(identity: object, characters_max: int = IDENTITY_CHARACTERS_MAX) -> str:
    """What is wrong with an identity, without repeating it; empty when nothing is."""
    if not isinstance(identity, str):
        return "is not text"
    if not identity:
        return "is empty"
    if len(identity) > characters_max:
        return f"is longer than {characters_max} characters"
    if not (identity.isascii() and identity.isprintable()):
        return "has characters that are not printable ASCII"
    if identity != identity.strip():
        return "begins or ends with a space"
    return ""


def unproven(cause: str) -> Refusal:
    """The refusal of a caller who proved no identity.

    Args:
        cause: Why, for the log: never the credential or a part of it.
    """
    return Refusal(Kind.UNAUTHENTICATED, "CALLER_UNAUTHENTICATED", _TEXT, cause=cause)
