"""Image files to tensors (released code: dataset/__init__.py 8-19). Shape suffixes: B images, H and W pixels."""

import struct
import threading
import warnings
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageFile, UnidentifiedImageError
from torch import Tensor

from rasa.errors import ResourceError

# What Pillow raises on damaged files, found by flipping bytes of all four formats.
DAMAGE = (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, EOFError, struct.error)

# CLIP's statistics, which ALBEF and the released RaSa code use too.
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)

DECODING = 1  # raise it whenever `decode` gives other pixels: caches of decoded images carry it
FORMATS = ("JPEG", "PNG", "BMP", "WEBP")
MAX_PIXELS = 64_000_000  # a header may declare far more than the file holds; memory is bounded before decoding
MIN_SIDE = 2  # pixels; a line of pixels is no image but a damaged export
TURNS = {  # EXIF orientation: what makes the image upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
OPENING = threading.Lock()  # warning filters belong to the process: threads that change them must take turns
SIXTEEN_BIT = ("I", "I;16", "I;16L", "I;16B", "I;16N")


class ImageFault(ResourceError):
    """An image that is refused. `kind`: missing, zero-byte, truncated, unsupported, too-large, tiny or damaged."""

    def __init__(self, message: str, kind: str):
        super().__init__(message)
        self.kind = kind

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (str(self), self.kind)  # exceptions with two arguments do not pickle by themselves


def decode(path: Path, size: tuple[int, int], content: bytes | None = None) -> Tensor:
    """The image at `path`, squashed bicubically to `size` (height, width): uint8 [3, H, W], RGB.

    `content`: the file's, if it has been read already. Raises ImageFault with path and cause.
    """
    height, width = size
    image = _loaded(path, content)
    if image.size != (width, height):  # else Pillow would only copy it
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    # By NumPy, since torch would start its own threads in each thread that decodes.
    return torch.from_numpy(np.array(np.asarray(image).transpose(2, 0, 1), order="C"))


def normalise(images: Tensor, flip: Tensor) -> Tensor:
    """uint8 [B, 3, H, W] to float32 with CLIP's statistics, mirrored left to right where `flip` [B] is true.

    A flip on the CPU costs nothing where no image is mirrored.
    """
    mean, std = _statistics(images.device)
    return _mirrored(images, flip).float().div_(255).sub_(mean).div_(std)


class Crops(NamedTuple):
    """Where each view is cut from the decoded images: top and left corner, int64 [2, B, 2] on the CPU, and its size."""

    corners: Tensor
    height: int
    width: int

    def take(self, index: Tensor) -> "Crops":
        """The crops of some of the samples."""
        return Crops(self.corners[:, index], self.height, self.width)


def enlarged(size: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the images of which crops of `size` are cut: 256 for 224, as usual (docs/decisions/0008)."""
    height, width = (round(side * 8 / 7) for side in size)
    return height, width


def two_views(images: Tensor, flip: Tensor, crops: Crops | None = None) -> tuple[Tensor, Tensor]:
    """`normalise(images, flip[0])` and `normalise(images, flip[1])`, number for number, normalised once.

    `images` uint8 [B, 3, H, W], `flip` bool [2, B], best on the CPU: a GPU need not be asked then. The views are one
    tensor if they mirror the same images, so write into neither. With `crops` each view is first cut out of the images.
    """
    if crops is not None:
        one, two = (
            normalise(_cut(images, corners_B2, crops.height, crops.width), mirrored)
            for corners_B2, mirrored in zip(crops.corners, flip, strict=True)
        )
        return one, two
    first = normalise(images, flip[0])
    return first, _mirrored(first, flip[0] ^ flip[1])


def _cut(images: Tensor, corners_B2: Tensor, height: int, width: int) -> Tensor:
    """A piece [B, 3, height, width] of each image, from its own corner on."""
    return torch.stack(
        [
            image[:, top : top + height, left : left + width]
            for image, (top, left) in zip(images, corners_B2.tolist(), strict=True)
        ]
    )


def _mirrored(images: Tensor, flip: Tensor) -> Tensor:
    """`images` [B, 3, H, W], mirrored left to right where `flip` [B] is true; itself if that is nowhere."""
    if flip.device.type == "cpu":
        if not flip.any():
            return images
        if flip.all():
            return images.flip(-1)
    if images.device.type == "cpu":
        out = torch.empty_like(images)
        for row, image, mirrored in zip(out, images, flip.tolist(), strict=True):
            row.copy_(image.flip(-1) if mirrored else image)
        return out
    return torch.where(flip.to(images.device, non_blocking=True)[:, None, None, None], images.flip(-1), images)


@cache
def _statistics(device: torch.device) -> tuple[Tensor, Tensor]:
    """CLIP's mean and deviation [3, 1, 1]; kept, since each copy to a GPU makes the caller wait for it."""
    mean, std = (torch.tensor(values, device=device)[:, None, None] for values in (MEAN, STD))
    return mean, std


def open_rgb(path: Path, content: bytes | None = None) -> Image.Image:
    """The image at `path`, upright, in mode RGB and at its own size. Raises ImageFault with path and cause.

    `content`: the file's, if it has been read already.
    """
    image = _loaded(path, content)
    return image.copy() if isinstance(image, ImageFile.ImageFile) else image  # nothing of its file is kept


def _loaded(path: Path, content: bytes | None) -> Image.Image:
    """As `open_rgb`, but with nothing copied: an image that needs no conversion is the opened one."""
    with open_checked(path, content) as image:
        try:
            image.load()
        except DAMAGE as error:
            if _is_of_texts(error):  # they may come after the pixels, too
                with open_checked(path, _without_texts(path, content)) as plain:
                    plain.load()
                    return _rgb(_upright(plain))
            kind = "truncated" if "truncated" in str(error).lower() else "damaged"
            raise _fault(path, kind, f"cannot be decoded ({error})") from None
        return _rgb(_upright(image))


def _is_of_texts(error: Exception) -> bool:
    """Whether Pillow refuses a PNG for its texts alone: it bounds the memory that they unpack to."""
    return isinstance(error, ValueError) and ("MAX_TEXT" in str(error) or "text chunk" in str(error).lower())


def _without_texts(path: Path, content: bytes | None) -> bytes:
    """A PNG file without its text chunks, which say nothing of the pixels."""
    content = path.read_bytes() if content is None else content
    kept, at = BytesIO(), 8
    kept.write(content[:at])
    while at + 12 <= len(content):
        end = at + 12 + int.from_bytes(content[at : at + 4], "big")
        if content[at + 4 : at + 8] not in (b"tEXt", b"zTXt", b"iTXt"):
            kept.write(content[at:end])
        at = end
    return kept.getvalue()


def open_checked(path: Path, content: bytes | None = None) -> Image.Image:
    """The image at `path`, its header read and found acceptable, its pixels not decoded yet. Raises ImageFault.

    `content`: the file's, if it has been read already.
    """
    try:
        with OPENING, warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(path if content is None else BytesIO(content), formats=FORMATS)
    except FileNotFoundError:
        raise _fault(path, "missing", "the file does not exist") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise _fault(path, "too-large", f"declares more than {MAX_PIXELS // 10**6} megapixels") from None
    except DAMAGE as error:
        plain = _without_texts(path, content) if _is_of_texts(error) else content
        if plain != content:
            return open_checked(path, plain)
        raise _unopened(path, content, error) from None
    width, height = image.size
    fault = None
    if width * height > MAX_PIXELS:
        fault = _fault(path, "too-large", f"declares {width} x {height} pixels, above {MAX_PIXELS // 10**6} megapixels")
    elif min(width, height) < MIN_SIDE:
        fault = _fault(path, "tiny", f"has {width} x {height} pixels, below {MIN_SIDE} a side")
    if fault is not None:
        image.close()
        raise fault
    return image


def conversion(image: Image.Image) -> str | None:
    """What `open_rgb` has to convert in a checked image before it is upright RGB; None for nothing."""
    if _orientation(image) in TURNS:
        return "EXIF-rotated"
    names = {"CMYK": "CMYK", "P": "palette", "PA": "palette", "RGBA": "alpha", "LA": "alpha", "L": "grey", "1": "1-bit"}
    return "16-bit grey" if image.mode in SIXTEEN_BIT else names.get(image.mode)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode in SIXTEEN_BIT:
        # Pillow would clip 16 bits at 255; 257 maps 65535 to 255.
        wide = np.asarray(image).astype(np.int64).clip(0, 65535)
        return Image.fromarray(((wide + 128) // 257).astype(np.uint8)).convert("RGB")
    if "transparency" in image.info and image.mode in ("P", "PA"):
        image = image.convert("RGBA")  # straight to RGB, Pillow warns that the transparency is lost
    return image if image.mode == "RGB" else image.convert("RGB")  # alpha is dropped, not composed, as in the field


def _upright(image: Image.Image) -> Image.Image:
    turn = TURNS.get(_orientation(image))
    return image if turn is None else image.transpose(turn)


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(0x0112, 1)
    except DAMAGE:
        return 1  # a damaged EXIF block says nothing about orientation, and the pixels are intact


def _unopened(path: Path, content: bytes | None, error: Exception) -> ImageFault:
    """Why Pillow could not open the file. It says only that it could not identify it, so look at the size and start."""
    if not isinstance(error, UnidentifiedImageError) and isinstance(error, OSError) and error.errno is not None:
        return _fault(path, "damaged", f"cannot be read ({error.strerror})")
    with BytesIO(content) if content is not None else open(path, "rb") as file:
        start = file.read(12)
    if not start:
        return _fault(path, "zero-byte", "the file is empty")
    known = start.startswith((b"\xff\xd8\xff", b"\x89PNG", b"BM")) or start[:4] + start[8:] == b"RIFFWEBP"
    if known:
        return _fault(path, "truncated", "the header is cut off or damaged")
    return _fault(path, "unsupported", f"is none of {', '.join(FORMATS)}")


def _fault(path: Path, kind: str, cause: str) -> ImageFault:
    one_line = " ".join(cause.split())
    return ImageFault(f"{path}: {one_line}; replace the image or remove its record", kind)
