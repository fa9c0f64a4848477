"""What may be copied byte for byte: files that hold pixels and nothing else."""

import io

import pytest
from PIL import Image

from datasetkit.images.lossless import holds_pixels_only


def encoded(file_format: str, **options) -> bytes:
    file = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").save(file, file_format, **options)
    return file.getvalue()


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
def test_a_plain_file_passes_and_one_with_exif_or_data_behind_it_does_not(file_format):
    exif = Image.Exif()
    exif[0x013B] = "an artist"
    plain = encoded(file_format)
    assert holds_pixels_only(plain, file_format)
    assert not holds_pixels_only(encoded(file_format, exif=exif), file_format)
    assert not holds_pixels_only(plain + b"more", file_format)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
def test_a_file_that_ends_early_does_not_pass(file_format):
    plain = encoded(file_format)
    assert not any(holds_pixels_only(plain[:n], file_format) for n in range(0, len(plain), 7))


def test_a_jpeg_of_one_channel_does_not_pass():
    file = io.BytesIO()
    Image.linear_gradient("L").save(file, "JPEG")
    assert not holds_pixels_only(file.getvalue(), "JPEG")


def test_a_comment_between_two_scans_is_found():
    data = encoded("JPEG", progressive=True)
    scan = data.rindex(b"\xff\xda")
    assert holds_pixels_only(data, "JPEG")
    assert not holds_pixels_only(data[:scan] + b"\xff\xfe\0\x08SECRET" + data[scan:], "JPEG")
