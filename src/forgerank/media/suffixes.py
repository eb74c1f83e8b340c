"""Kinds of media files: images and videos, by the suffix of their name and by their first bytes."""

import os
import re
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Literal

MediaKind = Literal["image", "video", "other"]

# Lower case, with the dot: the suffixes that folders are searched for.
IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".gif", ".webp", ".bmp", ".dib", ".tif"}
    | {".tiff", ".avif", ".avifs", ".heic", ".heics", ".heif", ".heifs", ".hif"}
)
VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".flv", ".ogv"}
    | {".3gp", ".3g2", ".wmv", ".asf", ".vob", ".m2v", ".mpe", ".m2t", ".f4v", ".qt", ".divx", ".ogm"}
)
MEDIA_SUFFIXES = IMAGE_SUFFIXES | VIDEO_SUFFIXES

HEAD_BYTES = 4096  # enough to tell the kinds
DISK_HEAD_BYTES = 0x10048  # where these are zeros: a disk may begin so
_VIDEO_MAGICS = (
    b"\x1a\x45\xdf\xa3",  # Matroska, WebM
    b"\x00\x00\x01\xba",  # MPEG program stream
    b"\x00\x00\x01\xb3",  # MPEG video
    b"IMKH",  # a program stream of Hikvision's recorders, behind a header
    b"FLV\x01",
    b"OggS",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",  # ASF
)
# Of files without a type, and of pieces of a stream.
_QUICKTIME_ATOMS = (b"moov", b"mdat", b"wide", b"skip", b"free", b"pnot", b"moof", b"styp", b"sidx")
# What systems leave beside people's files, in lower case: no evidence, neither read nor counted.
# Thumbnails that a NAS, a telephone or a desktop makes are copies. Bins are none of it: they hold what
# somebody deleted, beside notes of where it came from, which are.
LITTER_FOLDERS = frozenset(
    {
        "__macosx",
        ".appledouble",
        ".spotlight-v100",
        ".fseventsd",
        ".temporaryitems",
        ".documentrevisions-v100",
    }
    | {"@eadir", ".@__thumb", ".thumbnails", "system volume information", ".appledb", ".appledesktop"}
)
_LITTER = frozenset(
    {".ds_store", ".localized", ".apdisk", "icon\r", "thumbs.db", "ehthumbs.db", "desktop.ini"}
    | {".directory", ".nomedia", ".picasa.ini", "picasa.ini", ".volumeicon.icns", "zbthumbnail.info"}
    | {".bridgesort", ".bridgecache", ".bridgecachet", ".dropbox", ".dropbox.attr", ".dropbox.device"}
    | {"ehthumbs_vista.db", "thumbs.db:encryptable", "info2", "directorysizes", ".metadata_never_index"}
    | {".xdg-volume-info", ".database_uuid", ".stfolder", ".gitkeep"}
)
# Of the resource forks that a Mac writes beside every file and of its notes on a disk, of the locks of office
# programs, and of the thumbnails that Android keeps in one file.
_LITTER_PREFIXES = ("._", ".com.apple.", "~$", ".~lock.", ".thumbdata")
# Where Windows keeps that a file came from the network, and Linux where a deleted one lay.
_LITTER_SUFFIXES = (":zone.identifier", ".zone.identifier", "_zone.identifier", ".trashinfo")
_DELETED = re.compile(r"\$i[0-9a-z]{6}(\..*)?")  # Windows' note on the file that it renamed to $R...
# Kinds of lists of what an application did to the photograph of the same name: of Apple's Photos, of Adobe's
# programs and darktable, of RawTherapee, of DxO. They are neither images nor litter.
EDIT_LISTS = frozenset({"AAE", "XMP", "PP3", "DOP"})
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")
_Formats = tuple[tuple[str, int, bytes | tuple[bytes, ...]], ...]
# Images by their first bytes: where their magic begins, and the magic. Two bytes make a BMP: it comes last.
_FORMATS = (
    ("JPEG", 0, b"\xff\xd8\xff"),
    ("CgBI, the PNG of iOS apps", 0, b"\x89PNG\r\n\x1a\n\0\0\0\4CgBI"),
    ("PNG", 0, b"\x89PNG\r\n\x1a\n"),
    ("raw", 0, b"II*\0\x10\0\0\0CR"),  # Canon's, which begins as TIFF
    ("raw", 4, b"ftypcrx "),
    ("raw", 6, b"HEAPCCDR"),  # of Canon's first cameras
    *(
        ("raw", 0, magic)
        for magic in (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"FOVb", b"\0MRM")
    ),
    ("GIF", 0, b"GIF8"),
    ("WebP", 8, b"WEBP"),
    ("TIFF", 0, b"II*\0"),
    ("TIFF", 0, b"MM\0*"),
    ("TIFF", 0, b"II+\0"),  # BigTIFF
    ("AVIF", 4, b"ftypavif"),
    ("AVIF", 4, b"ftypavis"),
    *(("HEIC", 4, b"ftyp" + brand) for brand in _HEIF_BRANDS),
    ("JPEG 2000", 4, b"jP  \r\n"),
    ("JPEG 2000", 0, b"\xff\x4f\xff\x51"),
    ("JPEG XL", 4, b"JXL \r\n"),
    ("JPEG XL", 0, b"\xff\x0a"),
    ("PSD", 0, b"8BPS"),
    ("JPEG XR", 0, b"II\xbc\x01"),
    ("big-endian BigTIFF", 0, b"MM\0+"),  # which Pillow takes for a TIFF of 32-bit offsets
    ("OpenEXR", 0, b"\x76\x2f\x31\x01"),
    ("DDS", 0, b"DDS "),
    ("QOI", 0, b"qoif"),
    ("XCF", 0, b"gimp xcf"),
    ("DjVu", 0, b"AT&TFORM"),
    *(
        ("PNM", 0, b"P" + kind + end)
        for kind in (b"1", b"2", b"3", b"4", b"5", b"6")
        for end in (b"\n", b"\r")
    ),
    ("PAM", 0, b"P7\n"),
    ("PFM", 0, b"PF\n"),
    ("PFM", 0, b"Pf\n"),
    *(("ICO", 0, b"\0\0\1\0" + bytes([count, 0])) for count in range(1, 65)),  # so many sizes of it
    ("ICNS", 0, b"icns"),
    ("EPS", 0, b"%!PS"),
    ("EPS", 0, b"\xc5\xd0\xd3\xc6"),  # with a preview, as DOS has it
    *(
        ("PCX", 0, b"\n" + version + b"\1" + bits)
        for version in (b"\0", b"\2", b"\3", b"\5")
        for bits in (b"\1", b"\2", b"\4", b"\x08")
    ),
    *(("SGI", 0, b"\x01\xda" + packed + size) for packed in (b"\0", b"\1") for size in (b"\1", b"\2")),
    ("Sun raster", 0, b"\x59\xa6\x6a\x95"),
    ("XPM", 0, b"/* XPM */"),
    ("Radiance HDR", 0, b"#?RADIANCE"),
    ("Radiance HDR", 0, b"#?RGBE"),
    ("DPX", 0, b"SDPX"),
    ("DPX", 0, b"XPDS"),
    ("Cineon", 0, b"\x80\x2a\x5f\xd7"),
    ("FITS", 0, b"SIMPLE  ="),
    ("DICOM", 128, b"DICM"),
    ("WMF", 0, b"\xd7\xcd\xc6\x9a"),
    ("EMF", 40, b" EMF"),
    ("FLIF", 0, b"FLIF"),
    ("BPG", 0, b"BPG\xfb"),
    ("MNG", 0, b"\x8aMNG"),
    ("JNG", 0, b"\x8bJNG"),
    ("Paint Shop Pro", 0, b"Paint Shop Pro Image File"),
    ("Clip Studio", 0, b"CSFCHUNK"),
    ("Affinity", 0, b"\0\xffKA"),
)
_READ_FORMATS = frozenset({"JPEG", "PNG", "GIF", "WebP", "TIFF", "AVIF", "HEIC", "BMP"})
_RAW_SUFFIXES = frozenset(
    {".dng", ".cr2", ".cr3", ".nef", ".nrw", ".arw", ".sr2", ".srf", ".orf", ".rw2", ".rwl", ".raf", ".pef"}
    | {".crw", ".srw", ".x3f", ".3fr", ".erf", ".kdc", ".dcr", ".mrw", ".iiq", ".gpr", ".mef", ".mos"}
)
_UNREAD_SUFFIXES = _RAW_SUFFIXES | frozenset(
    {".jp2", ".j2k", ".j2c", ".jpc", ".jpx", ".jpf", ".jpm", ".jxl", ".jxr", ".wdp", ".hdp", ".psd", ".psb"}
    | {".exr", ".tga", ".icb", ".vda", ".vst", ".dds", ".qoi", ".xcf", ".djvu", ".djv", ".pcx", ".ppm"}
    | {".pgm", ".pbm", ".pnm", ".pam", ".pfm", ".ico", ".cur", ".icns", ".eps", ".epsf", ".sgi", ".xpm"}
    | {".xbm", ".svg", ".svgz", ".dpx", ".fits", ".dcm", ".wmf", ".emf", ".flif", ".bpg", ".mng", ".jng"}
    | {".psp", ".pspimage", ".clip", ".afphoto", ".kra", ".ora", ".pct", ".pict"}
)
_UNREAD_VIDEO_SUFFIXES = frozenset(
    {".mxf", ".dv", ".dif", ".rm", ".rmvb", ".h264", ".264", ".h265", ".265", ".hevc", ".dav", ".y4m", ".ivf"}
    # of conferences, recorders of surveillance, television and the web
    | {".zoom", ".arf", ".wrf", ".g64", ".g64x", ".ave", ".bvr", ".wtv", ".swf", ".nut"}
)
# What stands behind the suffix of an image or a video that is encrypted, or that a cloud has not sent yet.
_WITHHELD_SUFFIXES = frozenset(
    {".icloud", ".crypt12", ".crypt14", ".crypt15", ".enc", ".gpg", ".pgp", ".p7m", ".aes", ".axx"}
)
# As `_FORMATS`; of bare streams, a start code and the unit that comes first.
_UNREAD_VIDEOS: _Formats = (
    *(("bare H.264", 0, b"\0\0\0\1" + unit) for unit in (b"\x09", b"\x27", b"\x47", b"\x67")),
    *(("bare HEVC", 0, b"\0\0\0\1" + unit + b"\1") for unit in (b"\x40", b"\x42", b"\x46")),
    ("IVF", 0, b"DKIF"),
    ("Y4M", 0, b"YUV4MPEG2"),
    ("MXF", 0, b"\x06\x0e\x2b\x34\x02\x05\x01\x01"),
    ("RealMedia", 0, b".RMF"),
    ("DV", 0, b"\x1f\x07\x00"),
    ("Dahua", 0, b"DHAV"),
    ("NUT", 0, b"nut/multimedia container\0"),
    ("Windows television", 0, b"\xb7\xd8\x00\x20\x37\x49\xda\x11"),
    (
        "Flash",
        0,
        tuple(packed + b"WS" + bytes([version]) for packed in (b"F", b"C", b"Z") for version in range(1, 50)),
    ),
)
# Sound, in containers of videos too: voice messages and the recordings of telephones.
_SOUNDS = (
    *(("M4A", 4, b"ftyp" + brand) for brand in (b"M4A ", b"M4B ", b"M4P ", b"F4A ")),
    *(("Ogg", 28, codec) for codec in (b"OpusHead", b"\x01vorbis", b"Speex   ", b"\x7fFLAC")),
    ("MP3", 0, b"ID3"),
    ("MP3", 0, b"\xff\xfb"),
    ("WAV", 8, b"WAVE"),
    ("AMR", 0, b"#!AMR"),
    ("FLAC", 0, b"fLaC"),
)
_SOUND_SUFFIXES = frozenset({".m4a", ".m4b", ".opus", ".oga", ".mka", ".weba", ".wma", ".aac"})
_EMAIL = re.compile(
    rb"(\xef\xbb\xbf|From \S.*\n)?"
    rb"(Return-Path|Received|Delivered-To|Message-ID|MIME-Version|From|To|Date|Subject|X-[\w-]+): .*"
    rb"(\n[ \t].*)*\n([\w-]+:|[ \t]|\r?\n)",
    re.IGNORECASE,
)
_DOCUMENTS = (
    ("Office or Outlook", 0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"),  # of before 2007, and messages
    ("RTF", 0, b"{\\rtf"),
    ("Outlook", 0, b"!BDN"),  # a mailbox
    ("e-mail", 0, b"\x78\x9f\x3e\x22"),  # winmail.dat
)
_ARCHIVES: _Formats = (
    ("tar", 257, b"ustar"),  # whose first bytes are a name, and may be any
    ("ZIP", 0, b"PK\x03\x04"),
    ("ZIP", 0, b"PK\x05\x06"),  # empty
    # of an archive in parts that is one part after all
    ("ZIP", 0, b"PK\x06\x06"),
    ("ZIP", 0, b"PK\x07\x08PK\x03\x04"),
    ("ZIP", 0, b"PK00PK\x03\x04"),
    ("7z", 0, b"7z\xbc\xaf\x27\x1c"),
    ("RAR", 0, b"Rar!\x1a\x07"),
    ("gzip", 0, b"\x1f\x8b"),
    ("bzip2", 0, b"BZh"),
    ("xz", 0, b"\xfd7zXZ\0"),
    ("Zstandard", 0, b"\x28\xb5\x2f\xfd"),
    *(("EnCase image", 0, magic + b"\x09\x0d\x0a\xff\0") for magic in (b"EVF", b"LVF")),
    *(("EnCase image", 0, magic + b"\x0d\x0a\x81\0") for magic in (b"EVF2", b"LEF2")),
    ("AFF image", 0, b"AFF10\r\n\0"),
    ("AD1 image", 0, b"ADSEGMENTEDFILE\0"),
    ("VMDK disk", 0, b"KDMV"),
    ("VHDX disk", 0, b"vhdxfile"),
    ("QCOW disk", 0, b"QFI\xfb"),
    ("VirtualBox disk", 64, b"\x7f\x10\xda\xbe"),
    ("VHD disk", 0, b"conectix"),
    # of raw disks: a table of partitions, or one partition
    ("raw disk", 512, b"EFI PART"),
    ("raw disk, encrypted", 0, b"LUKS\xba\xbe"),
    ("raw disk, encrypted", 3, b"-FVE-FS-"),
    ("raw disk", 3, b"NTFS    "),
    ("raw disk", 3, b"EXFAT   "),
    ("raw disk", 54, (b"FAT12   ", b"FAT16   ")),
    ("raw disk", 82, b"FAT32   "),
    ("raw disk", 0, b"XFSB"),
    ("raw disk", 32, b"NXSB"),
    ("raw disk", 1024, (b"H+\0\4", b"HX\0\5", b"\x10\x20\xf5\xf2")),  # HFS+, HFSX, F2FS
    ("raw disk", 512, b"LABELONE"),
    ("raw disk", 0x10040, b"_BHRfS_M"),
    ("disc", 0x8001, (b"CD001", b"BEA01")),  # ISO 9660, UDF
    ("disc", 0, b"\0" + b"\xff" * 10 + b"\0"),  # with the marks between its sectors
)


_EXT_BLOCKS = {bytes([power, 0, 0, 0]) for power in range(7)}
_EXT_ERRORS = {bytes([policy, 0]) for policy in (1, 2, 3)}


def is_litter(name: str | PurePath) -> bool:
    """Whether a name is one that an operating system leaves beside people's files; folders in it count.

    >>> is_litter("trip/__MACOSX/._IMG_1.jpg"), is_litter("Thumbs.db"), is_litter("IMG_1.jpg")
    (True, True, False)
    """
    if _in_litter_folder(name):
        return True
    name = _parts(name)[-1]
    if name in _LITTER or name.startswith(_LITTER_PREFIXES) or name.endswith(_LITTER_SUFFIXES):
        return True
    return _DELETED.fullmatch(name) is not None


def is_litter_file(name: str | PurePath, kind: Callable[[], MediaKind]) -> bool:
    """As `is_litter`, of a file whose content is of a `kind`, asked for where it matters: an image or a video
    is none, unless its folder is.
    """
    return is_litter(name) and (_in_litter_folder(name) or kind() == "other")


def _in_litter_folder(name: str | PurePath) -> bool:
    return not LITTER_FOLDERS.isdisjoint(_parts(name))


def _parts(name: str | PurePath) -> list[str]:
    return str(name).replace("\\", "/").lower().removesuffix("/").split("/")


def is_edit_list(name: str | PurePath) -> bool:
    """Whether a name is one of EDIT_LISTS.

    >>> is_edit_list("IMG_1.AAE"), is_edit_list("IMG_1.jpg")
    (True, False)
    """
    return PurePath(name).suffix[1:].upper() in EDIT_LISTS


def file_format(path: PurePath) -> tuple[MediaKind, str]:
    """Kind of a file and what people call it, such as HEIC, PDF or no suffix: by the content of a `Path`, and
    by its suffix where that says nothing or the path is pure.
    """
    suffix = path.suffix
    name = suffix[1:].upper() or "no suffix"
    head = b""
    if isinstance(path, Path):
        try:
            if not path.is_file():  # a pipe would keep its reader waiting
                return "other", name
            with path.open("rb") as file:
                head = file.read(HEAD_BYTES)
        except (OSError, ValueError):
            pass
    known = known_format(head)
    if known not in (None, "BMP"):  # two bytes say little of a file that is not called so
        raw = known in ("TIFF", "raw") and suffix.lower() in _RAW_SUFFIXES
        return "image", name if raw else str(known)
    if suffix.lower() in _UNREAD_SUFFIXES:
        return "image", name
    if suffix.lower() in _WITHHELD_SUFFIXES and (kind := kind_by_name(path.stem)) != "other":
        return kind, name
    if (video := unread_video(head)) is not None:
        return "video", video
    if suffix.lower() in _UNREAD_VIDEO_SUFFIXES and not _is_video(head):
        return "video", name
    if kind_of_head(head) == "video" and suffix.lower() not in _SOUND_SUFFIXES:
        return "video", "video"
    return kind_by_name(path), name


def media_kind(path: str | Path, name: str | PurePath | None = None) -> MediaKind:
    """The kind of a file: by its content, and by its name where the content is of no known kind.

    `name` is what a file was called that is stored under another name; `path` by default.
    """
    kind = kind_by_content(path)
    return kind_by_name(path if name is None else name) if kind == "other" else kind


def kind_by_name(name: str | PurePath) -> MediaKind:
    """The kind that the suffix of a name stands for, in upper or lower case.

    >>> kind_by_name("portrait.JPG"), kind_by_name("clip.mkv"), kind_by_name("notes.txt")
    ('image', 'video', 'other')
    """
    suffix = PurePath(name).suffix.lower()
    return "image" if suffix in IMAGE_SUFFIXES else "video" if suffix in VIDEO_SUFFIXES else "other"


def kind_by_content(path: str | Path) -> MediaKind:
    """The kind that the first bytes of a file say, whatever its name; "other" for what cannot be read.

    Images: those of `image_format`. Videos: MP4 and QuickTime, Matroska and WebM, AVI, MPEG transport and
    program streams, FLV, Ogg, Windows Media. A pipe or a device is not waited for: it is "other".
    """
    try:
        # Opening a pipe to which nobody writes would never return.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(handle, "rb") as file:
            return kind_of_head(file.read(HEAD_BYTES) if stat.S_ISREG(os.fstat(handle).st_mode) else b"")
    except (OSError, ValueError):
        return "other"


def kind_of_head(head: bytes) -> MediaKind:
    """As `kind_by_content`, of the first HEAD_BYTES bytes of a file."""
    # Videos first: two bytes make a BMP, and a transport stream may begin with any.
    if _is_video(head):
        return "video"
    if image_format(head) is not None:
        return "image"
    return "video" if known_format(head) is None and _is_cut_transport_stream(head) else "other"


def image_format(head: bytes) -> str | None:
    """The format of an image that is read, as people call it, by its first bytes; else None.

    >>> image_format(b"GIF89a..."), image_format(b"8BPS...")
    ('GIF', None)
    """
    known = known_format(head)
    return known if known in _READ_FORMATS else None


def known_format(head: bytes) -> str | None:
    """As `image_format`, with the formats that are known and not read.

    >>> known_format(b"8BPS...")
    'PSD'
    """
    name = _named(_FORMATS, head)
    if name == "HEIC" and b"avif" in head[8:64] and b"heic" not in head[8:64]:
        return "AVIF"  # both are of one family: the list of brands tells them apart
    if name is not None:
        return name
    if head.startswith(b"BM"):
        return "BMP"
    return "SVG" if _is_svg(head) else "TGA" if _is_tga(head) else None


def _is_svg(head: bytes) -> bool:
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    return text.startswith(b"<") and b"<svg" in text and b"<html" not in text.lower()


def _is_tga(head: bytes) -> bool:
    """Whether the header of a TGA, which has no magic, makes sense: colour map, type, size and depth."""
    return (
        len(head) >= 18
        and head[2] in (1, 2, 3, 9, 10, 11)
        and head[1] == (head[2] in (1, 9))
        and (head[1] == 1 or not any(head[3:8]))
        and any(head[12:14])
        and any(head[14:16])
        and head[16] in (8, 15, 16, 24, 32)
        and head[17] < 0x40
    )


def document_format(head: bytes) -> str | None:
    """What a file is called, by its first bytes, that is no image and may hold some; None for any other.

    >>> document_format(b"<!DOCTYPE html><html>...")
    'HTML'
    """
    text = head[:1024]
    if b"%PDF-" in text:  # some begin with something else
        return "PDF"
    if re.match(rb"(\xef\xbb\xbf)?\s*<(!doctype html|html|head|body)\b", text, re.IGNORECASE):
        return "HTML"
    if _EMAIL.match(text):
        return "e-mail"
    return _named(_DOCUMENTS, head)


def unread_video(head: bytes) -> str | None:
    """What a video is called that is not read, by its first bytes; None for any other file.

    >>> unread_video(b"DKIF...")
    'IVF'
    """
    return _named(_UNREAD_VIDEOS, head)


def _named(formats: _Formats, head: bytes) -> str | None:
    return next((name for name, start, magic in formats if head.startswith(magic, start)), None)


def sound_format(head: bytes) -> str | None:
    """What a sound recording is called, by its first bytes; None for any other file.

    >>> sound_format(b"#!AMR...")
    'AMR'
    """
    name = _named(_SOUNDS, head)
    return None if name is None or re.search(b"theora|OVP80", head) else name


def archive_format(head: bytes) -> str | None:
    """What an archive is called, by its first bytes; None for what is none.

    >>> archive_format(b"BZh91AY&SY")
    'bzip2'
    """
    return _named(_ARCHIVES, head) or ("tar" if _is_old_tar(head) else "raw disk" if _is_disk(head) else None)


def _is_old_tar(head: bytes) -> bool:
    """Whether a tar begins here that is older than its magic, by the checksum of its first header."""
    try:
        return bool(tarfile.TarInfo.frombuf(head[: tarfile.BLOCKSIZE], "utf-8", "surrogateescape").name)
    except (tarfile.HeaderError, ValueError):
        return False


def _is_disk(head: bytes) -> bool:
    """Whether a head is that of a disk with a table of partitions as DOS has it, or of a partition of Linux
    (ext2 to ext4), by more than the two bytes of their magic.
    """
    entries = [head[at : at + 16] for at in range(446, 510, 16)]
    used = [entry for entry in entries if any(entry)]
    table = head[510:512] == b"\x55\xaa" and all(
        entry[0] in (0, 0x80) and entry[4] and any(entry[8:12]) and any(entry[12:16]) for entry in used
    )
    # The size of a block as a power of two above 1 KiB, and what to do after errors.
    ext = head[1080:1082] == b"\x53\xef" and head[1048:1052] in _EXT_BLOCKS and head[1084:1086] in _EXT_ERRORS
    return (table and bool(used)) or ext


def _is_video(head: bytes) -> bool:
    if sound_format(head) is not None:
        return False
    if head[4:8] == b"ftyp":
        return known_format(head) is None
    return (
        head.startswith(_VIDEO_MAGICS)
        or head[4:8] in _QUICKTIME_ATOMS
        or (head[:4] == b"RIFF" and head[8:12] == b"AVI ")
        or any(_is_transport_stream(head, first, step) for first, step in ((0, 188), (4, 192), (0, 204)))
    )


def _is_cut_transport_stream(head: bytes) -> bool:
    """Whether a head, as long as they are read, begins amid a packet of a transport stream."""
    whole = len(head) == HEAD_BYTES
    return whole and any(
        set(head[first::step]) == {0x47} for step in (188, 192, 204) for first in range(step)
    )


def _is_transport_stream(head: bytes, first: int, step: int) -> bool:
    return len(head) > first + 4 * step and all(head[first + i * step] == 0x47 for i in range(5))
