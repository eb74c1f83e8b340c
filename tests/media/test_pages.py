"""Files as their owner sees them: formats of phones, several pages, missing ends, large JPEGs, animations."""

import io
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage
from PIL import TiffImagePlugin

from forgerank.detect import Detector
from forgerank.detect.detector import load_image, load_pages
from forgerank.detect.result import Report, VideoReport
from forgerank.judging import judge_file
from forgerank.media.animations import is_animation, open_animation
from forgerank.media.files import MediaError
from forgerank.media.hdr import tone_map
from forgerank.media.images import read_pages, read_photo
from forgerank.media.opening import TooManyPixelsError
from forgerank.media.structure import JPEG_SCAN, jpeg_scans


def scene(height: int = 64, width: int = 96) -> np.ndarray:
    """A smooth image without any grey row."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([60 + x, 40 + y, 200 - y], axis=-1).astype(np.uint8)


def saved(path: Path, image: np.ndarray, **options: object) -> Path:
    PILImage.fromarray(image).save(path, **options)
    return path


@pytest.mark.parametrize("suffix", ["avif", "gif", "heic"])
def test_formats_of_phones_and_messengers(tmp_path: Path, suffix: str) -> None:
    if suffix == "heic":
        heif = pytest.importorskip("pillow_heif")
        heif.from_pillow(PILImage.fromarray(scene())).save(tmp_path / "a.heic", quality=95)
    else:
        saved(tmp_path / f"a.{suffix}", scene(), **({"quality": 95} if suffix == "avif" else {}))
    image = read_photo(tmp_path / f"a.{suffix}")
    assert image.shape == (64, 96, 3)
    assert np.abs(image.astype(int) - scene()).mean() < 6


def test_heic_without_its_extra_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(50))
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    with pytest.raises(MediaError) as refusal:
        read_photo(tmp_path / "a.HEIC")
    assert refusal.value.reason.startswith("a HEIC image: ")
    assert 'pip install "forgerank[heif]"' in refusal.value.reason


def test_a_known_format_that_is_not_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"8BPS\0\1" + bytes(40))
    with pytest.raises(
        MediaError, match=r"an image of a kind that is not read \(PSD\): save it as JPEG or PNG"
    ):
        read_photo(tmp_path / "a.jpg")


def disk_table(start: int = 2048) -> bytes:
    """Of a disk of one partition of FAT, with the end of its sector."""
    return struct.pack("<B3xB3xII", 0x80, 0x0C, start, 4096) + bytes(48) + b"\x55\xaa"


def ext(block: int = 2) -> bytes:
    """The beginning of a partition of Linux."""
    return bytes(1024) + bytes(24) + struct.pack("<I28xHHH", block, 0xEF53, 1, 1)


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (b"Rar!\x1a\x07\x01\0", r"an archive \(RAR\): unpack it first"),
        (b"PK\x03\x04", r"an archive \(ZIP\): unpack it first"),
        (b"II*\0\x10\0\0\0CR\x02\0", "a camera's raw file, which is not read: export it as JPEG or PNG"),
        (b"\0\0\0\x18ftypcrx ", "a camera's raw file, which is not read"),
        (b"\x76\x2f\x31\x01", r"an image of a kind that is not read \(OpenEXR\)"),
        (
            b"\xef\xbb\xbf%PDF-1.7\n",
            r"a document \(PDF\): take its images out of it, or save its pages as PNG",
        ),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", r"a document \(Office or Outlook\): take its images out"),
        (b"\0\0\0\x20ftypM4A ", r"a sound recording \(M4A\), which holds neither image nor video"),
        (b"{\\rtf1\\ansi", r"a document \(RTF\): take its images out of it"),
        (
            b"\r\n<!DOCTYPE html><html>",
            r"a web page \(HTML\), as a failed download leaves: download",
        ),
        (
            b"\x89PNG\r\n\x1a\n\0\0\0\4CgBI\x50\0\x20\2",
            r"an image of a kind that is not read \(CgBI, the PNG of iOS apps\): save it as",
        ),
        (b"EVF\x09\r\n\xff\0\1", r"an archive \(EnCase image\): unpack it first"),
        (b"\0" * 6 + b"HEAPCCDR", "a camera's raw file, which is not read"),
        (
            b"Received: from a (b\r\n\tby c)\r\nFrom: d\r\n",
            r"a document \(e-mail\): take its images out of it",
        ),
        (b"From a@b.c Mon\nDate: 1\nTo: e\n", r"a document \(e-mail\)"),
        (b"To: somebody\nwith a note", r"not an image \(JPEG, "),
        (b"bplist00\xd1\x01\x02^NSURLNameKey", "a file that is still in iCloud: download it first"),
        (b"\xeb\x3c\x90mkfs.fat" + bytes(43) + b"FAT16   ", r"an archive \(raw disk\): unpack it first"),
        (b"\xeb\x52\x90NTFS    ", r"an archive \(raw disk\)"),
        (bytes(512) + b"EFI PART", r"an archive \(raw disk\)"),
        (bytes(446) + disk_table(), r"an archive \(raw disk\)"),
        (bytes(446) + disk_table(start=0), "it begins with zeros alone|not an image"),
        (ext(), r"an archive \(raw disk\)"),
        (ext(block=9), "not an image"),
        (bytes(0x10040) + b"_BHRfS_M", r"an archive \(raw disk\)"),
        (bytes(0x8001) + b"CD001\1", r"an archive \(disc\): unpack it first"),
        (bytes(5000), "it begins with zeros alone, as a failed copy does: get the file again"),
        (b"text, and zeros", r"not an image \(JPEG, "),
    ],
)
def test_what_is_no_image_is_named(tmp_path: Path, head: bytes, reason: str) -> None:
    (tmp_path / "a.jpg").write_bytes(head + bytes(400))
    with pytest.raises(MediaError, match=reason):
        read_photo(tmp_path / "a.jpg")


@pytest.mark.parametrize(
    ("marker", "bits", "channels", "kind"),
    [
        (0xC3, 8, 3, "lossless JPEG"),
        (0xF7, 8, 3, "JPEG-LS"),
        (0xC6, 8, 3, "hierarchical JPEG"),
        (0xC1, 12, 3, "JPEG of 12 bits"),
        (0xC0, 8, 2, "JPEG of 2 channels"),
    ],
)
def test_a_jpeg_that_no_decoder_knows_is_not_called_damaged(
    tmp_path: Path, marker: int, bits: int, channels: int, kind: str
) -> None:
    content = bytearray(saved(tmp_path / "a.jpg", scene()).read_bytes())
    place = content.index(b"\xff\xc0")
    content[place + 1], content[place + 4], content[place + 9] = marker, bits, channels
    with pytest.raises(MediaError, match=rf"an image of a kind that is not read \({kind}\): save it as JPEG"):
        read_photo(tmp_path / "a.jpg", data=bytes(content))


@pytest.mark.parametrize("big_tiff", [False, True])
@pytest.mark.parametrize(("compression", "kind"), [(50002, "JPEG XL"), (34712, "JPEG 2000"), (34887, "LERC")])
def test_a_tiff_that_no_decoder_knows_is_not_called_damaged(
    tmp_path: Path, compression: int, kind: str, big_tiff: bool
) -> None:
    content = bytearray(saved(tmp_path / "a.tif", scene(), big_tiff=big_tiff).read_bytes())
    tag = content.index(struct.pack("<HH", 259, 3))
    struct.pack_into("<H", content, tag + (12 if big_tiff else 8), compression)
    with pytest.raises(MediaError, match=rf"a kind that is not read \(TIFF of {kind}\): save it as JPEG"):
        read_photo(tmp_path / "a.tif", data=bytes(content))


def test_a_gain_map_of_full_size_is_no_page(tmp_path: Path) -> None:
    image, other = (PILImage.fromarray(pixels) for pixels in (scene(), 255 - scene()))
    image.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[other])
    assert len(list(read_pages(tmp_path / "a.jpg"))) == 2
    content = (tmp_path / "a.jpg").read_bytes()
    second = content.index(b"\xff\xd9\xff\xd8") + 4
    said = b"http://ns.adobe.com/xap/1.0/\0<x hdrgm:Version='1.0'/>"
    segment = b"\xff\xe1" + struct.pack(">H", len(said) + 2) + said
    (tmp_path / "a.jpg").write_bytes(content[:second] + segment + content[second:])
    [page] = read_pages(tmp_path / "a.jpg")
    assert page.warnings == ("it also holds a reduced copy or map of this image, not judged",)


def test_a_disk_is_named_without_being_read(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(ext())
    with path.open("r+b") as file:
        file.truncate(2_000_000_000)  # more than is read of any image
    for read in (read_photo, load_image):
        with pytest.raises(MediaError, match=r"an archive \(raw disk\): unpack it first"):
            read(path)


@pytest.mark.parametrize(
    ("suffix", "mode", "kind"),
    [
        ("ico", "RGB", "ICO"),
        ("icns", "RGB", "ICNS"),
        ("eps", "RGB", "EPS"),
        ("pcx", "RGB", "PCX"),
        ("pcx", "1", "PCX"),
        ("sgi", "RGB", "SGI"),
        ("tga", "RGB", "TGA"),
        ("tga", "RGBA", "TGA"),
        ("tga", "L", "TGA"),
        ("tga", "P", "TGA"),
        ("dds", "RGB", "DDS"),
        ("jp2", "RGB", "JPEG 2000"),
        ("j2k", "RGB", "JPEG 2000"),
        ("qoi", "RGB", "QOI"),
        ("ppm", "RGB", "PNM"),
        ("pgm", "L", "PNM"),
        ("pbm", "1", "PNM"),
        ("pfm", "F", "PFM"),
    ],
)
def test_every_kind_that_pillow_writes_is_named(tmp_path: Path, suffix: str, mode: str, kind: str) -> None:
    PILImage.fromarray(scene()).convert(mode).save(tmp_path / f"a.{suffix}")
    (tmp_path / f"a.{suffix}").rename(tmp_path / "a.jpg")
    with pytest.raises(MediaError, match=rf"a kind that is not read \({kind}\): save it as JPEG or PNG"):
        read_photo(tmp_path / "a.jpg")


@pytest.mark.parametrize("tags", [{50706: b"\x01\x04\0\0"}, {254: 1, 330: (8,)}])
def test_the_preview_in_a_raw_file_is_not_judged(tmp_path: Path, tags: dict[int, object]) -> None:
    directory = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, value in tags.items():
        directory[tag] = value
    PILImage.fromarray(scene()).save(tmp_path / "a.tif", tiffinfo=directory)
    with pytest.raises(MediaError, match="a camera's raw file, which is not read"):
        read_photo(tmp_path / "a.tif")


@pytest.mark.parametrize("name", ["a.avif", "a.tif", "a.png"])
def test_what_is_left_of_a_known_format_is_damaged_and_not_unknown(tmp_path: Path, name: str) -> None:
    options = {"compression": "tiff_lzw"} if name == "a.tif" else {}
    content = saved(tmp_path / name, scene(), **options).read_bytes()
    with pytest.raises(MediaError, match="truncated or damaged image"):
        read_photo(tmp_path / name, data=content[:30] if name == "a.png" else content[: len(content) // 2])


@pytest.mark.parametrize(
    ("end", "options"), [(None, {}), (4096, {}), (None, {"progressive": True}), (None, {"optimize": True})]
)
def test_zeros_in_place_of_the_pixels_of_a_jpeg_are_missing(
    tmp_path: Path, end: int | None, options: dict[str, bool]
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 160, 3), dtype=np.uint8)
    content = saved(tmp_path / "a.jpg", noise, **options).read_bytes()
    half = len(content) // 2
    hole = bytes(len(content) - half if end is None else end)
    damaged = content[:half] + hole + content[half + len(hole) :]
    [page] = read_pages(tmp_path / "a.jpg", data=damaged)
    [warning] = page.warnings
    assert warning.startswith("its end is missing or damaged: ")
    [page] = read_pages(tmp_path / "a.jpg", data=content + bytes(4096))  # behind the end they say nothing
    assert not page.warnings


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("level", [0, 255, 70])
@pytest.mark.parametrize("options", [{}, {"optimize": True}, {"progressive": True}])
def test_an_even_area_of_a_jpeg_is_no_hole(
    tmp_path: Path, options: dict[str, bool], level: int, mode: str
) -> None:
    canvas = np.full((2400, 1600, 3), level, dtype=np.uint8)
    canvas[1000:1200, 400:560] = np.random.default_rng(0).integers(0, 256, (200, 160, 3))
    image = PILImage.fromarray(canvas).convert(mode)
    image.save(tmp_path / "a.jpg", quality=90, **options)
    [page] = read_pages(tmp_path / "a.jpg")
    assert not page.warnings
    assert np.abs(page.image.astype(int) - np.asarray(image.convert("RGB"))).mean() < 3


JPEGS = [
    ("RGB", {}),
    ("RGB", {"quality": 30, "optimize": True}),
    ("RGB", {"quality": 95, "progressive": True}),
    ("RGB", {"subsampling": "4:1:1"}),
    ("RGB", {"subsampling": "4:4:4", "keep_rgb": True}),
    ("RGB", {"restart_marker_blocks": 40}),
    ("L", {}),
    ("CMYK", {"quality": 90}),
]


def with_garbage(content: bytes, seed: int) -> bytes:
    """A JPEG with 200 wrong bytes amid its pixels."""
    noise = np.random.default_rng(seed)
    start = content.index(b"\xff\xda") + 20
    at = start + int(noise.uniform(0.2, 0.8) * (len(content) - start - 200))
    return content[:at] + noise.integers(0, 256, 200, dtype=np.uint8).tobytes() + content[at + 200 :]


@pytest.mark.parametrize(("mode", "options"), JPEGS)
def test_garbage_amid_a_jpeg_is_damage(mode: str, options: dict[str, object], astronaut: np.ndarray) -> None:
    stream = io.BytesIO()
    PILImage.fromarray(astronaut[:200, 100:300]).convert(mode).save(stream, "JPEG", **options)
    content = stream.getvalue()
    for whole in (content, content[:-2] + bytes(40) + content[-2:], content + bytes(300)):
        [page] = read_pages("a.jpg", data=whole)
        assert page.warnings == ()
    damaged = [next(read_pages("a.jpg", data=with_garbage(content, seed))) for seed in range(20)]
    assert sum("damaged: " in " ".join(page.warnings) for page in damaged) >= 18
    assert {page.image.shape for page in damaged} == {(200, 200, 3)}


def test_a_progressive_jpeg_without_its_details_is_not_judged(
    tmp_path: Path, astronaut: np.ndarray, tiny_detector: Detector
) -> None:
    path = saved(tmp_path / "a.jpg", astronaut[40:240, 120:320], quality=95, progressive=True)
    content = path.read_bytes()
    scans = [segment.place for segment in jpeg_scans(content) if segment.marker == JPEG_SCAN]
    assert len(scans) == 10  # the sixth brings the brightness but for its last bit
    for number, place in enumerate(scans[1:], start=1):
        for end in (place, place + 40):  # where the scan before ends, and inside the next
            [page] = read_pages(path, data=content[:end])
            assert page.warnings[0].startswith("its end is missing or damaged: ")
            assert (page.unjudged is not None) == (number < 6)
    path.write_bytes(content[: scans[4]])
    report = judge_file(tiny_detector, path)
    [face] = report.faces
    assert report.verdict == face.verdict == "undetermined"
    assert report.reason == face.reason
    assert str(face.reason).startswith("too little left to judge (")
    assert face.likelihood_ratio is None
    assert face.sequence == ()


@pytest.mark.parametrize("options", [{"lossless": True}, {"exif": bytes(501)}])
def test_what_is_missing_of_a_webp_is_grey(tmp_path: Path, options: dict[str, object]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 160, 3), dtype=np.uint8)
    path = saved(tmp_path / "a.webp", noise, **options)
    whole, content = read_photo(path), path.read_bytes()
    [page] = read_pages(path, data=content[: len(content) // 2])
    row = int((page.image == 128).all(axis=(1, 2)).argmax())
    assert 60 < row < 120
    assert (page.image[: row - 2] == whole[: row - 2]).all()
    assert (page.image[row:] == 128).all()


def test_a_webp_of_which_no_pixel_is_there_is_refused(tmp_path: Path) -> None:
    content = saved(tmp_path / "a.webp", scene()).read_bytes()
    assert content[12:16] == b"VP8 "
    end = 20 + 10 + (int.from_bytes(content[20:23], "little") >> 5)  # of the modes of its blocks
    with pytest.raises(MediaError, match="its end is missing"):
        next(read_pages(tmp_path / "a.webp", data=content[: end - 1]))


def test_the_byte_that_pads_a_webp_may_be_missing(tmp_path: Path) -> None:
    for width in range(60, 90):
        content = saved(tmp_path / "a.webp", scene(width=width), lossless=True).read_bytes()
        if content[16] % 2:
            break
    assert content[16] % 2
    [page] = read_pages(tmp_path / "a.webp", data=content[:-1])
    assert not page.warnings
    assert (page.image == scene(width=width)).all()
    assert (read_photo(tmp_path / "a.webp", data=content[:-1]) == page.image).all()


def test_a_frame_that_a_webp_lacks_is_counted(tmp_path: Path) -> None:
    frames = [PILImage.fromarray(np.roll(scene(), 8 * step, axis=1)) for step in range(5)]
    path = tmp_path / "a.webp"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=100)
    path.write_bytes(path.read_bytes()[:-9])
    assert is_animation(path)
    with open_animation(path) as animation:
        assert len(list(animation.samples(10))) == 4
        assert animation.progress.lost == 1


def test_the_rows_of_a_png_before_a_wrong_checksum(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    content = bytearray(saved(tmp_path / "a.png", noise).read_bytes())
    content[len(content) * 2 // 3] ^= 0xFF
    [page] = read_pages(tmp_path / "a.png", data=bytes(content))
    [warning] = page.warnings
    share = float(warning.split()[-8]) / 100
    assert 0.2 < share < 0.67
    assert (page.image[: int(300 * share)] == noise[: int(300 * share)]).all()


@pytest.mark.parametrize(("share", "low", "high"), [(0.999, 0.9, 1.0), (0.6, 0.3, 0.75), (0.3, 0.1, 0.45)])
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "a.webp"])
def test_a_missing_end_costs_only_itself(
    tmp_path: Path, name: str, share: float, low: float, high: float
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 160, 3), dtype=np.uint8)
    path = saved(tmp_path / name, noise)
    whole = read_photo(path)
    content = path.read_bytes()
    [page] = read_pages(path, data=content[: int(len(content) * share)])
    same = np.flatnonzero((page.image == whole).all(axis=(1, 2)))
    assert low * 200 <= same[-1] + 1 <= high * 200
    assert (page.image[: same[-1]] == whole[: same[-1]]).mean() > 0.99
    [warning] = page.warnings
    assert warning.startswith("its end is missing or damaged: ")
    assert warning.endswith("of its rows could be decoded") or "all its rows" in warning
    stated = 100.0 if "all its rows" in warning else float(warning.split()[-8])
    assert stated == pytest.approx(100 * (same[-1] + 1) / 200, abs=100 * 33 / 200)
    with pytest.raises(MediaError, match="truncated or damaged"):
        read_photo(path, data=content[: int(len(content) * share)])


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_the_rows_of_half_a_jpeg_of_any_colours(astronaut: np.ndarray, mode: str) -> None:
    stream = io.BytesIO()
    PILImage.fromarray(astronaut[:200, 100:300]).convert(mode).save(stream, "JPEG")
    content = stream.getvalue()
    [page] = read_pages("a.jpg", data=content[: len(content) // 2])
    assert 40 < float(page.warnings[0].split()[-8]) < 70


def test_a_jpeg_without_its_last_bytes_is_whole(tmp_path: Path) -> None:
    content = saved(tmp_path / "a.jpg", scene(), quality=95).read_bytes()
    [page] = read_pages("a.jpg", data=content[:-2])
    np.testing.assert_array_equal(page.image, read_photo(tmp_path / "a.jpg"))
    assert page.warnings == ("its end is missing or damaged: all its rows could be decoded",)


@pytest.mark.parametrize("kept", [20, 300])
def test_a_photograph_of_which_nothing_is_left_is_refused(tmp_path: Path, kept: int) -> None:
    content = saved(tmp_path / "a.jpg", scene(), quality=95).read_bytes()
    with pytest.raises(MediaError):
        next(read_pages("a.jpg", data=content[:kept]))


def test_a_large_jpeg_is_decoded_at_half_its_size(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg", scene(200, 300), quality=95)
    [page] = read_pages(path, max_pixels=20_000)
    assert page.image.shape == (100, 150, 3)
    assert page.warnings == ("it has 300 x 200 pixels and was judged at half that size",)
    assert read_pages(path, max_pixels=60_000).__next__().warnings == ()
    with pytest.raises(TooManyPixelsError, match="300 x 200 pixels, over the limit of 14999"):
        next(read_pages(path, max_pixels=14_999))
    with pytest.raises(TooManyPixelsError):
        next(read_pages(saved(tmp_path / "a.png", scene(200, 300)), max_pixels=20_000))


def test_more_pixels_than_pillow_itself_allows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PILImage, "MAX_IMAGE_PIXELS", 100)
    assert read_photo(saved(tmp_path / "a.png", scene())).shape == (64, 96, 3)


def test_every_page_is_read_without_reduced_copies(tmp_path: Path) -> None:
    pages = [PILImage.fromarray(np.full((64, 96, 3), grey, np.uint8)) for grey in (10, 20, 30)]
    copy = pages[0].resize((48, 32))
    copy.encoderinfo = {"tiffinfo": {254: 1}}
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=[copy, *pages[1:]])
    found = list(load_pages(tmp_path / "a.tif"))
    assert [int(page.image.mean()) for page in found] == [10, 20, 30]
    assert [(page.page, page.pages) for page in found] == [(1, 3), (2, 3), (3, 3)]
    assert found[0].warnings == ("it also holds a reduced copy or map of this image, not judged",)
    first = load_image(tmp_path / "a.tif")
    assert first.warnings[-1] == "it holds 3 images; the first was judged"


@pytest.mark.parametrize("name", ["a.tif", "a.heic"])
def test_a_smaller_page_that_is_no_copy_is_judged(tmp_path: Path, name: str) -> None:
    first, other = (PILImage.fromarray(np.full((64, 96, 3), grey, np.uint8)) for grey in (10, 200))
    if name == "a.heic":
        pytest.importorskip("pillow_heif").register_heif_opener()
    first.save(tmp_path / name, save_all=True, append_images=[other.resize((48, 32))])
    pages = list(read_pages(tmp_path / name))
    assert [round(page.image.mean(), -1) for page in pages] == [10, 200]
    assert pages[0].warnings == ()


def test_both_pictures_of_a_stereo_camera(tmp_path: Path) -> None:
    pair = [PILImage.fromarray(np.full((64, 96, 3), grey, np.uint8)) for grey in (50, 90)]
    pair[0].save(tmp_path / "a.mpo", save_all=True, append_images=pair[1:])
    assert [round(page.image.mean() / 10) for page in read_pages(tmp_path / "a.mpo")] == [5, 9]


MP4 = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom"


@pytest.mark.parametrize(
    ("tail", "said"),
    [
        (b"", None),
        (bytes(600) + b"SEFH", None),
        (MP4 + bytes(99), "it also holds a video (a motion photo), not judged"),
        (b"MotionPhoto_Data" + MP4, "it also holds a video (a motion photo), not judged"),
        ((96, 64), "another image follows the end of this one, not judged"),
        ((24, 16), "it also holds a reduced copy or map of this image, not judged"),
        (b"\xff\xd8\xff\xe0 only begins like an image", None),
        (b"\xff\xd8" + b"\xff\xe1\0\2" * 5_000, None),
    ],
)
@pytest.mark.parametrize("progressive", [False, True])
def test_what_follows_the_end_of_a_jpeg_is_said(
    tmp_path: Path, tail: bytes | tuple[int, int], said: str | None, progressive: bool
) -> None:
    if isinstance(tail, tuple):
        PILImage.fromarray(scene()).resize(tail).save(tmp_path / "b.jpg")
        tail = (tmp_path / "b.jpg").read_bytes()
    PILImage.fromarray(scene()).save(tmp_path / "a.jpg", progressive=progressive)
    [page] = read_pages("a.jpg", data=(tmp_path / "a.jpg").read_bytes() + tail)
    assert page.warnings == (() if said is None else (said,))


def test_the_video_in_a_heic_is_said(tmp_path: Path) -> None:
    content = saved(tmp_path / "a.heic", scene()).read_bytes()
    [page] = read_pages("a.heic", data=content + struct.pack(">L4s", 8 + len(MP4), b"mpvd") + MP4)
    assert page.warnings == ("it also holds a video (a motion photo), not judged",)


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "avif"])
def test_frames_of_an_animation(tmp_path: Path, suffix: str) -> None:
    frames = [PILImage.fromarray(np.full((64, 96, 3), 20 * number, np.uint8)) for number in range(1, 6)]
    path = tmp_path / f"a.{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=200)
    assert is_animation(path)
    with open_animation(path) as animation:
        samples = list(animation.samples(1000))
        assert [round(sample.image.mean() / 20) for sample in samples] == [1, 2, 3, 4, 5]
        assert [sample.time for sample in samples] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8])
        assert animation.duration == pytest.approx(1.0)
        assert animation.progress.lost == 0
        assert len(list(animation.samples(2.0))) == 2
    assert not is_animation(saved(tmp_path / f"b.{suffix}", scene()))


def test_hdr_of_an_animation_is_tone_mapped(tmp_path: Path) -> None:
    path = tmp_path / "a.avif"
    first, *others = [PILImage.fromarray(scene() + number) for number in range(3)]
    first.save(path, save_all=True, append_images=others, duration=200, quality=100)
    path.write_bytes(re.sub(b"(?s)(colrnclx).{4}", b"\\1\0\x09\0\x10", path.read_bytes()))
    with open_animation(path) as animation:
        sample = next(animation.samples(2.0))
        assert animation.hdr == "PQ"
    expected = tone_map(scene().astype(np.uint16) * 257, "PQ")
    assert np.abs(sample.image.astype(int) - expected).mean() < 4


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_no_frame_of_a_large_animation_is_lost(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (20, 300, 400, 3), np.uint8)
    first, *others = [PILImage.fromarray(frame) for frame in noise]
    path = tmp_path / f"a.{suffix}"
    first.save(path, save_all=True, append_images=others, duration=100, lossless=True, method=0)
    assert path.stat().st_size > 2_000_000
    with open_animation(path) as animation:
        for _ in range(2):
            assert len(list(animation.samples(1000))) == 20
            assert animation.progress.lost == 0


def test_the_still_of_an_animated_png_is_one_image_more(tmp_path: Path) -> None:
    """What programs show that know no animations need not be a frame of it."""
    greys = [PILImage.new("L", (32, 32), 60 * number) for number in range(4)]
    options = {"save_all": True, "append_images": greys[1:], "duration": 100, "default_image": True}
    greys[0].save(tmp_path / "a.png", **options)
    with open_animation(tmp_path / "a.png") as animation:
        assert [sample.image[0, 0, 0] for sample in animation.samples(1000)] == [0, 60, 120, 180]


def test_an_animation_is_judged_as_a_video(
    tiny_detector: Detector, astronaut: np.ndarray, forged_astronaut: np.ndarray, tmp_path: Path
) -> None:
    real, forged = PILImage.fromarray(astronaut), PILImage.fromarray(forged_astronaut)
    others = [forged.copy() for _ in range(4)]
    for number, frame in enumerate(others):
        frame.putpixel((0, 0), (number, 0, 0))  # equal frames would be stored as one
    real.save(tmp_path / "a.webp", save_all=True, append_images=others, duration=200, lossless=True)
    report = judge_file(tiny_detector, tmp_path / "a.webp")
    assert isinstance(report, VideoReport)
    assert (report.verdict, report.codec, report.sampled_frames) == ("forged", "webp", 5)
    assert report.decoded_share == 1.0
    # Two frames are pages: a video needs three to be judged.
    real.save(tmp_path / "b.webp", save_all=True, append_images=[forged], duration=200, lossless=True)
    pages = judge_file(tiny_detector, tmp_path / "b.webp")
    assert isinstance(pages, Report)
    assert (pages.verdict, pages.page, pages.pages) == ("forged", 2, 2)
    assert pages.warnings == ("this is page 2 of 2; of all pages: 1 forged, 1 real",)


def jpeg_with(segments: bytes) -> bytes:
    stream = io.BytesIO()
    PILImage.fromarray(scene()).save(stream, "JPEG")
    return stream.getvalue()[:2] + segments + stream.getvalue()[2:]


def png_with(chunks: bytes) -> bytes:
    stream = io.BytesIO()
    PILImage.fromarray(scene()).save(stream, "PNG")
    return stream.getvalue()[:33] + chunks + stream.getvalue()[33:]


def gif_with(blocks: bytes) -> bytes:
    stream = io.BytesIO()
    PILImage.fromarray(scene()).convert("L").save(stream, "GIF")
    content = stream.getvalue()
    start = 13 + (3 << (content[10] & 7) + 1)
    return content[:start] + blocks + content[start:]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (jpeg_with(b"\xff\xfe\x00\x02" * 5_000), "segments of metadata"),
        (jpeg_with(b"\xff\xfe\x00\x02" + bytes(70_000)), "bytes between the segments of a JPEG"),
        (jpeg_with(b"\xff" * 70_000), "bytes between the segments of a JPEG"),
        (jpeg_with(b"\xff\xd9" * 40_000), "bytes between the segments of a JPEG"),
        (jpeg_with(b"\xff\xd9" + b"\xff\xfe\x00\x02" * 5_000), "segments of metadata"),
        (jpeg_with((b"\xff\xe5\xff\xff" + bytes(65_533)) * 1_000), "bytes of metadata"),
        (png_with((bytes(4) + b"teXt" + bytes(4)) * 5_000), "chunks in a PNG of its size"),
        (png_with(struct.pack(">I", 65_000_000) + b"teXt" + bytes(65_000_004)), "bytes of metadata"),
        (gif_with(b"\x21\xfe\x00" * 30_000), "frames and extensions in a GIF"),
        (gif_with(b"\x21\xfe" + b"\x01a" * 50_000 + b"\0"), "blocks in a GIF"),
        (b"RIFF\0\0\0\0WEBP" + b"ABCD\0\0\0\0" * 5_000, "chunks in a WebP"),
        (b"II*\0\x08\0\0\0\x50\xc3" + bytes(12) * 50_000, "entries in the directories of a TIFF"),
        (
            b"II*\0\x08\0\0\0\1\0" + struct.pack("<HHII", 273, 4, 900_000, 26) + bytes(3_600_004),
            "values in the directories of a TIFF",
        ),
        (b"\0\0\0\x18ftypavif\0\0\0\0mif1avif" + b"\0\0\0\x08free" * 5_000, "boxes"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_metadata_is_bounded_before_it_is_parsed(
    content: bytes, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("forgerank.media.opening._DECODERS", {})  # none is asked
    with pytest.raises(MediaError, match=f"more than [0-9]+ {reason}") as refusal:
        read_photo("bomb", data=content)
    assert "\n" not in str(refusal.value)


def chunk(name: bytes, data: bytes, *, checksum: int | None = None) -> bytes:
    said = zlib.crc32(name + data) if checksum is None else checksum
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", said)


@pytest.mark.parametrize(
    ("chunks", "warning"),
    [
        (chunk(b"tEXt", b"Software\0x", checksum=1), "damaged: 1 chunk of its metadata, passed over"),
        (chunk(b"eXIf", b"MM\0*\0\0\0\x08", checksum=1), "damaged: 1 chunk of its metadata, passed over"),
        (chunk(b"zTXt", b"Raw profile type xmp\0\0" + zlib.compress(bytes(2_000_000))), None),
        (chunk(b"iTXt", b"workflow\0\1\0\0\0" + zlib.compress(b"{}" * 2_000_000)), None),
        (chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(b"{}" * 2_000_000)), None),
        (b"".join(chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1_000_000))) for _ in range(70)), None),
        (chunk(b"iCCP", b"scanner\0\0" + zlib.compress(bytes(2_000_000))), None),
        (chunk(b"iCCP", b"scanner\0\1" + bytes(9)) + chunk(b"gAMA", b"\0") + chunk(b"sRGB", b""), None),
        (chunk(b"tEXt", b"transparency\0x") + chunk(b"tEXt", b"gamma\0x") + chunk(b"pHYs", b"\0"), None),
    ],
    ids=["checksum", "exif", "zTXt", "iTXt", "xmp", "texts", "large profile", "lengths", "keywords"],
)
def test_metadata_costs_a_png_nothing(chunks: bytes, warning: str | None) -> None:
    for content in (png_with(chunks), png_with(b"")[:-12] + chunks + png_with(b"")[-12:]):
        [page] = read_pages("a.png", data=content)
        assert (page.image == scene()).all()
        assert page.warnings == (() if warning is None else (warning,))


def test_how_a_png_is_turned_counts_though_other_metadata_is_damaged() -> None:
    exif = PILImage.Exif()
    exif[0x0112] = 6
    turned = chunk(b"tEXt", b"Software\0x", checksum=1) + chunk(b"eXIf", exif.tobytes()[6:])
    assert (read_photo("a.png", data=png_with(turned)) == np.rot90(scene(), -1)).all()


def test_what_cameras_write_is_far_from_the_limits() -> None:
    stream = io.BytesIO()
    PILImage.new("L", (8, 100_000)).save(stream, "TIFF", compression="tiff_lzw", strip_size=1)
    assert read_photo("photo", data=stream.getvalue()).shape == (100_000, 8, 3)
    several = (b"\xff\xe2\xff\xff" + bytes(65_533)) * 200 + b"\xff" * 100
    assert read_photo("photo", data=jpeg_with(several)).shape == (64, 96, 3)


@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_what_follows_the_end_of_another_image_is_counted(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    PILImage.fromarray(scene()).save(path)
    for tail, said in ((b"", []), (bytes(99), []), (b"PK\3\4" + bytes(96), ["100 bytes"])):
        [page] = read_pages(path, data=path.read_bytes() + tail)
        assert page.warnings == tuple(f"not looked at: {number} after its end" for number in said)
