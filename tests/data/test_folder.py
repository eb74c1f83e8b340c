from pathlib import Path

import numpy as np
import pytest

from forgerank.data.datasets import DATASETS
from forgerank.data.folder import Folder, read_folder
from forgerank.types import InputError
from layouts import write_folder, write_table


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mine")
    write_folder(root, count=40)
    return root


def test_folders_give_labels_and_groups(pictures: Path) -> None:
    samples = read_folder(pictures)
    assert [sample.sequence for sample in samples] == [()] * 40 + [(1,)] * 40
    assert {sample.dataset for sample in samples} == {pictures.name}
    by_group: dict[str, list[str]] = {}
    for sample in samples:
        by_group.setdefault(sample.group, []).append(sample.split)
    assert sorted(by_group) == [f"{number:02d}" for number in range(40)]
    assert all(len(splits) == 2 and len(set(splits)) == 1 for splits in by_group.values())


def test_splits_share_out_every_picture_once(pictures: Path) -> None:
    parts = {split: DATASETS["folder"](pictures, split, length=1) for split in ("train", "val", "test")}
    paths = [part.sample(i).image for part in parts.values() for i in range(len(part))]
    assert len(paths) == len(set(paths)) == 80
    assert len(parts["train"]) > 50
    assert len(parts["val"]) > 0
    assert len(parts["test"]) > 0


def test_a_picture_more_moves_no_other(pictures: Path, tmp_path: Path) -> None:
    write_folder(tmp_path, count=41)
    before = {sample.group: sample.split for sample in read_folder(pictures)}
    after = {sample.group: sample.split for sample in read_folder(tmp_path)}
    assert {group: after[group] for group in before} == before


def test_shares_decide_the_sizes(pictures: Path) -> None:
    assert len(Folder(pictures, "test", shares=(0, 0, 1))) == 80
    halves = [len(Folder(pictures, split, shares=(1, 1, 0))) for split in ("train", "val", "test")]
    assert sum(halves) == 80
    assert min(halves[:2]) > 20
    for shares in ((1, 1), (0, 0, 0), (1, -1, 1)):
        with pytest.raises(InputError, match="shares must be three numbers"):
            Folder(pictures, "train", shares=shares)


def test_pictures_of_one_folder_are_one_group(tmp_path: Path) -> None:
    write_folder(tmp_path / "parts", count=2)
    (tmp_path / "real").mkdir()
    (tmp_path / "fake/anna").mkdir(parents=True)
    (tmp_path / "parts/real").rename(tmp_path / "real/anna")
    for picture in (tmp_path / "parts/fake").iterdir():
        picture.rename(tmp_path / "fake/anna" / f"forged-{picture.name}")
    (tmp_path / "real/anna/.hidden.png").touch()
    samples = read_folder(tmp_path)
    assert [sample.group for sample in samples] == ["anna"] * 4


def test_a_table_gives_sequences_groups_and_splits(tmp_path: Path) -> None:
    rows = [
        {
            "path": "a/1.png",
            "label": "fake",
            "sequence": "[4, 2, 0]",
            "group": "anna",
            "split": "train",
            "note": "",
        },
        {"path": "a\\2.png", "label": "REAL", "sequence": "", "group": "anna", "split": "train", "note": "x"},
        {"path": "3.png", "label": "1", "sequence": "[5]", "group": "", "split": "test", "note": ""},
        {"path": "4.png", "label": "0", "sequence": "[]", "group": "", "split": "val", "note": ""},
    ]
    write_table(tmp_path, [{**row, "path": row["path"].replace("\\", "/")} for row in rows])
    samples = read_folder(tmp_path, length=5)
    assert [sample.sequence for sample in samples] == [(4, 2), (), (5,), ()]
    assert [sample.group for sample in samples] == ["anna", "anna", "3", "4"]
    assert [sample.split for sample in samples] == ["train", "train", "test", "val"]
    assert samples[0].image == tmp_path / "a/1.png"
    # Real or forged alone: the same table, whatever its vocabulary.
    assert [sample.sequence for sample in read_folder(tmp_path)] == [(1,), (), (1,), ()]
    assert read_folder(tmp_path / "labels.csv", length=5) == samples
    assert len(Folder(tmp_path, "train", length=5)) == 2


def test_a_table_without_groups_keeps_pictures_of_a_folder_apart(tmp_path: Path) -> None:
    write_table(tmp_path, [{"path": f"real/{n}.png", "label": "0"} for n in "ab"])
    assert [sample.group for sample in read_folder(tmp_path)] == ["a", "b"]


def test_pictures_are_decoded(tmp_path: Path) -> None:
    write_table(tmp_path, [{"path": "a.png", "label": "1", "split": "train"}])
    source = Folder(tmp_path, "train")
    with pytest.raises(InputError, match="no points of the face are known"):
        source.load(0, np.random.default_rng(0))


def test_missing_pictures_are_read_but_not_opened(tmp_path: Path) -> None:
    write_table(tmp_path, [{"path": "a.png", "label": "1", "split": "train"}])
    (tmp_path / "a.png").unlink()
    assert len(read_folder(tmp_path)) == 1
    assert len(Folder(tmp_path, "val")) == 0
    with pytest.raises(InputError, match=r"a\.png: missing picture"):
        Folder(tmp_path, "train")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"label": "forged"}, "label must be of real, 0, fake, 1, got 'forged'"),
        ({"path": "/data/b.png"}, "path must be relative"),
        ({"path": ""}, "path must be relative"),
        ({"path": "a.png"}, "a.png is there already"),
        ({"split": ""}, "split must be of train, val, test, got ''"),
        ({"split": "dev"}, "split must be of .*, got 'dev'"),
        ({"sequence": "1, 2"}, "sequence '1, 2' is not JSON"),
        ({"sequence": "[1.5]"}, "sequence must be a list of integers"),
        ({"sequence": "[6]"}, r"labels must lie in 1\.\.5"),
        ({"sequence": "[1, 1]"}, "repeated"),
        ({"sequence": "[0]"}, "label and sequence .* contradict"),
        ({"label": "0", "sequence": "[1]"}, "label and sequence .* contradict"),
        ({"sequence": ""}, "a forged picture needs the sequence"),
    ],
)
def test_bad_rows_are_reported_with_their_line(tmp_path: Path, row: dict[str, str], reason: str) -> None:
    good = {"path": "a.png", "label": "1", "sequence": "[1]", "split": "train"}
    write_table(tmp_path, [good])
    bad = {**good, "path": "b.png", **row}
    with (tmp_path / "labels.csv").open("a") as stream:
        stream.write(",".join(f'"{value}"' for value in bad.values()) + "\n")
    with pytest.raises(InputError, match=rf"labels\.csv:3: .*{reason}"):
        read_folder(tmp_path, length=5)


@pytest.mark.parametrize(
    ("text", "reason"),
    [("path,labels\n", "1: missing column label"), ("path,label\na.png\n", "2: expected 2 values")],
)
def test_bad_tables_are_reported(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(InputError, match=rf"labels\.csv:{reason}"):
        read_folder(tmp_path)


def test_a_folder_says_nothing_of_components(tmp_path: Path) -> None:
    write_folder(tmp_path, count=1)
    with pytest.raises(
        InputError, match=r"fake: says nothing of components: give their sequence in labels\.csv"
    ):
        read_folder(tmp_path, length=5)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no pictures here: expected real/ and fake/, or labels\.csv"):
        read_folder(tmp_path / "empty")
