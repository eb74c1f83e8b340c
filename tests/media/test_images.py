"""Photographs of every format that is read, and a one-line reason for all the others."""

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage
from PIL import ImageCms, PngImagePlugin

from forgerank.media import images
from forgerank.media.files import MediaError
from forgerank.media.hdr import Transfer, tone_map
from forgerank.media.images import read_pages, read_photo
from forgerank.media.opening import TooManyPixelsError, with_remedy
from forgerank.types import InputError


def gradient(height: int = 40, width: int = 60) -> np.ndarray:
    """A smooth RGB image whose corners all differ."""
    y, x = np.mgrid[0:height, 0:width].astype(float)
    channels = [255 * x / (width - 1), 255 * y / (height - 1), 255 - 127 * (x / width + y / height)]
    return np.stack(channels, axis=-1).astype(np.uint8)


@pytest.mark.parametrize(
    ("name", "options", "tolerance"),
    [
        ("a.png", {}, 0),
        ("a.bmp", {}, 0),
        ("a.tif", {}, 0),
        ("a.tiff", {"compression": "tiff_deflate"}, 0),
        ("a.tif", {"big_tiff": True}, 0),
        ("a.webp", {"lossless": True}, 0),
        ("a.webp", {"quality": 95}, 12),
        ("a.jpg", {"quality": 95, "subsampling": 0}, 8),
    ],
)
def test_formats(tmp_path: Path, name: str, options: dict[str, object], tolerance: int) -> None:
    expected = gradient()
    PILImage.fromarray(expected).save(tmp_path / name, **options)
    image = read_photo(tmp_path / name)
    assert image.dtype == np.uint8
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected).max() <= tolerance
    image[0, 0] = 7  # callers may write to what they get


def test_content_counts_not_the_name(tmp_path: Path) -> None:
    PILImage.fromarray(gradient()).save(tmp_path / "a.jpg", format="PNG")
    np.testing.assert_array_equal(read_photo(tmp_path / "a.jpg"), gradient())


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_exif_orientation(tmp_path: Path, orientation: int, suffix: str) -> None:
    """Each of the eight orientations undone: the stored image is the inverse of the upright one."""
    upright = PILImage.fromarray(gradient())
    stored = {
        1: None,
        2: PILImage.Transpose.FLIP_LEFT_RIGHT,
        3: PILImage.Transpose.ROTATE_180,
        4: PILImage.Transpose.FLIP_TOP_BOTTOM,
        5: PILImage.Transpose.TRANSPOSE,
        6: PILImage.Transpose.ROTATE_90,
        7: PILImage.Transpose.TRANSVERSE,
        8: PILImage.Transpose.ROTATE_270,
    }[orientation]
    exif = PILImage.Exif()
    exif[0x0112] = orientation
    pil = upright if stored is None else upright.transpose(stored)
    pil.save(tmp_path / f"a.{suffix}", exif=exif, quality=95)
    image = read_photo(tmp_path / f"a.{suffix}")
    assert image.shape == (40, 60, 3)
    assert np.abs(image.astype(int) - gradient()).mean() < 4


def test_damaged_exif_still_gives_the_pixels(tmp_path: Path) -> None:
    PILImage.fromarray(gradient()).save(tmp_path / "a.png", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff\x01")
    np.testing.assert_array_equal(read_photo(tmp_path / "a.png"), gradient())


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bit_grey_is_scaled(tmp_path: Path, suffix: str) -> None:
    values = np.array([[0, 257, 128 * 257, 65535]], dtype=np.uint16)
    PILImage.fromarray(values).save(tmp_path / f"a.{suffix}")
    image = read_photo(tmp_path / f"a.{suffix}")
    assert image[0, :, 0].tolist() == [0, 1, 128, 255]
    assert (image == image[..., :1]).all()


def test_sixteen_bit_colour_png(tmp_path: Path) -> None:
    """Written by hand, as Pillow writes none: one row, black, mid and white."""
    row = b"\x00" + struct.pack(">9H", 0, 0, 0, 65535, 32896, 0, 65535, 65535, 65535)
    header = struct.pack(">IIBBBBB", 3, 1, 16, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(row)), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks
    )
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    assert read_photo(tmp_path / "a.png").tolist() == [[[0, 0, 0], [255, 128, 0], [255, 255, 255]]]


def test_grey_and_bilevel(tmp_path: Path) -> None:
    PILImage.fromarray(np.array([[0, 100, 255]], dtype=np.uint8)).save(tmp_path / "grey.png")
    PILImage.fromarray(np.array([[False, True]])).save(tmp_path / "bilevel.png")
    assert read_photo(tmp_path / "grey.png").tolist() == [[[0] * 3, [100] * 3, [255] * 3]]
    assert read_photo(tmp_path / "bilevel.png").tolist() == [[[0] * 3, [255] * 3]]


def test_alpha_is_composited_on_white(tmp_path: Path) -> None:
    pixels = np.array([[[200, 0, 0, 255], [200, 0, 0, 0], [0, 0, 0, 127]]], dtype=np.uint8)
    PILImage.fromarray(pixels).save(tmp_path / "a.png")
    assert read_photo(tmp_path / "a.png").tolist() == [[[200, 0, 0], [255, 255, 255], [128, 128, 128]]]


def test_grey_alpha_and_palette_with_transparency(tmp_path: Path) -> None:
    PILImage.fromarray(np.array([[[50, 255], [50, 0]]], dtype=np.uint8), "LA").save(tmp_path / "la.png")
    palette = PILImage.fromarray(np.array([[0, 1, 2]], dtype=np.uint8), "P")
    palette.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    palette.save(tmp_path / "p.png", transparency=1)
    assert read_photo(tmp_path / "la.png").tolist() == [[[50] * 3, [255] * 3]]
    assert read_photo(tmp_path / "p.png").tolist() == [[[10, 20, 30], [255] * 3, [70, 80, 90]]]


def test_cmyk_jpeg(tmp_path: Path) -> None:
    cmyk = np.zeros((16, 16, 4), dtype=np.uint8)
    cmyk[:, 8:] = (0, 255, 255, 0)  # white beside red
    PILImage.fromarray(cmyk, "CMYK").save(tmp_path / "a.jpg", quality=95)
    image = read_photo(tmp_path / "a.jpg").astype(int)
    assert np.abs(image[8, 2] - 255).max() < 8
    assert np.abs(image[8, 13] - (255, 0, 0)).max() < 8


def hdr_photo(path: Path, code: int) -> None:
    """A photograph that says by its file that its transfer has this code of H.273."""
    image = PILImage.fromarray(gradient())
    if path.suffix == ".heic":
        heif = pytest.importorskip("pillow_heif")
        colours = {"color_primaries": 9, "transfer_characteristics": code, "matrix_coefficients": 9}
        heif.from_pillow(image).save(path, quality=95, chroma=444, **colours)
        return
    image.save(path, **({"quality": 100, "subsampling": "4:4:4"} if path.suffix == ".avif" else {}))
    content = bytearray(path.read_bytes())
    if path.suffix == ".avif":
        at = content.index(b"colrnclx") + 8
        content[at : at + 4] = bytes([0, 9, 0, code])
    else:
        chunk = b"cICP" + bytes([9, code, 0, 1])
        content[33:33] = struct.pack(">I", 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    path.write_bytes(content)


@pytest.mark.parametrize(("transfer", "code"), [("PQ", 16), ("HLG", 18), (None, 13)])
@pytest.mark.parametrize("name", ["a.png", "a.avif", "a.heic"])
def test_hdr_is_tone_mapped_as_in_a_video(
    tmp_path: Path, name: str, transfer: Transfer | None, code: int
) -> None:
    hdr_photo(tmp_path / name, code)
    expected = gradient()
    if transfer is not None:
        expected = tone_map(expected.astype(np.uint16) * 257, transfer)
    [page] = read_pages(tmp_path / name)
    assert np.abs(page.image.astype(int) - expected).mean() < 4
    assert np.array_equal(read_photo(tmp_path / name), page.image)
    said = f"its HDR ({transfer}) was tone-mapped to BT.709"
    assert page.warnings == (() if transfer is None else (said,))


@pytest.mark.parametrize("alpha", [0, 255])
def test_the_unused_fourth_byte_of_a_bmp(tmp_path: Path, alpha: int) -> None:
    """Windows states a mask for it and fills it with zeros."""
    pixels = np.dstack([gradient()[::-1, :, ::-1], np.full(gradient().shape[:2], alpha, np.uint8)])
    height, width = pixels.shape[:2]
    header = struct.pack("<LllHHLLllLL", 124, width, height, 1, 32, 3, pixels.nbytes, 0, 0, 0, 0)
    header += struct.pack("<4L4s", 0xFF0000, 0xFF00, 0xFF, 0xFF000000, b"BGRs") + bytes(64)
    start = struct.pack("<2sLHHL", b"BM", 138 + pixels.nbytes, 0, 0, 138)
    (tmp_path / "a.bmp").write_bytes(start + header + pixels.tobytes())
    np.testing.assert_array_equal(read_photo(tmp_path / "a.bmp"), gradient())


def test_cielab_tiff(tmp_path: Path) -> None:
    srgb, lab = (ImageCms.createProfile(name) for name in ("sRGB", "LAB"))
    image = ImageCms.profileToProfile(PILImage.fromarray(gradient()), srgb, lab, outputMode="LAB")
    assert image is not None
    image.save(tmp_path / "a.tif")
    assert np.abs(read_photo(tmp_path / "a.tif").astype(int) - gradient()).mean() < 4


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_a_tiff_without_a_white_level(tmp_path: Path, kind: type) -> None:
    PILImage.fromarray(np.ones((4, 4), dtype=kind)).save(tmp_path / "a.tif")
    assert_refused(tmp_path / "a.tif", "no defined white level")


def tiff(
    stored: bytes, shape: tuple[int, int, int], *, bits: int, photometric: int, planes: int = 1
) -> bytes:
    """An uncompressed TIFF of (height, width, channels) in one strip, or in one a channel."""
    height, width, channels = shape
    strips = channels if planes == 2 else 1
    at = 8 + 2 + 12 * 9 + 4
    lists = [(258, [bits] * channels), (273, []), (279, [len(stored) // strips] * strips)]
    end = at + sum(4 * max(strips, len(values)) for _, values in lists)
    places = [end + i * (len(stored) // strips) for i in range(strips)]
    entries, further = {256: width, 257: height, 259: 1, 262: photometric, 277: channels, 284: planes}, b""
    fields = {tag: struct.pack("<HHLL", tag, 4, 1, value) for tag, value in entries.items()}
    for tag, values in lists:
        values = values or places
        place = values[0] if len(values) == 1 else at + len(further)
        fields[tag] = struct.pack("<HHLL", tag, 4, len(values), place)
        further += struct.pack(f"<{len(values)}L", *values) if len(values) > 1 else b""
    further = further.ljust(end - at, b"\0")
    directory = struct.pack("<H", len(fields)) + b"".join(fields[tag] for tag in sorted(fields)) + bytes(4)
    return b"II*\0" + struct.pack("<L", 8) + directory + further + stored


@pytest.mark.parametrize("bits", [8, 16])
def test_the_transparent_grey_level_of_a_png(tmp_path: Path, bits: int) -> None:
    stored = gradient()[..., 0].astype(np.uint16) * (257 if bits == 16 else 1)
    level = int(stored[0, 30])
    stored[0, 31] = level + 1
    PILImage.fromarray(stored.astype(f"u{bits // 8}")).save(tmp_path / "a.png", transparency=level)
    expected = np.where(stored == level, 255, np.rint(stored / (257 if bits == 16 else 1)))
    np.testing.assert_array_equal(read_photo(tmp_path / "a.png"), np.stack([expected] * 3, axis=-1))


@pytest.mark.parametrize(("bits", "photometric"), [(16, 1), (16, 0), (12, 1)])
def test_the_white_of_a_grey_tiff(bits: int, photometric: int) -> None:
    grey = gradient()[..., 0]
    values = grey.astype(np.uint16) * 257 >> (16 - bits)
    if photometric == 0:
        values = (1 << bits) - 1 - values
    if bits == 16:
        stored = values.astype("<u2").tobytes()
    else:  # two in three bytes
        first, second = values[:, ::2], values[:, 1::2]
        parts = [first >> 4, (first & 15) << 4 | second >> 8, second & 255]
        stored = np.stack(parts, axis=-1).astype(np.uint8).tobytes()
    image = read_photo("a.tif", data=tiff(stored, (*grey.shape, 1), bits=bits, photometric=photometric))
    assert np.abs(image.astype(int) - grey[..., None]).max() <= 1


@pytest.mark.parametrize(
    ("header", "directory", "reason"),
    [
        (b"II*\0" + struct.pack("<L", 8), struct.Struct("<HL"), "more than 2000 directories"),
        (b"II+\0" + struct.pack("<HHQ", 8, 0, 16), struct.Struct("<QQ"), "more than 2000 directories"),
        (b"MM\0+" + struct.pack(">HHQ", 8, 0, 16), struct.Struct(">QQ"), "not read (big-endian BigTIFF)"),
    ],
)
def test_directories_of_a_tiff_are_counted(
    tmp_path: Path, header: bytes, directory: struct.Struct, reason: str
) -> None:
    places = [len(header) + number * directory.size for number in range(1, 2002)]
    (tmp_path / "a.tif").write_bytes(header + b"".join(directory.pack(0, place) for place in places))
    assert_refused(tmp_path / "a.tif", reason)


def test_libtiff_says_nothing_on_standard_error(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.tif"
    PILImage.fromarray(gradient()).save(path, compression="tiff_lzw")
    content = path.read_bytes()
    start = int.from_bytes(content[4:8], "little")
    entries = content[start + 2 : start + 2 + 12 * content[start]]
    of_no_type = struct.pack("<HHII", 40_000, 99, 1, 8)
    directory = struct.pack("<H", content[start] + 1) + entries + of_no_type + bytes(4)
    path.write_bytes(content[:4] + struct.pack("<I", len(content)) + content[8:] + directory)
    assert (read_photo(path) == gradient()).all()
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("bits", [8, 16])
def test_planes_of_a_tiff_are_read_or_refused(tmp_path: Path, bits: int) -> None:
    planes = gradient().transpose(2, 0, 1)
    stored = planes.tobytes() if bits == 8 else (planes.astype("<u2") * 257).tobytes()
    content = tiff(stored, gradient().shape, bits=bits, photometric=2, planes=2)
    (tmp_path / "a.tif").write_bytes(content)
    if bits == 16:  # Pillow makes noise of it
        assert_refused(tmp_path / "a.tif", "stored in a way that is not read: save it as PNG")
    else:
        np.testing.assert_array_equal(read_photo(tmp_path / "a.tif"), gradient())


@pytest.mark.parametrize(("bits", "channels", "photometric"), [(16, 2, 1), (32, 3, 2), (16, 3, 6)])
def test_pixels_that_pillow_has_no_mode_for_are_no_damage(
    tmp_path: Path, bits: int, channels: int, photometric: int
) -> None:
    stored = bytes(40 * 60 * channels * bits // 8)
    (tmp_path / "a.tif").write_bytes(tiff(stored, (40, 60, channels), bits=bits, photometric=photometric))
    assert_refused(tmp_path / "a.tif", "stored in a way that is not read: save it as PNG")


def assert_refused(path: Path, reason: str, **options: int) -> MediaError:
    with pytest.raises(InputError) as refusal:
        read_photo(path, **options)
    message = str(refusal.value)
    assert message.startswith(f"{path}: ")
    assert reason in message
    assert "\n" not in message
    assert isinstance(refusal.value, MediaError)
    assert message == f"{refusal.value.path}: {refusal.value.reason}"
    return refusal.value


def test_missing_directory_empty_and_not_an_image(tmp_path: Path) -> None:
    assert_refused(tmp_path / "none.jpg", "no such file")
    assert_refused(tmp_path, "is a directory")
    (tmp_path / "empty.jpg").write_bytes(b"")
    assert_refused(tmp_path / "empty.jpg", "empty file")
    (tmp_path / "text.jpg").write_text("not an image\n" * 20)
    assert_refused(tmp_path / "text.jpg", "not an image")
    os.mkfifo(tmp_path / "pipe.jpg")
    assert_refused(tmp_path / "pipe.jpg", "not a regular file")


def test_invalid_path_is_one_printable_line() -> None:
    with pytest.raises(MediaError) as refusal:
        read_photo("a\0b\nc.jpg")
    assert str(refusal.value) == "a\\x00b\\nc.jpg: not a valid path"


def test_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may read anything."""
    PILImage.fromarray(gradient()).save(tmp_path / "a.png")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    assert_refused(tmp_path / "a.png", "permission denied")


def test_a_few_bytes_of_a_huge_image_are_not_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 75 million pixels a part of the first row is there."""
    path = tmp_path / "a.tif"
    PILImage.fromarray(gradient(18, 24)).save(path)
    content = path.read_bytes()
    width = struct.pack("<HHI", 256, 4, 1)  # the tag, a number of 32 bits
    assert content.count(width) == 1
    at = content.index(width) + len(width)
    path.write_bytes(content[:at] + struct.pack("<I", 4_194_328) + content[at + 4 :])
    monkeypatch.setattr(images, "mend", lambda *_: pytest.fail("it takes gigabytes"))
    with pytest.raises(MediaError, match="truncated or damaged"):
        next(read_pages(path))


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp", "tif"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_truncated(tmp_path: Path, suffix: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    PILImage.fromarray(noise).save(tmp_path / f"whole.{suffix}")
    content = (tmp_path / f"whole.{suffix}").read_bytes()
    (tmp_path / f"cut.{suffix}").write_bytes(content[: int(len(content) * share)])
    assert_refused(tmp_path / f"cut.{suffix}", "image")


def test_pixel_limit(tmp_path: Path) -> None:
    PILImage.fromarray(gradient()).save(tmp_path / "a.png")
    assert read_photo(tmp_path / "a.png", max_pixels=2400).shape == (40, 60, 3)
    assert_refused(tmp_path / "a.png", "60 x 40 pixels, over the limit of 2399", max_pixels=2399)


@pytest.mark.parametrize(
    ("width", "height", "reason", "remedy"),
    [
        *((side, side, "over the limit of 80000000", True) for side in (9_000, 12_000, 60_000)),
        (20_000_000, 1, "20000000 x 1 pixels, a side over 16777216", False),  # no such row fits into Pillow
    ],
)
def test_decompression_bomb(tmp_path: Path, width: int, height: int, reason: str, remedy: bool) -> None:
    """A few bytes that claim many pixels, on both sides of Pillow's own two limits, are refused undecoded."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    idat = b"IDAT" + zlib.compress(bytes(100))
    body = chunk + struct.pack(">I", len(idat) - 4) + idat + struct.pack(">I", zlib.crc32(idat))
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    error = assert_refused(tmp_path / "bomb.png", reason)
    assert with_remedy(error, "it") == ("it; --max-pixels raises it" if remedy else "it")


def test_too_little_memory_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: object) -> None:
        raise MemoryError

    PILImage.fromarray(gradient()).save(tmp_path / "a.png")
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", fail)
    assert_refused(tmp_path / "a.png", "not enough memory")


def colour_profile(*, swapped: bool = False) -> bytes:
    """That of sRGB, or one by which red is blue."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    if swapped:
        for old, new in ((b"rXYZ", b"...."), (b"bXYZ", b"rXYZ"), (b"....", b"bXYZ")):
            profile = profile.replace(old, new)
    return profile


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif", "avif"])
def test_a_profile_by_which_an_image_looks_otherwise_is_applied(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    PILImage.fromarray(gradient()[..., ::-1]).save(path, icc_profile=colour_profile(swapped=True), quality=95)
    assert np.abs(read_photo(path).astype(int) - gradient()).mean() < 4


@pytest.mark.parametrize("profile", [colour_profile(), bytes(200), colour_profile()[:300]])
def test_stored_values_stay_with_a_usual_profile_and_a_broken_one(tmp_path: Path, profile: bytes) -> None:
    PILImage.fromarray(gradient()).save(tmp_path / "a.png", icc_profile=profile)
    assert (read_photo(tmp_path / "a.png") == gradient()).all()


@pytest.mark.parametrize(("gamma", "exponent"), [(100_000, 1 / 2.2), (45_455, 1), (0, 1)])
def test_the_gamma_of_a_png(tmp_path: Path, gamma: int, exponent: float) -> None:
    chunk = PngImagePlugin.PngInfo()
    chunk.add(b"gAMA", gamma.to_bytes(4, "big"))
    PILImage.fromarray(gradient()).save(tmp_path / "a.png", pnginfo=chunk)
    shown = np.rint((gradient() / 255) ** exponent * 255)
    assert (read_photo(tmp_path / "a.png") == shown).all()


def test_a_run_length_coded_bmp_is_read_up_to_a_limit_of_pixels(tmp_path: Path) -> None:
    """Pillow fills in what a line leaves out pixel by pixel: a few bytes of such lines would take seconds."""

    def coded(width: int, height: int) -> bytes:
        pixels = b"\x01\x01\x00\x00" * height  # a pixel, then the end of its line
        header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(pixels), 0, 0, 2, 0)
        start = 14 + len(header) + 8
        return b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + header + bytes(8) + pixels

    path = tmp_path / "a.bmp"
    path.write_bytes(coded(100, 50))
    assert read_photo(path).shape == (50, 100, 3)
    path.write_bytes(coded(4000, 1001))
    limit = "a run-length coded BMP of 4000 x 1001 pixels, over the limit of 4000000: save it as PNG"
    with pytest.raises(TooManyPixelsError, match=limit):
        read_photo(path)
