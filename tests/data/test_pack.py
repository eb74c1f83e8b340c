"""Packs: every face found once, the same bytes again, near-duplicates left out, parts that stand alone."""

import json
import os
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from forgerank.data.check.pack_integrity import check_parts
from forgerank.data.formats.pack import HAIR_SIDE, Pack, pack_hair, pack_parts, read_part, unpack_hair
from forgerank.data.prepare import pack_writer as packing
from forgerank.data.prepare.pack_writer import (
    LARGEST_PART,
    PackRecipe,
    cut,
    find_largest,
    list_faces,
    load_recipe,
    load_summary,
    write_pack,
)
from forgerank.data.sample import Sample, read_image
from forgerank.data.tar_files import write_tar
from forgerank.faces.align import five_points
from forgerank.types import InputError
from packs import NAMES, NOSE, SIDE, SMALL_SIDE, person, recipe_of

RNG = np.random.default_rng(0)  # packs take none


class Inline:
    """A pool that works in this process: a spawned one has to open every model anew."""

    map = staticmethod(map)


@pytest.fixture
def inline(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def pool(*arguments: Any) -> Iterator[Inline]:
        yield Inline()

    monkeypatch.setattr(packing, "process_pool", pool)


def contents(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(root.iterdir())}


def entries(pack: Pack) -> list[tuple[str, str, str]]:
    return sorted((e.source, e.label, e.file) for e in map(pack.entry, range(len(pack))))


def test_a_pack_says_what_it_holds(pack_root: Path) -> None:
    summary = load_summary(pack_root)
    assert set(summary.counts) == set(NAMES)
    assert summary.skipped == {"beta: unreadable": 1, "beta: no face": 1}
    assert summary.dropped == {"in validation": 1, "repeated": 1}
    assert summary.faces == 14 == sum(sum(counts.values()) for counts in summary.counts.values())
    assert summary.counts["gamma"] == {"train fake": 1, "val fake": 1}
    assert summary.counts["delta"] == {"train fake": 1, "train real": 1, "val fake": 1}
    parts = pack_parts(pack_root)
    assert [path.name for path in parts] == ["00000.tar", "00001.tar", "00002.tar"]
    assert summary.largest_part == max(path.stat().st_size for path in parts) <= LARGEST_PART
    manifest = json.loads((pack_root / "manifest.json").read_text())
    assert manifest["images"] == 18
    assert sum(part["faces"] for part in manifest["parts"].values()) == 16


def test_near_duplicates_go_whatever_their_source(pack_root: Path) -> None:
    dropped = {row["reason"]: row for row in json.loads((pack_root / "manifest.json").read_text())["dropped"]}
    # A validation image stays, and what repeats it in another source's training set goes.
    assert dropped["in validation"]["source"] == "beta"
    assert dropped["in validation"]["repeats"] == "alpha/04-real.png"
    repeated = dropped["repeated"]
    assert {repeated["source"], repeated["repeats"].split("/")[0]} == {"alpha", "beta"}
    held = [Pack(pack_root, split) for split in ("train", "val")]
    keys = {pack.entry(i).key for pack in held for i in range(len(pack))}
    assert keys.isdisjoint(row["key"] for row in dropped.values())


def test_a_pack_is_the_same_bytes_again_and_can_be_resumed(
    pack_root: Path, pack_sources: Path, tmp_path: Path, inline: None
) -> None:
    again = tmp_path / "again"
    told: list[tuple[int, int]] = []
    summary = write_pack(recipe_of(pack_sources), again, progress=lambda *counts: told.append(counts))
    assert contents(again) == contents(pack_root)
    assert summary == load_summary(pack_root)
    assert told == [(0, 18), (6, 18), (12, 18), (18, 18)]
    for name in ("00001.tar", "00001.skipped.json", "manifest.json"):
        (again / name).unlink()
    with pytest.raises(InputError, match=r"no manifest\.json here: the pack is not finished"):
        load_summary(again)
    told.clear()
    write_pack(recipe_of(pack_sources), again, progress=lambda *counts: told.append(counts))
    assert contents(again) == contents(pack_root)
    assert told == [(12, 18), (18, 18)]


def test_a_folder_holds_the_pack_of_one_recipe(
    pack_root: Path, pack_sources: Path, tmp_path: Path, inline: None
) -> None:
    recipe = recipe_of(pack_sources)
    with pytest.raises(InputError, match="holds the pack of another recipe"):
        write_pack(recipe.model_copy(update={"quality": 90}), pack_root)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "own.txt").touch()
    with pytest.raises(InputError, match="not empty, and no pack"):
        write_pack(recipe, tmp_path / "full")
    # Where a source lies does not matter.
    shutil.copytree(pack_sources, tmp_path / "moved")
    shutil.copytree(pack_root, tmp_path / "copy")
    write_pack(recipe_of(tmp_path / "moved"), tmp_path / "copy")
    assert (tmp_path / "copy/recipe.json").read_bytes() == (pack_root / "recipe.json").read_bytes()


def test_a_pack_that_failed_before_its_first_part_may_be_begun_anew(
    pack_root: Path, pack_sources: Path, tmp_path: Path, inline: None
) -> None:
    recipe = tmp_path / "out/recipe.json"
    recipe.parent.mkdir()
    recipe.write_text("{}")  # no recipe of a pack
    with pytest.raises(InputError, match="holds the pack of another recipe"):
        write_pack(recipe_of(pack_sources), recipe.parent)
    recipe.write_bytes((pack_root / "recipe.json").read_bytes().replace(b'"quality": ', b'"quality": 1'))
    write_pack(recipe_of(pack_sources), recipe.parent)
    assert contents(recipe.parent) == contents(pack_root)


def test_some_of_the_parts_are_a_smaller_pack(pack_root: Path, tmp_path: Path) -> None:
    shutil.copy(pack_root / "00001.tar", tmp_path)
    early = Pack(tmp_path, "train")  # before the manifest has come
    shutil.copy(pack_root / "manifest.json", tmp_path)
    some = Pack(tmp_path, "train")
    whole = set(entries(Pack(pack_root, "train")))
    assert set(entries(some)) < whole
    assert set(entries(some)) <= set(entries(early))
    assert all(some.load(i, RNG).image.ndim == 3 for i in range(len(some)))
    # A source all of whose parts are on their way is known from the manifest.
    held = {entry.source for entry in read_part(tmp_path / "00001.tar").entries}
    for name in set(NAMES) - held:
        with pytest.raises(InputError, match=f"no face of {name} in the train split"):
            Pack(tmp_path, "train", sources=[name])


def test_a_part_without_faces_can_be_read(tmp_path: Path) -> None:
    image = tmp_path / "empty.png"
    image.write_bytes(b"no image")
    rows = [(0, "one", Sample(image, (), "a", "train", "one"))]
    recipe = PackRecipe.model_validate({"sources": [{"name": "one", "root": "."}]})
    packing._write_part(tmp_path / "00000.tar", rows, recipe)
    assert read_part(tmp_path / "00000.tar").entries == ()
    skipped = json.loads((tmp_path / "00000.skipped.json").read_text())
    assert list(skipped) == ["one: unreadable"]
    assert [line.startswith(f"{image}: not an image") for line in skipped["one: unreadable"]] == [True]


def test_landmarks_are_those_of_the_stored_face(pack_root: Path, pack_sources: Path) -> None:
    pack = Pack(pack_root, "train", label="real", sources=["alpha", "beta"])
    for index in range(len(pack)):
        entry, face = pack.entry(index), pack.face(index)
        found = find_largest(face.image)
        assert found is not None
        assert np.linalg.norm(found - face.landmarks, axis=1).mean() < 1.5
        assert np.linalg.norm(five_points(found) - pack.points(index), axis=1).max() < 2
        assert np.abs(five_points(face.landmarks) - pack.points(index)).max() < 0.01
        assert entry.eye_distance == pytest.approx(
            np.linalg.norm(pack.points(index)[1] - pack.points(index)[0]), abs=0.2
        )
        original = read_image(pack_sources / entry.source / entry.file)
        small = original.shape[0] == SMALL_SIDE
        assert max(face.image.shape[:2]) <= (SMALL_SIDE if small else SIDE)
        assert face.hair.shape == face.image.shape[:2]
        assert set(np.unique(face.hair)) <= {0, 255}


def test_a_small_face_is_cut_and_not_enlarged() -> None:
    image = person(1)
    landmarks = find_largest(image)
    assert landmarks is not None
    window = cut(image, landmarks, 1000)
    left, top, right, bottom = window.box
    assert np.array_equal(window.image, image[top:bottom, left:right])
    assert np.allclose(window.landmarks, landmarks - [left, top])
    smaller = cut(image, landmarks, 64)
    assert max(smaller.image.shape[:2]) < 64 / 0.9 + 2
    mask = np.zeros(image.shape[:2], np.uint8)
    mask[NOSE] = 5
    assert smaller.cut_mask(mask).shape == smaller.image.shape[:2]
    assert set(np.unique(smaller.cut_mask(mask))) == {0, 5}


def test_masks_sequences_and_what_is_known_survive(pack_root: Path) -> None:
    pack = Pack(pack_root, "val", sources=["delta"])
    assert len(pack) == 1
    sample, image = pack.sample(0), pack.load(0, RNG)
    assert sample.sequence == image.sequence == (1, 4)
    assert (sample.source, sample.group, sample.fake) == ("delta", "delta/p10", True)
    assert image.mask is not None
    assert image.mask.shape == image.image.shape[:2]
    assert set(np.unique(image.mask)) == {0, 0b1001}
    # The nose lies in the middle of what was marked.
    x, y = image.points[2].round().astype(int)
    assert image.mask[y, x] == 0b1001
    forged = Pack(pack_root, "train", sources=["alpha"], label="fake")
    assert {forged.load(i, RNG).parts for i in range(len(forged))} == {None}
    assert all(forged.load(i, RNG).fake for i in range(len(forged)))
    binary = Pack(pack_root, "train", length=1)
    for index in range(len(binary)):
        fake = binary.entry(index).label == "fake"
        image = binary.load(index, RNG)
        assert (image.sequence, image.mask, image.parts) == ((), None, (int(fake),))
        assert binary.sample(index).forged == fake


def test_filters(pack_root: Path) -> None:
    everything = entries(Pack(pack_root, "train"))
    reals = entries(Pack(pack_root, "train", label="real"))
    assert reals == [row for row in everything if row[1] == "real"]
    without = entries(Pack(pack_root, "train", without=["beta"]))
    assert without == [row for row in everything if row[0] != "beta"]
    assert entries(Pack(pack_root, "train", sources=["beta"])) == [r for r in everything if r[0] == "beta"]
    pack = Pack(pack_root, "train", sources=["alpha"], methods=["tint"])
    methods = [pack.entry(i).method for i in range(len(pack)) if pack.entry(i).label == "fake"]
    assert methods == ["tint"]
    assert any(pack.entry(i).label == "real" for i in range(len(pack)))
    key = pack.entry(0).key
    chosen = Pack(pack_root, "train").only({key})
    assert [chosen.entry(i).key for i in range(len(chosen))] == [key]
    assert len(pack.only(())) == 0 < len(pack)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"sources": ["omega"]}, "holds no omega; it holds alpha, beta, delta, gamma"),
        ({"without": ["omega"]}, "holds no omega"),
        ({"sources": ["gamma"], "label": "real"}, "no real of gamma in the train split"),
    ],
)
def test_what_is_not_there_is_named(pack_root: Path, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        Pack(pack_root, "train", **options)


def test_what_has_not_arrived_is_said_once(
    pack_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(pack_root, tmp_path / "pack")
    (tmp_path / "pack/00001.tar").unlink()
    for split in ("train", "val"):
        Pack(tmp_path / "pack", split)
    assert capsys.readouterr().err.endswith("pack: without 00001.tar, which manifest.json lists\n")
    (tmp_path / "pack/manifest.json").unlink()
    for split in ("train", "val"):
        Pack(tmp_path / "pack", split)
    [line] = capsys.readouterr().err.splitlines()
    assert line.endswith(
        "pack: no manifest.json here: near-duplicates are not left out, and parts may be missing"
    )
    Pack(pack_root, "train")
    assert capsys.readouterr().err == ""


def test_a_part_behind_which_another_tar_lies_is_refused(pack_root: Path, tmp_path: Path) -> None:
    first, second = ((pack_root / f"0000{number}.tar").read_bytes() for number in range(2))
    (tmp_path / "00000.tar").write_bytes(first + bytes(10_000))
    assert len(read_part(tmp_path / "00000.tar").entries) == len(read_part(pack_root / "00000.tar").entries)
    (tmp_path / "00000.tar").write_bytes(first + second)
    with pytest.raises(InputError, match=r"00000\.tar: .* it goes on with something else"):
        read_part(tmp_path / "00000.tar")


def test_folders_and_files_that_are_no_packs(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no parts of a pack"):
        Pack(tmp_path, "train")
    (tmp_path / "00000.tar").write_bytes(b"no tar")
    with pytest.raises(InputError, match="cannot be read as a part of a pack"):
        Pack(tmp_path, "train")
    with pytest.raises(InputError, match="cannot be read"):
        read_part(tmp_path / "00001.tar")
    write_tar(tmp_path / "00003.tar", [("a.jpg", b"")])
    with pytest.raises(InputError, match=r"00003\.tar: is no part of a pack: it holds no index\.json"):
        read_part(tmp_path / "00003.tar")
    os.mkfifo(tmp_path / "00002.tar")
    with pytest.raises(InputError, match="not a regular file"):
        read_part(tmp_path / "00002.tar")
    with pytest.raises(InputError, match="none: cannot be read: no such file or folder"):
        Pack(tmp_path / "none", "train")


def test_a_check_finds_what_changed(pack_root: Path, tmp_path: Path) -> None:
    assert check_parts(pack_root) == []
    copy = tmp_path / "copy"
    shutil.copytree(pack_root, copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps(manifest | {"dropped": manifest["dropped"][:1]}))
    (problem,) = check_parts(copy)
    assert f"near-duplicate of {manifest['dropped'][1]['repeats']}" in problem
    content = bytearray((copy / "00000.tar").read_bytes())
    content[600] ^= 1
    (copy / "00000.tar").write_bytes(content)
    (copy / "00002.tar").unlink()
    changed, missing = check_parts(copy)
    assert changed == f"{copy / '00000.tar'}: changed since it was written"
    assert missing == f"{copy / '00002.tar'}: missing"


def flip(part: Path, name: str) -> None:
    """Flip a bit in the middle of a member."""
    with tarfile.open(part) as tar:
        member = tar.getmember(name)
    content = bytearray(part.read_bytes())
    content[member.offset_data + member.size // 2] ^= 4
    part.write_bytes(content)


def without_checksums(root: Path) -> None:
    """As packs of earlier versions are."""
    for path in pack_parts(root):
        with tarfile.open(path) as tar:
            members = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
        del members["crc32.json"]
        write_tar(path, members.items())
    (root / "manifest.json").unlink()
    packing.write_manifest(PackRecipe.model_validate_json((root / "recipe.json").read_text()), root, 18)
    manifest = json.loads((root / "manifest.json").read_text())
    for part in manifest["parts"].values():
        del part["index"]
    (root / "manifest.json").write_text(json.dumps(manifest))


def test_a_flipped_bit_costs_its_face_alone(pack_root: Path, pack_sources: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(pack_root, copy)
    whole = Pack(copy, "train")
    flipped = whole.sample(0).image
    flip(flipped.parent, flipped.name)
    pack = Pack(copy, "train")
    with pytest.raises(InputError) as caught:
        pack.load(0, RNG)
    assert str(caught.value) == f"{flipped}: changed since it was written"
    assert all(pack.load(i, RNG).image.ndim == 3 for i in range(1, len(pack)))
    # To finish it again would write the hash of what was damaged.
    (copy / "manifest.json").unlink()
    with pytest.raises(InputError, match=r"jpg: changed since it was written"):
        write_pack(recipe_of(pack_sources), copy)
    shutil.copy(pack_root / flipped.parent.name, copy)
    for text in ('{"alpha', "[1, 2]"):
        (copy / "00000.skipped.json").write_text(text)
        with pytest.raises(InputError, match=r"00000\.skipped\.json.*: (not JSON|no images by reason)"):
            write_pack(recipe_of(pack_sources), copy)
    for name in ("index.json", "arrays.npz"):
        flip(copy / "00002.tar", name)
        with pytest.raises(InputError, match=rf"00002\.tar/{name}: changed since it was written"):
            Pack(copy, "train")
        shutil.copy(pack_root / "00002.tar", copy)


def test_packs_of_earlier_versions_are_read(pack_root: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    shutil.copytree(pack_root, old)
    without_checksums(old)
    assert check_parts(old) == []
    assert entries(Pack(old, "train")) == entries(Pack(pack_root, "train"))
    flip(old / "00000.tar", "arrays.npz")
    with pytest.raises(InputError, match=r"00000\.tar: cannot be read as a part of a pack: BadZipFile"):
        Pack(old, "train")


def test_parts_that_the_manifest_does_not_list_are_refused(
    pack_root: Path, pack_sources: Path, tmp_path: Path, inline: None
) -> None:
    other, copy = tmp_path / "other", tmp_path / "copy"
    write_pack(recipe_of(pack_sources).model_copy(update={"seed": 5}), other)
    shutil.copytree(pack_root, copy)
    part = copy / "00000.tar"
    assert part.stat().st_size == (other / part.name).stat().st_size
    shutil.copy(other / part.name, part)
    with pytest.raises(InputError, match=r"00000\.tar: is not the part that manifest\.json lists"):
        Pack(copy, "train")
    shutil.copy(pack_root / part.name, part)
    shutil.copy(part, copy / "00003.tar")
    with pytest.raises(InputError, match=r"00003\.tar: manifest\.json does not list it"):
        Pack(copy, "train")
    assert check_parts(copy) == [f"{copy / '00003.tar'}: manifest.json does not list it"]
    (copy / "manifest.json").unlink()
    with pytest.raises(InputError, match=r"00003\.tar: holds faces of 00000\.tar again"):
        Pack(copy, "train")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[]", "not the manifest of a pack: Input should be"),
        ("{}", "not the manifest of a pack: recipe: Field required"),
        ('{"dropped": "x"}', "not the manifest of a pack: "),
        ('{"parts": ', "not JSON"),
        (None, "not a regular file"),
    ],
)
def test_damaged_manifests_are_one_line(
    pack_root: Path, tmp_path: Path, content: str | None, reason: str
) -> None:
    manifest = tmp_path / "manifest.json"
    os.mkfifo(manifest) if content is None else manifest.write_text(content)
    shutil.copy(pack_root / "00000.tar", tmp_path)
    for read in (load_summary, check_parts, partial(Pack, split="train")):
        with pytest.raises(InputError, match=rf"manifest\.json.*{reason}"):
            read(tmp_path)


def test_hair_survives_the_packing_in_bits() -> None:
    hair = np.zeros((120, 90), dtype=bool)
    hair[:40] = True
    bits = pack_hair(hair)
    assert bits.shape == (HAIR_SIDE, HAIR_SIDE // 8)
    full = unpack_hair(bits, (120, 90)) > 127
    assert (full != hair).mean() < 0.02


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"quality": 20}, r"quality: .*greater than or equal to 50"),
        ({"sources": []}, "sources: "),
        ({"sorces": []}, "sorces: unknown key"),
        ({"sources": [{"name": "a", "root": "."}, {"name": "a", "root": "x"}]}, "a is there more than once"),
        ({"sources": [{"name": "a", "root": ".", "splits": ["all"]}]}, "must be of train, val, test"),
        ({"sources": [{"name": "a/b", "root": "."}]}, r"sources\.0\.name"),
    ],
)
def test_bad_recipes_are_one_line(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({"sources": [{"name": "a", "root": "."}]} | changes))
    with pytest.raises(InputError, match=reason) as caught:
        load_recipe(path)
    assert "\n" not in str(caught.value)


def test_only_images_on_disk_can_be_packed(pack_sources: Path, pack_root: Path) -> None:
    for dataset, reason in (("pack", "only data sets whose images lie on disk"), ("celeb", "must be one of")):
        recipe = PackRecipe.model_validate(
            {"sources": [{"name": "a", "dataset": dataset, "root": str(pack_root)}]}
        )
        with pytest.raises(InputError, match=reason):
            list_faces(recipe)
    orders = [
        [sample.image for _, sample in list_faces(recipe_of(pack_sources).model_copy(update={"seed": seed}))]
        for seed in (0, 0, 1)
    ]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == sorted(orders[2])
