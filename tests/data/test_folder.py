import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage

from forgerank.data.formats.folder import Folder, read_folder
from forgerank.data.formats.registry import DATASETS
from forgerank.types import InputError
from layouts import write_folder, write_table
from locked import lock


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mine")
    write_folder(root, count=40)
    return root


def test_folders_give_labels_and_groups(images: Path) -> None:
    samples = read_folder(images)
    assert [sample.sequence for sample in samples] == [()] * 40 + [(1,)] * 40
    assert {sample.dataset for sample in samples} == {images.name}
    by_group: dict[str, list[str]] = {}
    for sample in samples:
        by_group.setdefault(sample.group, []).append(sample.split)
    assert sorted(by_group) == [f"{number:02d}" for number in range(40)]
    assert all(len(splits) == 2 and len(set(splits)) == 1 for splits in by_group.values())


def test_splits_share_out_every_image_once(images: Path) -> None:
    parts = {split: DATASETS["folder"](images, split, length=1) for split in ("train", "val", "test")}
    paths = [part.sample(i).image for part in parts.values() for i in range(len(part))]
    assert len(paths) == len(set(paths)) == 80
    assert len(parts["train"]) > 50
    assert len(parts["val"]) > 0
    assert len(parts["test"]) > 0


def test_what_is_no_image_is_counted_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_folder(tmp_path, count=2)
    for name, content in (("a.jxl", b"\xff\x0a"), ("notes.txt", b""), ("Thumbs.db", b""), ("._b.png", b"")):
        (tmp_path / "real" / name).write_bytes(content)
    (tmp_path / "fake" / "__MACOSX").mkdir()
    (tmp_path / "fake" / "__MACOSX" / "c.png").write_bytes(b"")
    (tmp_path / "fake" / "~$d.png").write_bytes(b"\x89PNG\r\n\x1a\n")  # an image, whatever its name
    assert len(read_folder(tmp_path)) == len(read_folder(tmp_path)) == 5
    assert capsys.readouterr().err.splitlines() == [
        f"{tmp_path}: 1 image or video left out, of kinds that are not read: JPEG XL 1",
        f"{tmp_path}: left out, no images: TXT 1",
    ]


def test_names_need_not_be_utf_8(tmp_path: Path) -> None:
    write_folder(tmp_path, count=1)
    for name in ("real", "fake"):
        (tmp_path / name / "00.png").rename(tmp_path / name / os.fsdecode(b"zo\xe9.png"))
    real, fake = read_folder(tmp_path)
    assert real.group == fake.group == os.fsdecode(b"zo\xe9")
    assert real.split == fake.split


def test_a_image_more_moves_no_other(images: Path, tmp_path: Path) -> None:
    write_folder(tmp_path, count=41)
    before = {sample.group: sample.split for sample in read_folder(images)}
    after = {sample.group: sample.split for sample in read_folder(tmp_path)}
    assert {group: after[group] for group in before} == before


def test_shares_decide_the_sizes(images: Path) -> None:
    assert len(Folder(images, "test", shares=(0, 0, 1))) == 80
    halves = [len(Folder(images, split, shares=(1, 1, 0))) for split in ("train", "val", "test")]
    assert sum(halves) == 80
    assert min(halves[:2]) > 20
    for shares in ((1, 1), (0, 0, 0), (1, -1, 1)):
        with pytest.raises(InputError, match="shares must be three numbers"):
            Folder(images, "train", shares=shares)


def test_images_of_one_folder_are_one_group(tmp_path: Path) -> None:
    write_folder(tmp_path / "parts", count=2)
    (tmp_path / "real").mkdir()
    (tmp_path / "fake/anna").mkdir(parents=True)
    (tmp_path / "parts/real").rename(tmp_path / "real/anna")
    for image in (tmp_path / "parts/fake").iterdir():
        image.rename(tmp_path / "fake/anna" / f"forged-{image.name}")
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


def test_a_table_without_groups_keeps_images_of_a_folder_apart(tmp_path: Path) -> None:
    write_table(tmp_path, [{"path": f"real/{n}.png", "label": "0"} for n in "ab"])
    assert [sample.group for sample in read_folder(tmp_path)] == ["a", "b"]


def test_images_are_decoded(tmp_path: Path) -> None:
    write_table(tmp_path, [{"path": "a.png", "label": "1", "split": "train"}])
    image = Folder(tmp_path, "train").load(0, np.random.default_rng(0))
    assert image.points is None
    assert image.image.ndim == 3


def test_missing_images_are_read_but_not_opened(tmp_path: Path) -> None:
    write_table(tmp_path, [{"path": "a.png", "label": "1", "split": "train"}])
    (tmp_path / "a.png").unlink()
    assert len(read_folder(tmp_path)) == 1
    assert len(Folder(tmp_path, "val")) == 0
    with pytest.raises(InputError, match=r"a\.png: missing image$"):
        Folder(tmp_path, "train")
    rows = [{"path": f"{name}.png", "label": "1", "split": "train"} for name in "abc"]
    write_table(tmp_path, rows)
    for name in "bc":
        (tmp_path / f"{name}.png").unlink()
    with pytest.raises(
        InputError, match=r"b\.png: missing image \(2 of 3 images of the train split cannot be found\)$"
    ):
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
    samples = read_folder(tmp_path, length=5)
    assert [(s.sequence, s.parts, s.fake) for s in samples] == [((), None, False), ((), None, True)]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no images here: expected real/ and fake/, or labels\.csv"):
        read_folder(tmp_path / "empty")


def write_csv(root: Path, text: str, name: str = "labels.csv") -> None:
    root.mkdir(exist_ok=True)
    (root / name).write_text(text.strip() + "\n")


def test_labels_are_known_in_part(tmp_path: Path) -> None:
    text = """
file,label,subject,split,method,source,nose,eye,eyebrow,lip,hair
1.png,fake,anna,train,swap,web,1,1,,1,0
2.png,fake,,val,,,,,,,
3.png,real,bert,val,,,0,0,0,,
4.png,fake,bert,val,,,1.0,0.0,0,0,0
"""
    write_csv(tmp_path, text)
    samples = read_folder(tmp_path, length=5)
    assert [sample.parts for sample in samples] == [(1, 1, None, 1, 0), None, None, (1, 0, 0, 0, 0)]
    assert [sample.fake for sample in samples] == [True, True, False, True]
    assert [sample.forged for sample in samples] == [True, True, False, True]
    assert {sample.sequence for sample in samples} == {()}
    assert [sample.group for sample in samples] == ["anna", "2", "bert", "bert"]
    assert (samples[0].method, samples[0].source, samples[0].image) == ("swap", "web", tmp_path / "1.png")
    # Real or forged alone: no label is looked at.
    assert [(s.sequence, s.parts) for s in read_folder(tmp_path)] == [
        ((1,), None),
        ((1,), None),
        ((), None),
        ((1,), None),
    ]


def test_what_is_known_of_labels_without_a_column(tmp_path: Path) -> None:
    write_csv(tmp_path / "some", "path,label,nose,lip\n1.png,fake,0,\n2.png,real,0,0\n")
    write_csv(tmp_path / "none", "path,label\n1.png,fake\n2.png,real\n")
    parts = [1, 1, None, 1, 0]
    assert [s.parts for s in read_folder(tmp_path / "some", length=5)] == [(0, None, None, None, None), None]
    some = read_folder(tmp_path / "some", length=5, parts=parts)
    none = read_folder(tmp_path / "none", length=5, parts=parts)
    assert [sample.parts for sample in some] == [(0, 1, None, None, 0), None]
    assert [sample.parts for sample in none] == [(1, 1, None, 1, 0), None]
    assert [sample.forged for sample in some + none] == [True, False, True, False]
    for bad in ([1, 1], [2, 0, 0, 0, 0]):
        with pytest.raises(InputError, match="parts must be 5 of 1, 0 and null"):
            read_folder(tmp_path / "none", length=5, parts=bad)


def test_columns_are_those_of_the_vocabulary(tmp_path: Path) -> None:
    write_csv(tmp_path, "path,label,young,bangs\n1.png,fake,1,0\n")
    assert read_folder(tmp_path, length=5)[0].parts == (0, None, None, None, 1)
    assert read_folder(tmp_path, length=2)[0].parts is None
    write_csv(tmp_path, "path,label,young,nose\n1.png,fake,1,0\n")
    with pytest.raises(InputError, match=r"labels\.csv:1: columns of several vocabularies"):
        read_folder(tmp_path, length=5)


def test_a_table_of_one_label(tmp_path: Path) -> None:
    write_csv(tmp_path, "file,source,subject\n1.png,web,anna\n2.png,web,anna\n", "faces.csv")
    for label in ("real", "fake"):
        samples = read_folder(tmp_path, length=5, table="faces.csv", label=label)
        assert [(s.forged, s.group, s.source) for s in samples] == [(label == "fake", "anna", "web")] * 2
    with pytest.raises(InputError, match=r"faces\.csv:1: missing column label"):
        read_folder(tmp_path, table="faces.csv")
    with pytest.raises(InputError, match="label must be real or fake, got 'forged'"):
        read_folder(tmp_path, table="faces.csv", label="forged")
    # Where there is a column, it decides.
    write_csv(tmp_path, "file,label\n1.png,fake\n2.png,real\n", "mixed.csv")
    assert [s.forged for s in read_folder(tmp_path, table="mixed.csv", label="real")] == [True, False]


def test_images_beside_the_table_or_in_their_folder(tmp_path: Path) -> None:
    write_table(
        tmp_path, [{"path": name, "label": "0"} for name in ("1.png", "images/2.png", "images/1.png")]
    )
    write_csv(tmp_path, "path,label,split\n1.png,0,train\n2.png,0,train\n3.png,0,val\n")
    assert [sample.image for sample in read_folder(tmp_path)] == [
        tmp_path / "1.png",
        tmp_path / "images/2.png",
        tmp_path / "3.png",
    ]
    assert len(Folder(tmp_path, "train")) == 2
    with pytest.raises(InputError, match=r"3\.png: missing image"):
        Folder(tmp_path, "val")


def test_spellings_of_one_name_are_one(tmp_path: Path) -> None:
    """A disk, or whoever unpacked the images, may have decomposed the accents of a name."""
    composed, decomposed = (unicodedata.normalize(form, "zoé") for form in ("NFC", "NFD"))
    for path in (tmp_path / f"real/{composed}.png", tmp_path / f"fake/{decomposed}.png"):
        path.parent.mkdir()
        path.touch()
    assert {sample.group for sample in read_folder(tmp_path)} == {composed}
    table = f"path,label\nreal/{decomposed}.png,0\nfake/{composed}.png,1\n"
    write_csv(tmp_path, table)
    samples = read_folder(tmp_path)
    assert all(sample.image.is_file() for sample in samples)
    assert {sample.group for sample in samples} == {composed}
    write_csv(tmp_path, f"{table}real/{composed}.png,0\n")
    with pytest.raises(InputError, match="is there already"):
        read_folder(tmp_path)


def test_a_sequence_that_agrees_says_everything(tmp_path: Path) -> None:
    write_csv(tmp_path, 'path,label,sequence,nose,eye\n1.png,fake,"[2, 1]",1,\n2.png,real,[],0,\n')
    samples = read_folder(tmp_path, length=5, parts=[0, 0, 0, 0, 1])
    assert [(s.sequence, s.parts, s.forged) for s in samples] == [((2, 1), None, True), ((), None, False)]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("real,,1,", "label real and a 1 in the labels' columns contradict each other"),
        ('fake,"[2, 1]",0,1', "the sequence and the labels' columns contradict each other"),
        ('fake,"[1]",1,1', "the sequence and the labels' columns contradict each other"),
        ("fake,,2,", "nose must be 1, 0 or empty, got '2'"),
        ("fake,,,yes", "eye must be 1, 0 or empty, got 'yes'"),
    ],
)
def test_contradictions_are_reported_with_their_line(tmp_path: Path, row: str, reason: str) -> None:
    write_csv(tmp_path, f"path,label,sequence,nose,eye\na.png,fake,,1,1\nb.png,{row}")
    with pytest.raises(InputError, match=rf"labels\.csv:3: {reason}"):
        read_folder(tmp_path, length=5)


def test_a_folder_that_may_not_be_entered_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("real/anna", "fake/berta"):
        (tmp_path / name).mkdir(parents=True)
        PILImage.new("RGB", (8, 8)).save(tmp_path / name / "0.png")
    write_csv(tmp_path / "fake", "path,label,split\nberta/0.png,1,train\n")
    lock(monkeypatch, tmp_path / "fake/berta")
    with pytest.raises(InputError, match=r"fake/berta: cannot be read: permission denied"):
        read_folder(tmp_path)
    with pytest.raises(InputError, match=r"berta/0\.png: permission denied"):
        Folder(tmp_path / "fake", "train")


def test_a_linked_folder_is_read(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    PILImage.new("RGB", (8, 8)).save(tmp_path / "elsewhere/0.png")
    (tmp_path / "set/real").mkdir(parents=True)
    (tmp_path / "set/real/anna").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set/real/around").symlink_to(tmp_path / "set/real")
    assert [sample.image for sample in read_folder(tmp_path / "set")] == [tmp_path / "set/real/anna/0.png"]
