"""Image files of every accepted kind, and of the kinds that are refused."""

import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from rasa.data.transforms import MEAN, STD, ImageFault, conversion, decode, normalise, open_checked, open_rgb
from rasa.errors import ResourceError

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def quadrants(mode="RGB"):
    """16 x 16 pixels: red, green over blue, black."""
    image = Image.new("RGB", (16, 16))
    for place, colour in (((0, 0), RED), ((8, 0), GREEN), ((0, 8), BLUE)):
        image.paste(colour, (*place, place[0] + 8, place[1] + 8))
    return image.convert(mode)


def corners(path):
    """The colours at top left, top right and bottom left."""
    image = open_rgb(path)
    assert image.mode == "RGB"
    return tuple(image.getpixel(place) for place in ((2, 2), (13, 2), (2, 13)))


@pytest.mark.parametrize("suffix", ["png", "bmp"])
def test_lossless_formats_are_exact(tmp_path, suffix):
    quadrants().save(tmp_path / f"a.{suffix}")
    assert corners(tmp_path / f"a.{suffix}") == (RED, GREEN, BLUE)


@pytest.mark.parametrize("suffix", ["jpg", "webp"])
def test_lossy_formats_are_close(tmp_path, suffix):
    quadrants().save(tmp_path / f"a.{suffix}", quality=95)
    assert np.abs(np.array(corners(tmp_path / f"a.{suffix}")) - np.array((RED, GREEN, BLUE))).max() < 30


def test_squash_is_bicubic_and_height_comes_first(tmp_path):
    image = Image.effect_noise((20, 30), 50).convert("RGB")
    image.save(tmp_path / "a.png")
    decoded = decode(tmp_path / "a.png", (24, 12))
    assert decoded.shape == (3, 24, 12) and decoded.dtype == torch.uint8 and decoded.is_contiguous()
    expected = np.asarray(image.resize((12, 24), Image.Resampling.BICUBIC))
    assert np.array_equal(decoded.permute(1, 2, 0).numpy(), expected)


def test_palette_with_transparency_keeps_its_colours_without_a_warning(tmp_path):
    """Transparency as bytes, the case of which Pillow warns; warnings are errors here."""
    image = quadrants().quantize(4)
    image.save(tmp_path / "a.png", transparency=bytes([0, 128, 255, 0]))
    assert corners(tmp_path / "a.png") == (RED, GREEN, BLUE)


def test_palette_with_one_transparent_colour(tmp_path):
    quadrants().quantize(4).save(tmp_path / "a.png", transparency=0)
    assert corners(tmp_path / "a.png") == (RED, GREEN, BLUE)


def test_alpha_is_dropped_and_not_composed(tmp_path):
    image = quadrants()
    image.putalpha(Image.new("L", (16, 16), 0))
    image.save(tmp_path / "a.png")
    assert corners(tmp_path / "a.png") == (RED, GREEN, BLUE)


@pytest.mark.parametrize("mode", ["L", "LA"])
def test_grey_is_repeated(tmp_path, mode):
    Image.new("L", (16, 16), 77).convert(mode).save(tmp_path / "a.png")
    assert corners(tmp_path / "a.png") == ((77, 77, 77),) * 3


def test_one_bit_becomes_black_and_white(tmp_path):
    image = Image.new("1", (16, 16), 0)
    image.putpixel((2, 2), 1)
    image.save(tmp_path / "a.png")
    assert corners(tmp_path / "a.png") == ((255,) * 3, (0,) * 3, (0,) * 3)


def test_sixteen_bit_is_scaled_and_not_clipped(tmp_path):
    """0 to 0, 65535 to 255, 257 v to v: 257 * 100 = 25700."""
    values = np.zeros((16, 16), np.uint16)
    values[2, 2], values[2, 13], values[13, 2] = 65535, 25700, 128
    Image.fromarray(values).save(tmp_path / "a.png")
    assert corners(tmp_path / "a.png") == ((255,) * 3, (100,) * 3, (0,) * 3)


def test_cmyk_jpeg_has_the_right_colours(tmp_path):
    quadrants().convert("CMYK").save(tmp_path / "a.jpg", quality=100)
    assert np.abs(np.array(corners(tmp_path / "a.jpg")) - np.array((RED, GREEN, BLUE))).max() < 10


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_exif_orientation_is_applied(tmp_path, orientation, suffix):
    """The stored picture is turned the other way round, so that following the tag gives the upright one."""
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = quadrants() if orientation == 1 else quadrants().transpose(undo[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / f"a.{suffix}", exif=exif, quality=100, subsampling=0)
    assert np.abs(np.array(corners(tmp_path / f"a.{suffix}")) - np.array((RED, GREEN, BLUE))).max() < 10


def jpeg(tmp_path):
    Image.effect_noise((64, 64), 80).convert("RGB").save(tmp_path / "good.jpg", quality=95)
    return (tmp_path / "good.jpg").read_bytes()


@pytest.mark.parametrize(
    ("content", "kind", "cause"),
    [
        (lambda good: b"", "zero-byte", "the file is empty"),
        (lambda good: good[: len(good) // 2], "truncated", "cannot be decoded (image file is truncated"),
        (lambda good: good[: len(good) - 200], "truncated", "cannot be decoded (image file is truncated"),
        (lambda good: good[:10], "truncated", "the header is cut off or damaged"),
        (
            lambda good: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
            "unsupported",
            "is none of JPEG, PNG, BMP, WEBP",
        ),
        (
            lambda good: b"SIMPLE  =                    T" + b" " * 2850,
            "unsupported",
            "is none of JPEG, PNG, BMP, WEBP",
        ),
        (lambda good: b"GIF89a" + bytes(100), "unsupported", "is none of JPEG, PNG, BMP, WEBP"),
        (lambda good: b"<html>not found</html>", "unsupported", "is none of JPEG, PNG, BMP, WEBP"),
    ],
    ids=["empty", "half", "end missing", "header only", "EPS", "FITS", "GIF", "HTML"],
)
def test_damaged_or_foreign_file_is_refused(tmp_path, content, kind, cause):
    path = tmp_path / "a.jpg"
    path.write_bytes(content(jpeg(tmp_path)))
    with pytest.raises(ResourceError) as refusal:
        decode(path, (8, 8))
    message = str(refusal.value)
    assert refusal.value.kind == kind
    assert message.startswith(f"{path}: {cause}") and message.endswith("; replace the image or remove its record")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("size", "kind", "cause"),
    [
        ((8001, 8001), "too-large", "declares 8001 x 8001 pixels, above 64 megapixels"),
        ((30_000, 4000), "too-large", "declares more than 64 megapixels"),  # where Pillow itself would warn
        ((60_000, 60_000), "too-large", "declares more than 64 megapixels"),
        ((1, 1), "tiny", "has 1 x 1 pixels, below 2 a side"),
        ((1, 300), "tiny", "has 1 x 300 pixels, below 2 a side"),
    ],
)
def test_size_is_refused_by_the_header_alone(tmp_path, size, kind, cause):
    """The header is rewritten and the pixels stay few: whoever decoded them first would fail otherwise."""
    import struct
    import zlib

    quadrants().save(tmp_path / "a.png")
    content = bytearray((tmp_path / "a.png").read_bytes())
    content[16:24] = struct.pack(">II", *size)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ImageFault) as refusal:
        decode(tmp_path / "a.png", (8, 8))
    assert refusal.value.kind == kind
    assert str(refusal.value).startswith(f"{tmp_path / 'a.png'}: {cause};")


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "webp"])
@pytest.mark.parametrize("mode", ["RGB", "L", "P"])
@pytest.mark.parametrize("size", [(16, 16), (12, 20)])
def test_a_content_that_has_been_read_is_decoded_as_its_file(tmp_path, suffix, mode, size):
    path = tmp_path / f"a.{suffix}"
    image = quadrants("RGB" if suffix in ("jpg", "webp") else mode)
    image.save(path)
    content, by_path = path.read_bytes(), decode(path, size)
    assert type(open_rgb(path)) is Image.Image  # nothing of the file is kept open or decoded later
    path.unlink()
    assert torch.equal(decode(path, size, content), by_path)
    expected = np.asarray(open_rgb(path, content).resize(size[::-1], Image.Resampling.BICUBIC))
    assert np.array_equal(by_path.permute(1, 2, 0).numpy(), expected)


def test_a_damaged_content_is_refused_as_its_file(tmp_path):
    good, path = jpeg(tmp_path), tmp_path / "a.jpg"
    for content in (b"", good[: len(good) // 2], good[:10], b"GIF89a" + bytes(100)):
        path.write_bytes(content)
        with pytest.raises(ImageFault) as of_file:
            decode(path, (8, 8))
        path.unlink()
        with pytest.raises(ImageFault) as of_content:
            decode(path, (8, 8), content)
        assert (str(of_content.value), of_content.value.kind) == (str(of_file.value), of_file.value.kind)


def test_missing_file_and_folder_are_refused(tmp_path):
    for path, kind in ((tmp_path / "no.jpg", "missing"), (tmp_path, "damaged")):
        with pytest.raises(ImageFault) as refusal:
            decode(path, (8, 8))
        assert refusal.value.kind == kind and str(path) in str(refusal.value)


def test_fault_survives_the_way_from_a_worker():
    fault = pickle.loads(pickle.dumps(ImageFault("a.jpg: is bad", "damaged")))
    assert (str(fault), fault.kind, fault.exit_code) == ("a.jpg: is bad", "damaged", 5)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("RGB", None), ("CMYK", "CMYK"), ("P", "palette"), ("RGBA", "alpha"), ("L", "grey"), ("1", "1-bit")],
)
def test_conversions_are_named(tmp_path, mode, expected):
    name = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    quadrants(mode).save(name)
    with open_checked(name) as image:
        assert conversion(image) == expected


def test_normalise_by_hand():
    """Channel c of value v becomes (v / 255 - mean_c) / std_c; mirroring exchanges the two columns."""
    images = torch.tensor([0, 255], dtype=torch.uint8).repeat(2, 3, 1, 1)
    out = normalise(images, torch.tensor([False, True]))
    black = -torch.tensor(MEAN) / torch.tensor(STD)
    white = (1 - torch.tensor(MEAN)) / torch.tensor(STD)
    assert out.dtype == torch.float32 and out.shape == (2, 3, 1, 2)
    # 1e-6: a few roundings of float32 numbers of size 2.
    torch.testing.assert_close(out[0, :, 0], torch.stack([black, white], dim=1), atol=1e-6, rtol=0)
    torch.testing.assert_close(out[1], out[0].flip(-1), atol=0, rtol=0)
    assert torch.equal(images, torch.tensor([0, 255], dtype=torch.uint8).repeat(2, 3, 1, 1))
