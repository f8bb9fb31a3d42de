"""Files as they come from a broken disk, a careless hand or an enemy."""
import io
import json
import pickle
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image


class Trap:
    """Whoever unpickles one makes the file `sprung`."""

    def __init__(self, sprung: Path) -> None:
        self.sprung = sprung

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.sprung,)


def trap(sprung: Path) -> bytes:
    """A pickle that is a trap."""
    return pickle.dumps(Trap(sprung))


def picture(size: int = 40, form: str = "PNG") -> bytes:
    """A photograph of noise."""
    rng = np.random.default_rng(size)
    return _saved(Image.fromarray(rng.integers(0, 256, (size, size, 3), dtype=np.uint8)), form)


def bomb(side: int = 40_000) -> bytes:
    """A PNG of a few hundred bytes that says it has side x side pixels."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(bytes(10_000))), (b"IEND", b"")]
    packed = (struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def film(form: str) -> bytes:
    """Two frames in one file."""
    frames = [Image.new("RGB", (40, 40), colour) for colour in ("red", "blue")]
    return _saved(frames[0], form, save_all=True, append_images=frames[1:])


def archive(form: str) -> bytes:
    """A zip or tar that holds a healthy picture under a name that leads out of the folder."""
    file = io.BytesIO()
    if form == "zip":
        with zipfile.ZipFile(file, "w") as packed:
            packed.writestr("../escaped.png", picture())
    else:
        with tarfile.open(fileobj=file, mode="w") as packed:
            member = tarfile.TarInfo("../escaped.png")
            member.size = len(picture())
            packed.addfile(member, io.BytesIO(picture()))
    return file.getvalue()


def array_of_traps(sprung: Path) -> bytes:
    """A .npy of objects: numpy unpickles those when it is allowed to."""
    file = io.BytesIO()
    np.save(file, np.array([Trap(sprung)], dtype=object), allow_pickle=True)
    return file.getvalue()


def huge_array() -> bytes:
    """A .npy header that promises 32 GB and holds nothing."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": (65536, 65536)})
    return file.getvalue()


def lying_safetensors(length: int = 2**40) -> bytes:
    """A header that says it is `length` bytes long."""
    return struct.pack("<Q", length) + b'{"x": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}'


def overlapping_safetensors() -> bytes:
    """A header whose tensor lies far beyond the end of the file."""
    header = json.dumps({"x": {"dtype": "F32", "shape": [2**20, 2**20], "data_offsets": [0, 2**42]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(16)


def broken_pictures(sprung: Path) -> dict[str, tuple[bytes, str]]:
    """File name -> its bytes, and what must be said of it."""
    return {
        "animated.png": (film("GIF"), "is a GIF, made for films"),
        "array_of_traps.npy": (array_of_traps(sprung), "cannot be read as an array"),
        "bomb.png": (bomb(), "has 40000 x 40000 pixels, more than max_pixels = 300000000"),
        "cube.npy": (_array(np.zeros((2, 2, 2, 2), np.uint8)), r"has the shape \(2, 2, 2, 2\)"),
        "empty.jpg": (b"", "is empty; remove it or restore it"),
        "film.tif": (film("TIFF"), "holds 2 pictures, a film is not an image"),
        "huge.npy": (huge_array(), "cannot be read as an array"),
        "nan.npy": (_array(np.full((4, 4), np.nan, np.float32)), "has pixels that are NaN or infinite"),
        "page.png": (b"<html><body>404 not found</body></html>", "is not a picture in a known format"),
        "pickled_array.npy": (trap(sprung), "cannot be read as an array"),
        "pickle.png": (trap(sprung), "is not a picture in a known format"),
        "tar.jpg": (archive("tar"), "is not a picture in a known format"),
        "truncated_photo.jpg": (picture(form="JPEG")[:700], "cannot be read as a picture"),
        "truncated.png": (picture()[:2000], "cannot be read as a picture"),
        "zip.png": (archive("zip"), "is not a picture in a known format"),
    }


def mended(name: str) -> bytes:
    """A healthy picture for a broken one of that name."""
    forms = {".png": "PNG", ".jpg": "JPEG", ".tif": "TIFF"}
    form = forms.get(Path(name).suffix)
    return picture(form=form) if form else _array(np.zeros((40, 40, 3), np.uint8))


def _array(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, values, allow_pickle=False)
    return file.getvalue()


def _saved(image: Image.Image, form: str, save_all: bool = False, append_images: list[Image.Image] | None = None) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **({"save_all": True, "append_images": append_images} if save_all else {}))
    return file.getvalue()
