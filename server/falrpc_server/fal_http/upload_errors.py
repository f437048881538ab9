"""What can be wrong with a file that a caller sends."""

__all__ = ["UploadMismatch", "UploadStalled", "UploadTooLarge"]


class UploadStalled(Exception):
    """The sender of an upload has let too long pass without a byte, or takes too long for a part."""


class UploadTooLarge(Exception):
    """An upload is larger than what is taken.

    Attributes:
        bytes_max: The limit.
        is_declared: Whether its header said so: nothing of it was sent then.
    """

    def __init__(self, bytes_max: int, *, is_declared: bool) -> None:
        super().__init__(f"more than {bytes_max} bytes")
        self.bytes_max = bytes_max
        self.is_declared = is_declared


class UploadMismatch(Exception):
    """The messages of an upload are not what their sender declared, or no chunks of a file."""

    def __init__(self, field: str, description: str) -> None:
        super().__init__(f"{field} {description}")
        self.field = field
        self.description = description
