"""Stops an upload that is too large while it is still coming in."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.files.uploadhandler import FileUploadHandler, StopUpload


class SizeLimitHandler(FileUploadHandler):
    """Count the bytes of all files of a request; past the limit the upload ends.

    Listed first in FILE_UPLOAD_HANDLERS, so nothing over the limit is stored. The view
    then finds no file.
    """

    def __init__(self, request: Any = None) -> None:
        super().__init__(request)
        self._received = 0

    def receive_data_chunk(self, raw_data: bytes, start: int) -> bytes:
        self._received += len(raw_data)
        if self._received > settings.DEMO_UPLOAD_LIMIT:
            raise StopUpload(connection_reset=True)
        return raw_data

    def file_complete(self, file_size: int) -> None:
        # The handlers that follow keep the file.
        return None
