import csv
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PILImage
from typer.testing import CliRunner

from forgerank.cli.main import app
from forgerank.forge.dataset import LeftOut, Recipe, collect_photos, forge_dataset, sequence_label
from forgerank.forge.photos import LIKE_RESOLUTION, Photo, PhotoEntry, choose_donor
from forgerank.labels import COMPONENTS
from forgerank.types import InputError

PhotoFolder = Callable[[], tuple[Path, Path, Path]]


def tree_hash(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return digest.hexdigest()


def read_records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def read_pixels(path: Path) -> np.ndarray:
    with PILImage.open(path) as image:
        return np.asarray(image)


def test_a_data_set_holds_what_it_says(photo_folder: PhotoFolder, tmp_path: Path) -> None:
    photos, landmarks, splits = photo_folder()
    seen: list[tuple[int, int]] = []
    out = tmp_path / "forged"
    counts = forge_dataset(
        photos,
        out,
        recipe=Recipe(seed=3),
        per_photo=6,
        landmarks=landmarks,
        split_csv=splits,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert counts == {"train": 18, "val": 6}
    assert seen == [(i, 24) for i in range(1, 25)]
    for split, count in counts.items():
        rows = list(csv.DictReader((out / f"annotations/{split}.csv").read_text().splitlines()))
        records = read_records(out / f"records/{split}.jsonl")
        assert len(rows) == len(records) == count
        for row, record in zip(rows, records, strict=True):
            assert row["file_path"] == record["file_path"]
            assert json.loads(row["label"]) == record["label"]
            named = [COMPONENTS.index(step["component"]) + 1 for step in record["steps"]]
            assert record["label"] == named + [0] * (5 - len(named))
            image, mask = (read_pixels(out / record[key]) for key in ("file_path", "mask"))
            assert image.shape[:2] == mask.shape
            bits = {i + 1 for i in range(5) if (mask >> i & 1).any()}
            assert bits == set(named)
            folder = Path(row["file_path"]).parent.name
            assert folder == ("-".join(COMPONENTS[i - 1] for i in named) or "original")
            assert (record["group"] == "person-3") == (split == "val")


def test_the_same_seed_gives_the_same_bytes_for_any_number_of_workers(
    photo_folder: PhotoFolder, tmp_path: Path
) -> None:
    photos, landmarks, splits = photo_folder()
    for name, workers, seed in [("one", 1, 5), ("two", 2, 5), ("other", 1, 6)]:
        forge_dataset(
            photos,
            tmp_path / name,
            recipe=Recipe(seed=seed),
            per_photo=2,
            workers=workers,
            landmarks=landmarks,
            split_csv=splits,
        )
    assert tree_hash(tmp_path / "one") == tree_hash(tmp_path / "two")
    assert tree_hash(tmp_path / "one") != tree_hash(tmp_path / "other")


def test_whole_face_forgeries_and_found_landmarks(photo_folder: PhotoFolder, tmp_path: Path) -> None:
    photos, _, _ = photo_folder()
    out = tmp_path / "binary"
    counts = forge_dataset(photos, out, recipe=Recipe(steps=(0, 1), task="binary"), per_photo=5)
    assert sum(counts.values()) == 20
    records = [record for path in (out / "records").iterdir() for record in read_records(path)]
    assert {record["label"][0] for record in records} == {0, 1}
    assert {step["edit"] for record in records for step in record["steps"]} == {"face_swap", "self_blend"}


def test_single_edits_by_choice(photo_folder: PhotoFolder, tmp_path: Path) -> None:
    photos, landmarks, splits = photo_folder()
    forge_dataset(
        photos,
        tmp_path / "out",
        recipe=Recipe(steps=(1, 5), single_share=1.0),
        per_photo=2,
        landmarks=landmarks,
        split_csv=splits,
    )
    records = read_records(tmp_path / "out/records/train.jsonl")
    assert all(len(record["steps"]) == 1 for record in records)


def test_a_table_may_spell_accents_in_another_way_than_the_disk(
    photo_folder: PhotoFolder, tmp_path: Path
) -> None:
    photos, landmarks, splits = photo_folder()
    composed, decomposed = (unicodedata.normalize(form, "é.png") for form in ("NFC", "NFD"))
    (photos / "person-0.png").rename(photos / decomposed)
    splits.write_text(splits.read_text().replace("person-0.png", composed))
    files = np.load(landmarks)
    names = [composed if name == "person-0.png" else name for name in files["files"]]
    np.savez(landmarks, files=names, landmarks=files["landmarks"])
    left_out = LeftOut()
    collect_photos(photos, landmarks=landmarks, split_csv=splits, left_out=left_out)
    assert (left_out.unnamed, left_out.faceless) == ([], [])


def test_names_need_not_be_utf_8(photo_folder: PhotoFolder, tmp_path: Path) -> None:
    photos, _, _ = photo_folder()
    only, *others = sorted(photos.iterdir())
    for path in others:
        path.unlink()
    only.rename(photos / os.fsdecode(b"zo\xe9.png"))
    assert sum(forge_dataset(photos, tmp_path / "out", recipe=Recipe(), per_photo=1).values()) == 1
    (record,) = (record for path in (tmp_path / "out/records").iterdir() for record in read_records(path))
    assert record["source"] == os.fsdecode(b"zo\xe9.png")


def damage(folder: Path) -> None:
    """A truncated photograph, two files of kinds that are not read, one that is no image, and litter."""
    whole = (folder / "person-0.png").read_bytes()
    (folder / "bad.png").write_bytes(whole[: len(whole) // 2])
    (folder / "p02.jxl").write_bytes(b"\xff\x0a")
    (folder / "p03.jp2").write_bytes(b"\xff\x4f\xff\x51")
    (folder / "notes.txt").write_text("notes")
    (folder / "._person-1.png").write_bytes(b"litter")


@pytest.mark.parametrize("known", [True, False], ids=["landmarks", "found"])
def test_bad_photographs_are_passed_over_and_named(
    photo_folder: PhotoFolder, tmp_path: Path, known: bool
) -> None:
    photos, landmarks, splits = photo_folder()
    damage(photos)
    splits.write_bytes(b"\xef\xbb\xbf" + splits.read_bytes() + b"bad.png,bad,train\n")
    options = {"split_csv": splits, "landmarks": landmarks if known else None}
    left_out = LeftOut()
    counts = forge_dataset(
        photos, tmp_path / "out", recipe=Recipe(), per_photo=1, left_out=left_out, **options
    )
    assert counts == {"train": 3, "val": 1}
    lines = [str(error) for error in left_out.unread]
    assert len(lines) == 2
    assert "JPEG 2000 1, JPEG XL 1" in lines[0]
    assert lines[1].startswith(f"{photos / 'bad.png'}: ")
    assert left_out.others == {"TXT": 1}
    result = CliRunner().invoke(
        app, ["forge", str(photos), "--out", str(tmp_path / "again"), "--split-csv", str(splits)]
    )
    assert result.exit_code == 2
    assert result.stdout == f"{tmp_path / 'again'}: 12 train, 4 val\n"
    assert len(result.stderr.splitlines()) == 3


def test_too_large_photographs_name_the_option(photo_folder: PhotoFolder, tmp_path: Path) -> None:
    photos, _, _ = photo_folder()
    result = CliRunner().invoke(
        app, ["forge", str(photos), "--out", str(tmp_path / "out"), "--max-pixels", "99"]
    )
    first, *_ = result.stderr.splitlines()
    assert re.match(r"forgerank: .*\.png: \d+ x \d+ pixels, over the limit of 99; --max-pixels rai", first)
    assert isinstance(result.exception, InputError)


@pytest.mark.parametrize("there", [True, False])
def test_a_link_as_output_stays(photo_folder: PhotoFolder, tmp_path: Path, there: bool) -> None:
    photos, landmarks, splits = photo_folder()
    link, target = tmp_path / "link", tmp_path / "target"
    link.symlink_to(target)
    if there:
        target.mkdir()
    forge_dataset(photos, link, recipe=Recipe(), per_photo=1, landmarks=landmarks, split_csv=splits)
    assert link.is_symlink()
    assert (target / "annotations").is_dir()


def test_nothing_half_made_is_left(
    photo_folder: PhotoFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos, landmarks, splits = photo_folder()
    options = {"recipe": Recipe(), "landmarks": landmarks, "split_csv": splits, "per_photo": 2}
    write, out = Path.write_bytes, tmp_path / "out"

    def full(path: Path, content: bytes) -> int:
        if "00003" in path.name:
            raise OSError(28, "No space left on device")
        return write(path, content)

    before = set(tmp_path.iterdir())
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(InputError, match=r"out: cannot be written \(no space left on device\)"):
            forge_dataset(photos, out, workers=2, **options)
    assert set(tmp_path.iterdir()) == before
    out.mkdir()  # empty, as it may be
    assert forge_dataset(photos, out, **options) == {"train": 6, "val": 2}
    (tmp_path / "new.partial").mkdir()
    (tmp_path / "new.partial" / "kept.txt").touch()  # nobody knows whose
    with pytest.raises(InputError, match=r"new\.partial: another process is filling it"):
        forge_dataset(photos, tmp_path / "new", **options)


FORGE = """
import sys, time
from forgerank.forge import dataset

make = dataset._forge_index

def slow(index, **options):
    print("made", index, file=sys.stderr, flush=True)
    time.sleep(1)
    return make(index, **options)

dataset._forge_index = slow

if __name__ == "__main__":
    from forgerank.cli.main import main
    main()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
def test_a_forge_that_is_ended_leaves_no_process(
    photo_folder: PhotoFolder, tmp_path: Path, number: signal.Signals
) -> None:
    photos, landmarks, splits = photo_folder()
    (tmp_path / "slow.py").write_text(FORGE)
    command = [sys.executable, tmp_path / "slow.py", "forge", photos, "--out", tmp_path / "out"]
    command += ["--workers", "2", "--per-photo", "16", "--landmarks", landmarks, "--split-csv", splits]
    forge = subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True)
    assert forge.stderr is not None
    assert forge.stderr.readline().startswith("made")
    forge.send_signal(number)
    # The processes hold the other end of standard error open for as long as they live.
    _, rest = forge.communicate(timeout=60)
    assert forge.returncode == -number
    lines = [line for line in rest.splitlines() if line.startswith("forgerank")]
    assert "Traceback" not in rest
    assert lines == (["forgerank: stopped by SIGTERM"] if number == signal.SIGTERM else [])
    assert (tmp_path / "out.partial").exists() == (number == signal.SIGKILL)
    assert not (tmp_path / "out").exists()
    forge_dataset(
        photos, tmp_path / "out", recipe=Recipe(), per_photo=1, landmarks=landmarks, split_csv=splits
    )
    assert not (tmp_path / "out.partial").exists()


def test_donors_are_of_like_resolution(photos: list[Photo]) -> None:
    points = photos[0].landmarks
    entries = [
        PhotoEntry(Path(f"{i}.png"), f"person-{i}", "train", points * np.float32(scale))
        for i, scale in enumerate([1.0, 0.3, 0.45, 1.2, 2.5, 0.8, 3.0, 1.4])
    ]
    rng = np.random.default_rng(0)
    chosen = [choose_donor(entries[0], entries, rng) for _ in range(200)]
    assert all(donor.subject != entries[0].subject for donor in chosen)
    like = [1 / LIKE_RESOLUTION <= donor.eyes / entries[0].eyes <= LIKE_RESOLUTION for donor in chosen]
    assert np.mean(like) > 0.97
    # With none alike it is the nearest in resolution; with no one else the person's own image.
    assert choose_donor(entries[6], [entries[6], entries[1], entries[3]], rng) in (entries[3], entries[6])
    assert choose_donor(entries[0], entries[:1], rng) is entries[0]


def test_labels_are_padded_on_the_right() -> None:
    assert sequence_label(("lip", "eye"), "components") == [4, 2, 0, 0, 0]
    assert sequence_label((), "components") == [0] * 5
    assert sequence_label(("face",), "binary") == [1]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"steps": (0, 6)}, "0-6"),
        ({"steps": (3, 2)}, "3-2"),
        ({"steps": (0, 2), "task": "binary"}, "0-1"),
        ({"trace": "enormous"}, "light, medium, strong"),
        ({"original_share": 1.0}, "original share"),
        ({"single_share": 1.2}, "single share 1.2"),
        ({"single_share": 0.5, "steps": (2, 5)}, "no single edit"),
    ],
)
def test_bad_recipes_are_refused_in_one_line(options: dict[str, object], reason: str) -> None:
    with pytest.raises(InputError, match=reason) as caught:
        Recipe(**options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_bad_folders_are_refused_in_one_line(photo_folder: PhotoFolder, tmp_path: Path) -> None:
    photos, landmarks, splits = photo_folder()
    recipe, full, empty = Recipe(), tmp_path / "full", tmp_path / "empty"
    full.mkdir()
    empty.mkdir()
    (full / "file").write_text("mine")
    noise = tmp_path / "noise"
    noise.mkdir()
    PILImage.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(noise / "n.png")
    other, unknown = tmp_path / "a.csv", tmp_path / "b.csv"
    other.write_text("file,subject,split\nzz.png,a,train\n")
    unknown.write_text("file,subject,split\nperson-0.png,a,dev\n")
    broken = [tmp_path / f"bad{number}.npz" for number in range(5)]
    for path, shape in zip(broken, ((1, 68, 2), (2, 468, 2), (1, 468, 2)), strict=False):
        np.savez(path, files=np.array(["person-0.png"]), landmarks=np.zeros(shape))
    broken[3].write_bytes(landmarks.read_bytes()[:700])
    broken[4].touch()
    cases = [
        (photos, full, {}, "not empty"),
        (empty, tmp_path / "a", {}, "no photograph"),
        (tmp_path / "missing", tmp_path / "b", {}, "missing"),
        (noise, tmp_path / "c", {}, "no face"),
        (photos, tmp_path / "d", {"landmarks": splits}, "splits.csv"),
        (photos, tmp_path / "e", {"landmarks": landmarks, "split_csv": landmarks}, "landmarks.npz"),
        (photos, tmp_path / "f", {"landmarks": landmarks, "split_csv": other}, "names none of the"),
        (photos, tmp_path / "g", {"landmarks": landmarks, "split_csv": unknown}, "b.csv:2: split must be of"),
        (
            photos,
            tmp_path / "h",
            {"landmarks": landmarks, "splits": ["val"]},
            "none of its",
        ),
        *((photos, tmp_path / "i", {"landmarks": bad}, "bad.*npz: not a landmark file") for bad in broken),
    ]
    for source, out, options, reason in cases:
        with pytest.raises(InputError, match=reason) as caught:
            forge_dataset(source, out, recipe=recipe, per_photo=1, **options)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)
