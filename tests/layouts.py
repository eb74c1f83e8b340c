"""Tiny copies of every data set's layout, traps included: real videos of moving blobs, tables, JSON, tars.

Each function writes under `root`, which it makes. `face`, uint8 RGB (H, W, 3), is pasted into every frame.
"""

import csv
import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path
from zlib import crc32

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

FRAMES, RATE = 6, 5  # of each video, frames and frames/s

# FaceForensics++: one pair per split. `splits/*.json` lists each pair once, the fakes exist in both orders.
PAIRS = {"train": ("071", "054"), "val": ("720", "672"), "test": ("953", "974")}
METHODS = ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures", "FaceShifter")


def make_frames(
    seed: int, *, face: NDArray[np.uint8] | None = None, count: int = FRAMES
) -> NDArray[np.uint8]:
    """A coloured blob that moves over a gradient, (count, H, W, 3), each seed another one."""
    rng = np.random.default_rng(seed)
    height, width = (48, 64) if face is None else (side + side % 2 for side in face.shape[:2])
    y, x = np.mgrid[:height, :width].astype(np.float32)
    ramp = (x / width * rng.uniform(-80, 80) + y / height * rng.uniform(-80, 80))[..., None]
    background = np.clip(rng.uniform(60, 190, size=3) + ramp, 0, 255)
    colour, (x0, y0), step = rng.uniform(0, 255, size=3), rng.uniform(0.2, 0.6, size=2), rng.uniform(1, 4)
    frames = np.empty((count, height, width, 3), dtype=np.uint8)
    for number in range(count):
        inside = np.hypot(x - x0 * width - step * number, y - y0 * height - step * number / 2) < height / 5
        frames[number] = np.where(inside[..., None], colour, background)
        if face is not None:
            frames[number, : face.shape[0], : face.shape[1]] = face
    return frames


def write_video(path: Path, *, face: NDArray[np.uint8] | None = None, count: int = FRAMES) -> None:
    """An H.264 video whose content follows from the file's name alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = make_frames(crc32(path.name.encode()), face=face, count=count)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.thread_count = 1
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def write_faceforensics(
    root: Path,
    *,
    compressions: Iterable[str] = ("c23",),
    methods: Iterable[str] = METHODS,
    splits: bool = True,
    face: NDArray[np.uint8] | None = None,
) -> None:
    """6 reals and 6 fakes per method and compression; masks lie beside the compressions, as they do there."""
    methods = tuple(methods)
    for level in compressions:
        for first, second in PAIRS.values():
            for name in (first, second):
                write_video(root / f"original_sequences/youtube/{level}/videos/{name}.mp4", face=face)
            for method in methods:
                folder = root / "manipulated_sequences" / method / level / "videos"
                write_video(folder / f"{first}_{second}.mp4", face=face)
                write_video(folder / f"{second}_{first}.mp4", face=face)
    for method in methods:
        write_video(root / "manipulated_sequences" / method / "masks/videos/071_054.mp4")
    if splits:
        (root / "splits").mkdir()
        for split, pair in PAIRS.items():
            (root / "splits" / f"{split}.json").write_text(json.dumps([pair]))


def write_dfd(root: Path, *, level: str = "c23", face: NDArray[np.uint8] | None = None) -> None:
    """4 reals of 4 actors, 3 fakes: actors 01, 02 and 03 are connected by them, 09 stands alone. No split."""
    for name in ("01__exit_phone_room", "02__kitchen_pan", "03__hugging_happy", "09__kitchen_still"):
        write_video(root / f"original_sequences/actors/{level}/videos/{name}.mp4", face=face)
    for name in ("01_02__exit_phone_room__YVGY8LOK", "02_01__kitchen_pan__A1B2C3D4", "03_02__hug__Z9Y8X7W6"):
        write_video(root / f"manipulated_sequences/DeepFakeDetection/{level}/videos/{name}.mp4", face=face)


CELEB_REAL = ("Celeb-real/id0_0000", "Celeb-real/id0_0001", "Celeb-real/id1_0000", "Celeb-real/id2_0000")
CELEB_YOUTUBE = ("YouTube-real/00000", "YouTube-real/00170")
CELEB_FAKE = (
    "Celeb-synthesis/id0_id1_0000",
    "Celeb-synthesis/id1_id0_0000",
    "Celeb-synthesis/id2_id3_0000",
)


def write_celebdf(root: Path, *, level: bool = False, face: NDArray[np.uint8] | None = None) -> None:
    """6 reals and 3 fakes; 2 reals and 1 fake are for testing. `level`: the extra `videos/` folder.

    1 is REAL in the list.
    """
    for name in (*CELEB_REAL, *CELEB_YOUTUBE, *CELEB_FAKE):
        folder, _, stem = name.partition("/")
        write_video(root / folder / ("videos" if level else "") / f"{stem}.mp4", face=face)
    (root / "List_of_testing_videos.txt").write_text(
        "1 YouTube-real/00170.mp4\n1 Celeb-real/id2_0000.mp4\n0 Celeb-synthesis/id2_id3_0000.mp4\n"
    )


def write_dfdc(root: Path, *, face: NDArray[np.uint8] | None = None) -> None:
    """Two parts of the training set (3 reals, 3 fakes) and a test folder with labels.csv (1 real, 1 fake).

    One fake's original lies in the other part.
    """
    parts = {
        "dfdc_train_part_0": {"aaaa": None, "bbbb": None, "cccc": "aaaa", "dddd": "aaaa"},
        "dfdc_train_part_1": {"eeee": None, "ffff": "bbbb"},
    }
    for part, videos in parts.items():
        metadata = {}
        for name, original in videos.items():
            write_video(root / part / f"{name}.mp4", face=face)
            label = "REAL" if original is None else "FAKE"
            metadata[f"{name}.mp4"] = {"label": label, "split": "train"}
            if original is not None:
                metadata[f"{name}.mp4"]["original"] = f"{original}.mp4"
        (root / part / "metadata.json").write_text(json.dumps(metadata))
    for name in ("gggg", "hhhh"):
        write_video(root / "test" / f"{name}.mp4", face=face)
    (root / "test/labels.csv").write_text("filename,label\ngggg.mp4,0\nhhhh.mp4,1\n")


DFDC_PREVIEW = {  # path: (split, target, swapped): the person that is shown, and whose face is put there
    "original_videos/111/111_A_001.mp4": ("train", 111, None),
    "original_videos/222/222_A_001.mp4": ("train", 222, None),
    "original_videos/333/333_C_001.mp4": ("test", 333, None),
    "original_videos/444/444_C_001.mp4": ("test", 444, None),
    "method_A/111/111_A/222_111_A_001.mp4": ("train", 111, 222),
    "method_B/111/111_A/222_111_A_001.mp4": ("train", 111, 222),
    "method_B/444/444_C/333_444_C_001.mp4": ("test", 444, 333),
}


def write_dfdc_preview(root: Path, *, face: NDArray[np.uint8] | None = None) -> None:
    """4 reals and 3 fakes by two methods, which share a file name; 2 reals and 1 fake are for testing."""
    entries = {}
    for path, (split, target, swapped) in DFDC_PREVIEW.items():
        write_video(root / path, face=face)
        label = "real" if swapped is None else "fake"
        entries[path] = {"label": label, "set": split, "augmentations": []}
        entries[path] |= {"target_id": target, "swapped_id": swapped}
    (root / "dataset.json").write_text(json.dumps(entries))


# Frame names are numbers without padding: 10 comes after 9. Sequence "0" exists in every tar.
WILD_FRAMES = ("0.png", "2.png", "10.png")


def write_wilddeepfake(
    root: Path, *, tars: bool = True, spaces: bool = False, face: NDArray[np.uint8] | None = None
) -> None:
    """Two sequences in each of `0` and `1` of the four folders: 16 sequences of 3 frames.

    `tars`: `0.tar.gz` instead of a folder `0`. `spaces`: `real train` for `real_train`.
    """
    for label in ("real", "fake"):
        for split in ("train", "test"):
            folder = root / f"{label}{' ' if spaces else '_'}{split}"
            for video in ("0", "1"):
                # 10.png first, as an archive may hold it
                images = {
                    f"{label}/{sequence}/{name}": frame
                    for sequence in ("0", "1")
                    for name, frame in zip(
                        reversed(WILD_FRAMES),
                        make_frames(crc32(f"{label}{split}{video}{sequence}".encode()), face=face),
                        strict=False,
                    )
                }
                if tars:
                    # Some archives put ./ in front of every name.
                    top = video if video == "0" else f"./{video}"
                    write_tar(folder / f"{video}.tar.gz", {f"{top}/{k}": v for k, v in images.items()})
                else:
                    write_images(folder / video, images)


def encode(image: NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


def write_images(folder: Path, images: dict[str, NDArray[np.uint8]]) -> None:
    for name, image in images.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(encode(image))


def write_tar(path: Path, images: dict[str, NDArray[np.uint8]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for name, image in images.items():
            data = encode(image)
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))


def write_deepfakebench(root: Path, *, face: NDArray[np.uint8] | None = None) -> None:
    """FaceForensics++ (c23 and c40) and Celeb-DF-v2 (no level) as frames, paths with reversed slashes.

    FaceForensics++: 2 reals and 2 x 2 fakes per level, train and test; the same names under both methods.
    Celeb-DF-v2: 1 real and 1 fake for training, the same two for testing and again, copied, for validation.
    """
    forensics: dict[str, dict[str, dict[str, dict[str, object]]]] = {}
    videos = [("FF-real", "original_sequences/youtube", "071", "train")]
    videos += [("FF-real", "original_sequences/youtube", "953", "test")]
    for label, method in (("FF-DF", "Deepfakes"), ("FF-FS", "FaceSwap")):
        videos += [(label, f"manipulated_sequences/{method}", "071_054", "train")]
        videos += [(label, f"manipulated_sequences/{method}", "953_974", "test")]
    for label, folder, name, split in videos:
        for level in ("c23", "c40"):
            place = f"FaceForensics++/{folder}/{level}/frames/{name}"
            entry = _bench_video(root, place, label, face)
            forensics.setdefault(label, {}).setdefault(split, {}).setdefault(level, {})[name] = entry
    celeb: dict[str, dict[str, dict[str, object]]] = {}
    for label, folder, names in (
        ("CelebDFv2_real", "Celeb-real", {"train": "id0_0000", "test": "id2_0000"}),
        ("CelebDFv2_fake", "Celeb-synthesis", {"train": "id0_id1_0000", "test": "id2_id3_0000"}),
    ):
        for split, name in names.items():
            entry = _bench_video(root, f"Celeb-DF-v2/{folder}/frames/{name}", label, face)
            celeb.setdefault(label, {})[split] = {name: entry}
        celeb[label]["val"] = celeb[label]["test"]
    (root / "dataset_json").mkdir()
    for dataset, content in (("FaceForensics++", forensics), ("Celeb-DF-v2", celeb)):
        (root / "dataset_json" / f"{dataset}.json").write_text(json.dumps({dataset: content}))


def _bench_video(root: Path, place: str, label: str, face: NDArray[np.uint8] | None) -> dict[str, object]:
    frames = make_frames(crc32(place.encode()), face=face, count=3)
    write_images(root / place, {f"{number:03d}.png": frame for number, frame in enumerate(frames)})
    names = [f"{place}/{number:03d}.png".replace("/", "\\") for number in range(len(frames))]
    return {"label": label, "frames": names}


def write_folder(root: Path, *, count: int = 4, face: NDArray[np.uint8] | None = None) -> None:
    """`real/` and `fake/` with `count` images each, 00.png, 01.png ...: equal names share a source."""
    for label in ("real", "fake"):
        frames = {
            f"{number:02d}.png": make_frames(crc32(f"{label}{number}".encode()), face=face, count=1)[0]
            for number in range(count)
        }
        write_images(root / label, frames)


def write_table(root: Path, rows: list[dict[str, str]], *, face: NDArray[np.uint8] | None = None) -> None:
    """`labels.csv` with the rows' keys as columns, and every image of its column `path`."""
    for row in rows:
        write_images(root, {row["path"]: make_frames(crc32(row["path"].encode()), face=face, count=1)[0]})
    with (root / "labels.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


ATTRIBUTE_ROWS = {
    "train": (("Bangs-Eyeglasses", [1, 2, 0, 0, 0]), ("original", [0, 0, 0, 0, 0])),
    "val": (("Smiling-Young-Beard", [4, 5, 3, 0, 0]), ("original", [0, 0, 0, 0, 0])),
    "test": (("Young", [5, 0, 0, 0, 0]), ("original", [0, 0, 0, 0, 0])),
}


def write_attributes(root: Path, *, face: NDArray[np.uint8] | None = None) -> None:
    """Seq-DeepFake's facial attributes: two images per split, one forged. `file_path` starts at ROOT/..."""
    for split, rows in ATTRIBUTE_ROWS.items():
        table = [["file_path", "label"]]
        for number, (folder, sequence) in enumerate(rows):
            name = f"images/{split}/{folder}/{number:05d}.png"
            write_images(root, {name: make_frames(crc32(name.encode()), face=face, count=1)[0]})
            table.append([f"{root.name}/{name}", json.dumps(sequence)])
        (root / "annotations").mkdir(exist_ok=True)
        with (root / "annotations" / f"{split}.csv").open("w", newline="") as stream:
            csv.writer(stream).writerows(table)
