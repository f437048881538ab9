"""What type a file has when nobody says: by its name, else by its first bytes. Pure."""

import mimetypes
from dataclasses import replace

import filetype

from falrpc_server.fal_http.models import Upload

__all__ = ["typed"]

HEAD_BYTES = 8_192

UNKNOWN = "application/octet-stream"


def typed(upload: Upload, head: bytes) -> Upload:
    """Returns the upload with a content type: its own, or what its name or its first bytes say.

    A name's extension counts more than bytes: many formats are zip files to those.
    """
    if upload.content_type:
        return upload
    by_name, encoding = mimetypes.guess_type(upload.file_name)
    if encoding:  # the type is that of what is inside
        by_name = None
    return replace(upload, content_type=by_name or filetype.guess_mime(head[:HEAD_BYTES]) or UNKNOWN)
