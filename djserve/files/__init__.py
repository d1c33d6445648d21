"""Files of the site, answered by the server without the application.

``table`` knows which files there are, ``answers`` decides what a request gets, and
``exchange`` sends it. Knows neither Django nor ASGI.
"""

from __future__ import annotations

from djserve.files.folders import open_table
from djserve.files.table import FileTable, Folder

__all__ = ["FileTable", "Folder", "open_table"]
