"""Every file of weights is refused by its hash, in one line, when it is truncated, bit-flipped or foreign."""

import json
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from forgerank.faces.models import open_embedded
from forgerank.types import InputError
from forgerank.weights.description import ASSETS, load_weights, seal

DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda content: content[: len(content) // 2],
    "one byte short": lambda content: content[:-1],
    "empty": lambda _: b"",
    "bit-flipped": lambda content: content[: len(content) // 2] + flipped(content[len(content) // 2 :], 0),
    "foreign": lambda _: (ASSETS / "face_detection_short_range.onnx").read_bytes()[:-5] + b"other",
    "joined to": lambda content: content + b" ",
}
FACES = sorted(json.loads((ASSETS / "faces.json").read_text())["files"])


def flipped(content: bytes, bit: int) -> bytes:
    data = bytearray(content)
    data[bit // 8] ^= 1 << bit % 8
    return bytes(data)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The package's own folder of weights; links, until a file is replaced."""
    for path in ASSETS.iterdir():
        (tmp_path / path.name).symlink_to(path)
    return tmp_path


def replace(path: Path, content: bytes) -> None:
    path.unlink()  # the link, not what it leads to
    path.write_bytes(content)


def refusal(load: Callable[[], object], named: Path) -> str:
    with pytest.raises(InputError) as caught:
        load()
    line = str(caught.value)
    assert line.isprintable()
    assert line.startswith(f"{named}: ")
    return line


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("kind", ["onnx", "safetensors"])
def test_tensors(copy: Path, kind: str, damage: str) -> None:
    path = copy / f"forgerank.{kind}"
    replace(path, DAMAGE[damage](path.read_bytes()))
    assert "SHA-256" in refusal(lambda: load_weights(copy, kind=kind), path)  # type: ignore[arg-type]


@pytest.mark.parametrize("damage", ["truncated", "bit-flipped", "foreign"])
@pytest.mark.parametrize("name", FACES)
def test_face_models(copy: Path, name: str, damage: str) -> None:
    replace(copy / name, DAMAGE[damage]((copy / name).read_bytes()))
    assert "SHA-256" in refusal(lambda: open_embedded(name, assets=copy), copy / name)


def test_a_description_in_which_any_bit_is_flipped(copy: Path) -> None:
    """Refused; or a line break became a tab, say, and every value is the same."""
    path = copy / "forgerank.json"
    content, original = path.read_bytes(), load_weights(copy, kind="onnx").metadata
    without_seal = original.model_copy(update={"seal": None})
    rng, refused = Random(0), 0
    for bit in rng.sample(range(8 * len(content)), 60):
        replace(path, flipped(content, bit))
        try:
            metadata = load_weights(copy).metadata
        except InputError:
            refused += 1
        else:
            assert metadata.model_copy(update={"seal": None}) == without_seal, bit
    assert refused > 30


def test_a_threshold_that_was_changed(copy: Path) -> None:
    path = copy / "forgerank.json"
    description = json.loads(path.read_text())
    description["thresholds"]["forged"] = 0.99
    replace(path, json.dumps(description).encode())
    assert "seal" in refusal(lambda: load_weights(copy), path)
    replace(path, json.dumps({**description, "seal": seal(description)}).encode())
    assert load_weights(copy).metadata.thresholds.forged == 0.99


def test_the_packages_own_description_is_sealed() -> None:
    """If not: add "seal": forgerank.weights.description.seal(description); `forgerank export` does."""
    assert load_weights().metadata.seal is not None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"files": 1}', b"\xff", b"[" * 100_000])
def test_list_of_face_models(copy: Path, content: bytes) -> None:
    replace(copy / "faces.json", content)
    assert "reinstall" in refusal(lambda: open_embedded(FACES[0], assets=copy), copy / "faces.json")


def test_weights_of_a_run(tmp_path: Path, copy: Path) -> None:
    from forgerank.train.checkpoints import load_network

    path = copy / "forgerank.safetensors"
    content = path.read_bytes()
    replace(path, flipped(content, 8 * len(content) - 100))
    assert "SHA-256" in refusal(lambda: load_network(path), path)
