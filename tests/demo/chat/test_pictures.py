"""Pictures from strangers."""

from __future__ import annotations

import io
import struct
import zlib

import pytest
from PIL import Image

from demo_project.chat import pictures


def encode(form: str, size: tuple[int, int] = (20, 10), **options: object) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, "teal").save(out, form, **options)
    return out.getvalue()


def claim_size(width: int, height: int) -> bytes:
    """Return a small PNG file that says it is as large as that."""
    data = encode("PNG")
    header = b"IHDR" + struct.pack(">II", width, height) + data[24:29]
    return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]


def break_exif(mark: bytes, value: bytes) -> bytes:
    """Return a WebP file whose camera data has other bytes in one place."""
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "cam"
    data = encode("WEBP", exif=exif)
    assert data.count(mark) == 1
    return data.replace(mark, value)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "WEBP"])
def test_picture_has_a_type_and_a_thumbnail(form: str) -> None:
    file = io.BytesIO(encode(form, (1280, 20)))

    assert pictures.identify(file) == f"image/{form.lower()}"
    content, width, height = pictures.make_thumbnail(file)
    assert (width, height) == (640, 10)
    assert Image.open(io.BytesIO(content)).format == "WEBP"


def test_picture_of_a_phone_with_several_in_it_is_a_jpeg() -> None:
    further = [Image.new("RGB", (20, 10), "navy")]
    file = io.BytesIO(encode("MPO", save_all=True, append_images=further))

    assert pictures.identify(file) == "image/jpeg"
    assert pictures.make_thumbnail(file)[1:] == (20, 10)


@pytest.mark.parametrize(
    ("width", "height"),
    [(8000, 8000), (10_000, 10_000), (60_000, 60_000), (2**31 - 1, 2**31 - 1)],
    ids=["ours", "warned of", "refused by Pillow", "largest"],
)
def test_picture_that_claims_too_many_pixels_is_refused(
    width: int, height: int
) -> None:
    file = io.BytesIO(claim_size(width, height))

    for look in (pictures.identify, pictures.make_thumbnail):
        with pytest.raises(pictures.TooManyPixels):
            look(file)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"text",
        encode("BMP"),
        encode("PNG")[:40],
        break_exif(b"MM\x00*", b"M\x7f\x00*"),
        break_exif(b"\x01\x0f\x00\x02", b"\x01\x01\x00\x02"),
    ],
    ids=["nothing", "text", "another format", "cut", "no TIFF", "letters as a number"],
)
def test_bad_picture_gets_no_thumbnail_whatever_its_decoder_raises(
    data: bytes,
) -> None:
    with pytest.raises(pictures.BadPicture):
        pictures.make_thumbnail(io.BytesIO(data))
