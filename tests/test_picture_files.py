"""Picture files: every kind comes back as it was, and everything that is not one picture is refused by name."""
import os
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow
from PIL import ImageCms, ImageOps

from mmcycle.errors import RecordingError, UserError
from mmcycle.modalities.image import Image
from mmcycle.modalities.picture_files import Picture


def noise(*shape, dtype=np.uint8, seed=0):
    rng = np.random.default_rng(seed)
    if dtype == np.float32:
        return rng.random(shape, dtype=np.float32)
    return rng.integers(0, np.iinfo(dtype).max + 1, shape, dtype=dtype)


def there_and_back(path, out=None, modality=Image()):
    """Load, make a tensor, make a picture, save, load."""
    raw = modality.load(path)
    out = out or path.with_name("out" + path.suffix)
    modality.save(modality.from_tensor(*modality.to_tensor(raw)), out)
    return raw.pixels, modality.load(out).pixels


def png(bits, kind, width, height, body, extra=b""):
    """A PNG made by hand (RFC 2083)."""
    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + extra + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b"")


LOSSLESS = [
    *(("." + suffix, mode) for suffix in ("png", "tif") for mode in ("1", "L", "LA", "P", "RGB", "RGBA")),
    (".webp", "RGB"), (".webp", "RGBA"), (".bmp", "1"), (".bmp", "L"), (".bmp", "P"), (".bmp", "RGB"),
    (".pgm", "L"), (".ppm", "RGB"),
]


@pytest.mark.parametrize(("suffix", "mode"), LOSSLESS)
def test_a_lossless_file_of_any_mode_comes_back_as_it_was(suffix, mode, tmp_path):
    path = tmp_path / f"in{suffix}"
    options = {"lossless": True, "exact": True} if suffix == ".webp" else {}
    Pillow.fromarray(noise(7, 5, 3 if mode == "P" else 4)).convert(mode).save(path, **options)
    before, after = there_and_back(path)
    kept = {"1": "1", "L": "L", "LA": "LA", "P": "RGB", "RGB": "RGB", "RGBA": "RGBA"}[mode]
    with Pillow.open(tmp_path / f"out{suffix}") as image, Pillow.open(path) as source:
        assert image.mode == kept
        np.testing.assert_array_equal(np.asarray(image), np.asarray(source.convert(kept)))
    np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("bands", [1, 2, 3, 4])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".npy"])
def test_sixteen_bits_stay_sixteen_bits(bands, suffix, tmp_path):
    pixels = noise(9, 6, bands, dtype=np.uint16)
    Image().save(pixels, tmp_path / f"in{suffix}")
    before, after = there_and_back(tmp_path / f"in{suffix}")
    np.testing.assert_array_equal(before, pixels)
    np.testing.assert_array_equal(after, pixels)
    assert after.dtype == np.uint16


@pytest.mark.parametrize(("bands", "kind"), [(1, 0), (2, 4), (3, 2), (4, 6)])
def test_sixteen_bit_png_of_other_programs_is_read_in_full(bands, kind, tmp_path):
    pixels = noise(4, 3, bands, dtype=np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    (tmp_path / "x.png").write_bytes(png(16, kind, 3, 4, rows))
    np.testing.assert_array_equal(Image().load(tmp_path / "x.png").pixels, pixels)


def tiff(pixels, order="<", compression=1, planar=1, predictor=1, rows=None, **more):
    """A TIFF made by hand (TIFF 6.0): strips of `rows` rows, behind them the tags."""
    height, width, bands = pixels.shape
    pixels = pixels.astype(pixels.dtype.newbyteorder(order))
    planes = [pixels[..., band] for band in range(bands)] if planar == 2 else [pixels]
    rows = rows or height
    strips = [plane[top : top + rows] for plane in planes for top in range(0, height, rows)]
    if predictor == 2:
        strips = [np.diff(strip, axis=1, prepend=strip[:, :1] * 0).astype(strip.dtype) for strip in strips]
    strips = [zlib.compress(strip.tobytes()) if compression == 8 else strip.tobytes() for strip in strips]
    values = {
        256: [width], 257: [height], 258: [8 * pixels.itemsize] * bands, 259: [compression],
        262: [2 if bands == 3 else 1], 273: [8 + sum(map(len, strips[:n])) for n in range(len(strips))],
        277: [bands], 278: [rows], 279: [len(strip) for strip in strips], 284: [planar], 317: [predictor],
        339: [3 if pixels.dtype.kind == "f" else 1] * bands,
    } | {int(tag): value for tag, value in more.items()}
    body = b"".join(strips)
    start, behind, entries = 8 + len(body), b"", struct.pack(f"{order}H", len(values))
    for tag, numbers in sorted(values.items()):
        packed = struct.pack(f"{order}{len(numbers)}I", *numbers)
        place = packed if len(numbers) == 1 else struct.pack(f"{order}I", start + 6 + 12 * len(values) + len(behind))
        behind += packed if len(numbers) > 1 else b""
        entries += struct.pack(f"{order}HHI", tag, 4, len(numbers)) + place
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, start)
    return head + body + entries + bytes(4) + behind


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [1, 8])
@pytest.mark.parametrize("planar", [1, 2])
@pytest.mark.parametrize(("bands", "dtype"), [(3, np.uint16), (6, np.uint16), (5, np.float32), (7, np.uint8)])
def test_deep_tiffs_of_other_programs_are_read_in_full(order, compression, planar, bands, dtype, tmp_path):
    pixels = noise(9, 4, bands, dtype=dtype)
    (tmp_path / "x.tif").write_bytes(tiff(pixels, order, compression, planar, rows=4))
    np.testing.assert_array_equal(Image(channels=bands).load(tmp_path / "x.tif").pixels, pixels)


def test_a_tiff_of_differences_is_added_up(tmp_path):
    pixels = noise(5, 6, 5, dtype=np.uint16)
    (tmp_path / "x.tif").write_bytes(tiff(pixels, compression=8, predictor=2))
    np.testing.assert_array_equal(Image(channels=5).load(tmp_path / "x.tif").pixels, pixels)


@pytest.mark.parametrize(("more", "words"), [
    ({"259": [5]}, "is read when it is one picture in strips, not compressed or deflated"),
    ({"322": [16]}, "is read when it is one picture in strips"),
    ({"258": [16, 16, 16, 16, 8]}, r"has \(16, 16, 16, 16, 8\) bits in its bands; allowed are 8 or 16 bits"),
    ({"278": [2]}, "is truncated: strip 1 is missing"),
    ({"279": [10]}, "is truncated: 10 of 200 bytes of pixels"),
    ({"257": [2000], "256": [2000]}, "has 2000 x 2000 pixels, more than max_pixels = 1000"),
])
def test_a_deep_tiff_that_is_not_understood_says_what_is(more, words, tmp_path):
    (tmp_path / "x.tif").write_bytes(tiff(noise(4, 5, 5, dtype=np.uint16), **more))
    with pytest.raises(RecordingError, match=f"x.tif: .*{words}"):
        Image(channels=5, max_pixels=1000).load(tmp_path / "x.tif")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("suffix", [".tif", ".npy"])
def test_many_bands_come_back_in_their_own_depth(dtype, suffix, tmp_path):
    pixels = noise(5, 8, 7, dtype=dtype)
    modality = Image(channels=7)
    modality.save(pixels, tmp_path / f"in{suffix}")
    before, after = there_and_back(tmp_path / f"in{suffix}", modality=modality)
    np.testing.assert_array_equal(before, pixels)
    np.testing.assert_allclose(after, pixels, atol=1e-6)
    assert after.dtype == dtype


@pytest.mark.parametrize("bands", [1, 3, 4])
def test_float_tiff_keeps_its_values(bands, tmp_path):
    pixels = noise(5, 8, bands, dtype=np.float32)
    Image(channels=bands).save(pixels, tmp_path / "in.tif")
    before, after = there_and_back(tmp_path / "in.tif", modality=Image(channels=bands))
    np.testing.assert_array_equal(before, pixels)
    np.testing.assert_allclose(after, pixels, atol=1e-6)


def test_numpy_reads_one_band_as_a_plane_and_doubles_as_floats(tmp_path):
    np.save(tmp_path / "x.npy", np.full((2, 3), 0.25))
    raw = Image().load(tmp_path / "x.npy")
    assert raw.pixels.shape == (2, 3, 1) and raw.pixels.dtype == np.float32
    x, _ = Image().to_tensor(raw)
    assert x.shape == (3, 2, 3) and (x == -0.5).all()


def test_sixteen_bits_written_as_jpeg_are_rounded_to_eight(tmp_path):
    Image().save(np.full((8, 8, 1), 32768 + 100, dtype=np.uint16), tmp_path / "x.jpg")
    assert (Image().load(tmp_path / "x.jpg").pixels == 128).all()     # 32868 / 257 = 127.89


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
def test_the_cameras_orientation_is_applied_once(orientation, suffix, tmp_path):
    exif = Pillow.Exif()
    exif[0x0112], exif[0x010F] = orientation, "Maker"
    image = Pillow.fromarray(np.kron(noise(2, 3, 3, seed=1), np.ones((16, 16, 1), dtype=np.uint8)))
    image.save(tmp_path / f"in{suffix}", exif=exif, **({"lossless": True} if suffix == ".webp" else {}))
    with Pillow.open(tmp_path / f"in{suffix}") as opened:
        opened.load()
        expected = np.asarray(ImageOps.exif_transpose(opened)).astype(int)
    raw, again = there_and_back(tmp_path / f"in{suffix}")
    assert raw.shape == expected.shape and abs(raw - expected).max() == 0
    assert again.shape == expected.shape and abs(again - expected).max() <= (16 if suffix == ".jpg" else 0)
    with Pillow.open(tmp_path / f"out{suffix}") as out:
        out.load()
        assert out.getexif().get(0x0112, 1) == 1 and out.getexif()[0x010F] == "Maker"


def test_the_thumbnail_of_the_picture_before_translation_does_not_travel(tmp_path):
    first = struct.pack("<HHHI4sI", 1, 0x010F, 2, 4, b"Mk1\0", 26)             # the maker; the second directory at 26
    second = struct.pack("<HHHIIHHIII", 2, 0x0201, 4, 1, 56, 0x0202, 4, 1, 8, 0)
    exif = b"Exif\0\0II*\0\x08\0\0\0" + first + second + b"\xff\xd8THUMB"
    Pillow.fromarray(noise(16, 16, 3)).save(tmp_path / "in.jpg", exif=exif)
    assert b"THUMB" in (tmp_path / "in.jpg").read_bytes()
    there_and_back(tmp_path / "in.jpg")
    out = (tmp_path / "out.jpg").read_bytes()
    assert b"Mk1" in out and b"THUMB" not in out


def test_the_moment_of_the_photograph_is_kept(tmp_path):
    exif = Pillow.Exif()
    exif.get_ifd(0x8769)[0x9003] = "2026:01:02 03:04:05"
    Pillow.fromarray(noise(16, 16, 3)).save(tmp_path / "in.jpg", exif=exif)
    there_and_back(tmp_path / "in.jpg")
    with Pillow.open(tmp_path / "out.jpg") as out:
        assert out.getexif().get_ifd(0x8769)[0x9003] == "2026:01:02 03:04:05"


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
def test_the_colour_profile_is_kept(suffix, tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Pillow.fromarray(noise(8, 8, 3)).save(tmp_path / f"in{suffix}", icc_profile=profile)
    there_and_back(tmp_path / f"in{suffix}")
    with Pillow.open(tmp_path / f"out{suffix}") as out:
        assert out.info["icc_profile"] == profile


def test_the_colour_profile_survives_sixteen_bits(tmp_path):
    for suffix in (".png", ".tif"):
        Image().save(Picture(noise(8, 8, 3, dtype=np.uint16), icc=b"profile" * 20), tmp_path / f"in{suffix}")
        there_and_back(tmp_path / f"in{suffix}")
        assert Image().load(tmp_path / f"out{suffix}").icc == b"profile" * 20


def test_a_transparent_colour_of_a_palette_becomes_transparency(tmp_path):
    image = Pillow.fromarray(np.array([[0, 1]], dtype=np.uint8), "P")
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.save(tmp_path / "p.png", transparency=0)
    assert Image().load(tmp_path / "p.png").pixels.tolist() == [[[255, 0, 0, 0], [0, 255, 0, 255]]]


def test_cmyk_becomes_rgb_and_leaves_its_profile_behind(tmp_path):
    image = Pillow.fromarray(np.zeros((4, 4, 4), dtype=np.uint8), "CMYK")
    image.save(tmp_path / "c.jpg", icc_profile=b"inks")
    raw = Image().load(tmp_path / "c.jpg")
    assert raw.pixels.shape == (4, 4, 3) and (raw.pixels > 250).all() and raw.icc is None


@pytest.mark.parametrize("suffix", [".jpg", ".ppm", ".bmp", ".png"])
def test_bands_that_a_format_cannot_hold_are_refused(suffix, tmp_path):
    with pytest.raises(RecordingError, match="cannot hold . bands; choose .png for transparency, .tif or .npy"):
        Image().save(noise(4, 4, {".jpg": 4, ".ppm": 4, ".bmp": 4, ".png": 5}[suffix]), tmp_path / f"x{suffix}")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_suffix_is_refused(tmp_path):
    with pytest.raises(RecordingError, match=r"x.gif: pictures cannot be written as '.gif'; allowed are .png, .jpg"):
        Image().save(noise(4, 4, 3), tmp_path / "x.gif")


def test_a_picture_wider_than_the_format_allows_is_refused(tmp_path):
    with pytest.raises(RecordingError, match="x.webp: WEBP cannot hold 16384 x 1 pixels"):
        Image().save(noise(1, 16384, 3), tmp_path / "x.webp")


def test_an_array_that_is_no_picture_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"a picture is an array .* got \(4, 4\) of int64"):
        Image().save(np.zeros((4, 4), np.int64), tmp_path / "x.png")
    np.save(tmp_path / "x.npy", np.zeros((4, 4), np.int64))
    with pytest.raises(RecordingError, match="x.npy: holds int64; allowed are uint8, uint16 and floats"):
        Image().load(tmp_path / "x.npy")
    np.save(tmp_path / "x.npy", np.zeros(4, np.uint8))
    with pytest.raises(RecordingError, match=r"x.npy: has the shape \(4,\); a picture is"):
        Image().load(tmp_path / "x.npy")


def test_an_array_with_objects_inside_is_never_opened(tmp_path):
    np.save(tmp_path / "x.npy", np.array([[{}]], dtype=object), allow_pickle=True)
    with pytest.raises(RecordingError, match="x.npy: cannot be read as an array"):
        Image().load(tmp_path / "x.npy")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".bmp", ".npy"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_a_truncated_file_is_refused_by_name(suffix, share, tmp_path):
    path = tmp_path / f"cut{suffix}"
    Image().save(noise(64, 64, 3), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(RecordingError, match=f"cut{suffix}: "):
        Image().load(path)


@pytest.mark.parametrize("share", [0.5, 0.95])
def test_a_truncated_deep_tiff_is_refused_by_name(share, tmp_path):
    Image(channels=6).save(noise(64, 64, 6), tmp_path / "cut.tif")
    content = (tmp_path / "cut.tif").read_bytes()
    (tmp_path / "cut.tif").write_bytes(content[: int(len(content) * share)])
    with pytest.raises(RecordingError, match="cut.tif: is truncated"):
        Image(channels=6).load(tmp_path / "cut.tif")


def test_damaged_bytes_never_escape_as_another_error(tmp_path):
    rng = np.random.default_rng(0)
    for suffix in (".png", ".jpg", ".tif", ".webp"):
        path = tmp_path / f"x{suffix}"
        Image().save(noise(16, 16, 3), path)
        content = np.frombuffer(path.read_bytes(), np.uint8)
        for _ in range(40):
            damaged = content.copy()
            damaged[rng.integers(4, len(content), 3)] = rng.integers(0, 256, 3)
            path.write_bytes(damaged.tobytes())
            try:
                Image(max_pixels=1000).load(path)
            except RecordingError as error:
                assert path.name in str(error)


@pytest.mark.parametrize(("content", "words"), [
    (b"", "is empty"),
    (b"hello, I am text\n", "is not a picture in a known format; allowed are PNG"),
    (b"GIF89a" + bytes(20), "is a GIF, made for films"),
])
def test_what_is_no_picture_is_refused_by_name(content, words, tmp_path):
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(RecordingError, match=f"x.png: {words}"):
        Image().load(tmp_path / "x.png")


@pytest.mark.parametrize("suffix", [".png", ".npy"])
def test_a_folder_and_a_missing_file_are_refused_by_name(suffix, tmp_path):
    (tmp_path / f"folder{suffix}").mkdir()
    for name, words in ((f"folder{suffix}", "Is a directory"), (f"missing{suffix}", "No such file")):
        with pytest.raises(RecordingError, match=f"{name}: cannot be read as .*: {words}"):
            Image().load(tmp_path / name)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_refused_by_name(tmp_path):
    Image().save(noise(4, 4, 3), tmp_path / "x.png")
    (tmp_path / "x.png").chmod(0)
    with pytest.raises(RecordingError, match="x.png: cannot be read as a picture: Permission denied"):
        Image().load(tmp_path / "x.png")


def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path):
    (tmp_path / "bomb.png").write_bytes(png(8, 2, 40_000, 40_000, b""))
    with pytest.raises(RecordingError, match="bomb.png: has 40000 x 40000 pixels, more than max_pixels = 300000000"):
        Image().load(tmp_path / "bomb.png")
    np.lib.format.open_memmap(tmp_path / "bomb.npy", mode="w+", dtype=np.uint8, shape=(40_000, 8_000)).flush()
    with pytest.raises(RecordingError, match="bomb.npy: has 8000 x 40000 pixels"):
        Image().load(tmp_path / "bomb.npy")


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_a_film_is_not_an_image(suffix, tmp_path):
    frames = [Pillow.fromarray(noise(8, 8, 3, seed=seed)) for seed in range(3)]
    frames[0].save(tmp_path / f"film{suffix}", save_all=True, append_images=frames[1:])
    with pytest.raises(RecordingError, match=f"film{suffix}: holds 3 pictures, a film is not an image"):
        Image().load(tmp_path / f"film{suffix}")


def test_a_photograph_with_a_preview_inside_is_one_picture(tmp_path):
    frames = [Pillow.fromarray(noise(8, 8, 3, seed=seed)) for seed in range(2)]
    frames[0].save(tmp_path / "phone.jpg", format="MPO", save_all=True, append_images=frames[1:])
    assert Image().load(tmp_path / "phone.jpg").pixels.shape == (8, 8, 3)


def test_sixteen_bit_colours_that_would_lose_half_their_bits_are_refused(tmp_path):
    (tmp_path / "x.ppm").write_bytes(b"P6 2 2 65535\n" + bytes(24))
    with pytest.raises(RecordingError, match="x.ppm: is a PPM of 16-bit colour, which is not read"):
        Image().load(tmp_path / "x.ppm")


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(1, 40), width=st.integers(1, 40), bands=st.integers(1, 4),
    dtype=st.sampled_from([np.uint8, np.uint16, np.float32]), suffix=st.sampled_from([".png", ".tif", ".npy"]),
)
def test_a_picture_of_any_size_depth_and_bands_survives(height, width, bands, dtype, suffix, tmp_path_factory):
    if dtype == np.float32 and suffix == ".png":
        return
    path = tmp_path_factory.mktemp("any") / f"x{suffix}"
    pixels = noise(height, width, bands, dtype=dtype)
    Image().save(pixels, path)
    before, after = there_and_back(path)
    np.testing.assert_array_equal(before, pixels)
    np.testing.assert_allclose(after, pixels, atol=1e-6)
