"""Open the files of data; what one holds instead of data is said in one line."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from lorun.errors import LorunError, one_line
from lorun.memory import refuse_too_large

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

FORMATS = ("PNG", "TIFF", "BMP", "JPEG", "PPM")

_POINTER = b"version https://git-lfs.github.com/spec/"
_BYTES = 24  # that decoding needs for each pixel and channel, with copies of other types


def refuse_no_data(path: Path, start: bytes) -> None:
    """Raise LorunError where a file that begins with these bytes is empty, a pointer of Git LFS, or a web page."""
    if not start:
        raise LorunError(f"{path} is empty: get the file again")
    if start.startswith(_POINTER):
        raise LorunError(f"{path} is a pointer of Git LFS instead of the file: run `git lfs pull` where it is from")
    if start.lstrip()[:1] == b"<":
        raise LorunError(f"{path} is a web page instead of the file: download the file itself")


def read_bytes(path: Path) -> bytes:
    """The content of a file. Raises LorunError with the path and the reason when it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise LorunError(f"cannot read {path}: {error.strerror or error}") from error


@contextmanager
def opened_image(path: Path, data: bytes, formats: Sequence[str] = FORMATS) -> Iterator["ImageFile"]:
    """The image in a file with this content, opened by Pillow.

    Raises LorunError where it is none, is damaged, holds several images, or needs more memory than there is. Any error
    of the decoder inside the `with` becomes one, too.
    """
    from PIL import Image, ImageFile, UnidentifiedImageError

    refuse_no_data(path, data[:100])
    # pyiqa switches this on for the whole process; the missing part of a truncated file would become gray.
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    Image.MAX_IMAGE_PIXELS = None  # the limit is the memory
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(BytesIO(data), formats=list(formats)) as image:
            width, height = image.size
            channels = 4 if image.mode.startswith("P") else len(image.getbands())
            refuse_too_large(f"{path} has {width} x {height} pixels: reading it", _BYTES * channels * width * height)
            frames = getattr(image, "n_frames", 1)
            if frames > 1 and image.format != "MPO":  # MPO: a phone's JPEG with previews behind the photograph
                raise LorunError(f"{path} holds {frames} images: save each in a file of its own")
            yield image
    except LorunError:
        raise
    except UnidentifiedImageError as error:
        raise LorunError(f"{path} is not an image of a known format: use one of {', '.join(formats)}") from error
    except Exception as error:  # decoders raise almost anything on damaged files
        reason = one_line(error) or type(error).__name__
        raise LorunError(f"{path} cannot be decoded ({reason}): replace it by an intact copy") from error
