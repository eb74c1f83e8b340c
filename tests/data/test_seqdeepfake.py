import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from forgerank.data.formats.seqdeepfake import SeqDeepFake, read_samples
from forgerank.data.sample import load_sample
from forgerank.types import InputError

HEADER = "file_path,label"


def write_set(root: Path, rows: list[str], *, prefix: str = "", records: str | None = None) -> Path:
    """Two 8 px images, an annotation table of `rows` and, if given, records."""
    for number in range(2):
        path = root / "images" / "train" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number, 2, 3)).save(path)
    (root / "annotations").mkdir()
    (root / "annotations" / "train.csv").write_text("\n".join(rows) + "\n")
    if records is not None:
        (root / "records").mkdir()
        (root / "records" / "train.jsonl").write_text(records)
    return root


def test_reads_the_academic_layout_relative_to_the_folder_above(tmp_path: Path) -> None:
    rows = [
        HEADER,
        'facial_components/images/train/0.png,"[1, 2, 4, 0, 0]"',
        'facial_components/images/train/1.png,"[0, 0, 0, 0, 0]"',
    ]
    root = write_set(tmp_path / "facial_components", rows)
    samples = list(read_samples(root, "train"))
    assert [sample.sequence for sample in samples] == [(1, 2, 4), ()]
    assert samples[0].image == tmp_path / "facial_components/images/train/0.png"
    assert (samples[0].dataset, samples[0].split, samples[0].group) == ("facial_components", "train", "0")
    assert samples[0].points is None
    assert samples[0].mask is None


def test_reads_points_masks_and_groups_of_the_forge(tmp_path: Path) -> None:
    record = {
        "file_path": "images/train/0.png",
        "mask": "masks/train/0.png",
        "points": [[1, 2], [3, 4], [5, 6], [7, 8], [9, 10]],
        "group": "anna",
        "source": "ffhq-0012.jpg",
        "steps": [{"component": "nose"}],
    }
    rows = [HEADER, 'images/train/0.png,"[1]"', 'images/train/1.png,"[]"']
    root = write_set(tmp_path / "set", rows, records=json.dumps(record) + "\n")
    (root / "masks/train").mkdir(parents=True)
    Image.fromarray(np.full((8, 8), 1, dtype=np.uint8)).save(root / "masks/train/0.png")
    source = SeqDeepFake(root, "train")
    first, second = source.sample(0), source.sample(1)
    assert (first.group, first.source, first.mask) == ("anna", "ffhq", root / "masks/train/0.png")
    assert first.points is not None
    assert first.points.tolist() == record["points"]
    assert second.points is None
    image = source.load(0, np.random.default_rng(0))
    assert image.image.shape == (8, 8, 3)
    assert image.mask is not None
    assert image.mask.min() == 1
    assert source.load(1, np.random.default_rng(0)).points is None


def test_reverse_turns_sequences_round(tmp_path: Path) -> None:
    root = write_set(tmp_path / "set", [HEADER, 'images/train/0.png,"[3, 1, 0, 0, 0]"'])
    assert SeqDeepFake(root, "train", reverse=True).sample(0).sequence == (1, 3)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ('images/train/0.png,"1, 2"', "is not JSON"),
        ('images/train/0.png,"[1, 1, 0, 0, 0]"', "repeated"),
        ('images/train/0.png,"[0, 1, 0, 0, 0]"', r"1\.\.5"),
        ('images/train/0.png,"[6, 0, 0, 0, 0]"', r"1\.\.5"),
        ('images/train/0.png,"[true, 0]"', "list of integers"),
        ('images/train/0.png,"[1.0, 0]"', "list of integers"),
        ('images/train/0.png,"{}"', "list of integers"),
        ('images/train/0.png,"[1, 2, 3, 4, 5, 0]"', "longer than 5"),
        ('images/train/9.png,"[1]"', "images/train/9.png: missing image"),
        ('/images/train/0.png,"[1]"', "must be relative"),
        ("images/train/0.png", "expected file_path and label"),
    ],
)
def test_bad_rows_are_reported_with_file_and_line(tmp_path: Path, row: str, reason: str) -> None:
    root = write_set(tmp_path / "set", [HEADER, 'images/train/1.png,"[]"', row])
    with pytest.raises(InputError, match=rf"train\.csv:3: .*{reason}"):
        SeqDeepFake(root, "train")


@pytest.mark.parametrize(
    ("rows", "reason"),
    [(["file_path,labels"], "missing column label"), (["x", "1"], "missing column file_path, label")],
)
def test_missing_columns(tmp_path: Path, rows: list[str], reason: str) -> None:
    with pytest.raises(InputError, match=rf"train\.csv:1: {reason}"):
        SeqDeepFake(write_set(tmp_path / "set", rows), "train")


def test_missing_table_and_broken_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"train\.csv: cannot be read"):
        SeqDeepFake(tmp_path, "train")
    points = {"file_path": "images/train/0.png", "points": [[0, 0]] * 5}
    root = write_set(tmp_path / "set", [HEADER, 'images/train/0.png,"[]"'], records=json.dumps(points))
    (root / "images/train/0.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"0\.png: not an image"):
        SeqDeepFake(root, "train").load(0, np.random.default_rng(0))


@pytest.mark.parametrize("record", ["{", '{"mask": "x"}', "[1]"])
def test_bad_records_are_reported_with_their_line(tmp_path: Path, record: str) -> None:
    root = write_set(tmp_path / "set", [HEADER, 'images/train/0.png,"[]"'], records=record)
    with pytest.raises(InputError, match=r"train\.jsonl:1: bad record"):
        SeqDeepFake(root, "train")


def test_points_must_be_five(tmp_path: Path) -> None:
    record = json.dumps({"file_path": "images/train/0.png", "points": [[0, 0]]})
    root = write_set(tmp_path / "set", [HEADER, 'images/train/0.png,"[]"'], records=record)
    with pytest.raises(InputError, match="five finite points"):
        SeqDeepFake(root, "train")


def test_masks_must_be_grey(tmp_path: Path) -> None:
    record = {"file_path": "images/train/0.png", "points": [[0, 0]] * 5, "mask": "images/train/1.png"}
    root = write_set(tmp_path / "set", [HEADER, 'images/train/0.png,"[1]"'], records=json.dumps(record))
    with pytest.raises(InputError, match="must be 8-bit grey, got mode RGB"):
        SeqDeepFake(root, "train").load(0, np.random.default_rng(0))


def test_what_is_known_in_part_is_handed_on(tmp_path: Path) -> None:
    root = write_set(tmp_path / "set", [HEADER, 'images/train/0.png,"[0]"'])
    (sample,) = read_samples(root, "train")
    known = replace(sample, points=np.zeros((5, 2), np.float32), parts=(1, 0, None, 0, 0), fake=True)
    image = load_sample(known)
    assert (image.sequence, image.parts, image.fake, image.mask) == (
        (),
        (1, 0, None, 0, 0),
        True,
        None,
    )
    assert known.forged
    assert not load_sample(replace(known, parts=None, fake=False)).fake
    assert load_sample(sample).points is None
