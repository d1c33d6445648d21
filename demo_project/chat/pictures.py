"""Bytes that somebody sent as a picture -> its type, its size and a small one.

For a broken file Pillow raises what its decoder happens to run into: OSError, but
SyntaxError, struct.error and others too. All of it means that the file is bad, so it is
caught here, in one place, and nothing but BadPicture leaves.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from PIL import Image, ImageOps

# SVG is not among them: it is a document that may carry scripts.
FORMATS = ["PNG", "JPEG", "GIF", "WEBP"]
TYPES = {
    "PNG": "image/png",
    "JPEG": "image/jpeg",
    # What many phones' cameras make: a JPEG file with further pictures after the first.
    "MPO": "image/jpeg",
    "GIF": "image/gif",
    "WEBP": "image/webp",
}
PIXEL_LIMIT = 40_000_000
THUMBNAIL_SIZE = (640, 480)


class BadPicture(Exception):
    """The file is none of the pictures that are taken, or a broken one."""


class TooManyPixels(BadPicture):
    """It would take too much memory to look at."""


def identify(file: IO[bytes] | Any) -> str:
    """Return the media type of a picture; raise BadPicture."""
    with _reading(file) as picture:
        picture.verify()
        return TYPES[picture.format or ""]


def make_thumbnail(file: IO[bytes] | Any) -> tuple[bytes, int, int]:
    """Return a small picture as WebP, with its size; what a camera added is dropped.

    Raises BadPicture.
    """
    with _reading(file) as original:
        original.draft("RGB", THUMBNAIL_SIZE)
        picture = ImageOps.exif_transpose(original)
        picture.thumbnail(THUMBNAIL_SIZE)
        picture = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
        out = io.BytesIO()
        picture.save(out, "WEBP", quality=80)
        return out.getvalue(), picture.width, picture.height


@contextmanager
def _reading(file: IO[bytes] | Any) -> Iterator[Image.Image]:
    """Open a picture; whatever goes wrong until the end of the block is the file's."""
    file.seek(0)
    try:
        with Image.open(file, formats=FORMATS) as picture:
            if picture.width * picture.height > PIXEL_LIMIT:
                raise TooManyPixels(f"{picture.width} x {picture.height} pixels")
            yield picture
    except BadPicture:
        raise
    # Pillow's own limits, which are higher; it only warns of the lower one.
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise TooManyPixels(str(error)) from error
    except Exception as error:
        raise BadPicture(f"{type(error).__name__}: {error}") from error
