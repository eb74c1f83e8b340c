"""Whatever is read: a result or one printable line, in time and in memory; benchmarks/fuzz.py tries more."""

import faulthandler
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
from hostile import bombs, photos
from hypothesis import given, settings
from hypothesis import strategies as st
from readers import READERS
from targets import KINDS, answer

from forgerank.files import parse_yaml
from forgerank.media.files import MediaError
from forgerank.media.images import read_photo
from forgerank.types import InputError

EXAMPLES = {"photograph": 800, "video": 500, "network": 150, "description": 200, "archive": 150}
EXAMPLES |= {
    "report": 100,
    "results": 100,
    "photograph, judged": 8,
    "video, judged": 4,
    **dict.fromkeys(READERS, 80),
}
EXAMPLES |= {"settings": 25, "table": 25}  # YAML's parser is slow

CORPUS = Path(__file__).parent / "corpus"

# Real ones: a draw is a seed, as in the benchmark.
seeded = given(st.randoms(use_true_random=True))
quiet = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")


@pytest.fixture(autouse=True)
def limit() -> Iterator[None]:
    """A decoder that hangs cannot be interrupted: the process ends, its traceback shown."""
    faulthandler.dump_traceback_later(240, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


@quiet
@pytest.mark.parametrize("kind", EXAMPLES)
def test_answered_or_refused_in_one_line(kind: str) -> None:
    @settings(max_examples=EXAMPLES[kind], derandomize=True, deadline=None, database=None)
    @seeded
    def check(rng: Random) -> None:
        with tempfile.TemporaryDirectory() as folder:
            answer(kind, KINDS[kind].make(rng), Path(folder))

    check()


@quiet
@pytest.mark.parametrize("kind", sorted(folder.name for folder in CORPUS.iterdir()))
def test_what_atheris_found(kind: str, tmp_path: Path) -> None:
    """Inputs that reach different places, and those that led to a bug once."""
    for path in sorted((CORPUS / kind).iterdir()):
        (tmp_path / path.name).mkdir()
        answer(kind, path.read_bytes(), tmp_path / path.name)


def test_every_kind_is_tried() -> None:
    assert set(EXAMPLES) | {"bomb"} == set(KINDS)


@quiet
@pytest.mark.parametrize("kind", ["photograph", "video", "network", "archive"])
def test_damage_gets_past_the_front_door(kind: str, tmp_path: Path) -> None:
    """Inputs that are all refused would prove little."""
    answers = []
    for number in range(60):
        (tmp_path / str(number)).mkdir()
        answers.append(answer(kind, KINDS[kind].make(Random(number)), tmp_path / str(number)))
    assert 3 <= answers.count("answered") <= 57


def test_a_reason_is_printable_whatever_it_quotes() -> None:
    assert str(InputError("a\nb\x1b[31m: é")) == "a\\nb\\x1b[31m: é"


def test_yaml_that_doubles_with_every_line() -> None:
    lines = [f"{b}: &{b} {{<<: [*{a}, *{a}]}}" for a, b in pairwise("abcdefghijklmnopqrstuvwxyz")]
    with pytest.raises(InputError, match="aliases"):
        parse_yaml("\n".join(["a: &a {x: 1}", *lines]), "settings")


def refusal(content: bytes) -> str:
    """The reason, once it is sure that little memory was needed to find it."""
    tracemalloc.start()
    with pytest.raises(MediaError) as caught:
        read_photo("bomb", data=content)
    assert tracemalloc.get_traced_memory()[1] < 100_000_000
    tracemalloc.stop()
    return caught.value.reason


def test_a_directory_that_names_the_whole_file_over_and_over() -> None:
    content = bombs.directory(count=39_000, start=8, size=700_000)  # 27 GB, if each entry were copied
    assert "no TIFF can be made of it" in refusal(content)


def test_pieces_of_exif_that_add_up() -> None:
    assert "bytes of EXIF" in refusal(bombs.exif_jpeg(40_000))
    assert "bytes of EXIF" in refusal(bombs.exif_png(40_000))


def test_more_scans_than_pixels_are_worth() -> None:
    assert "more scans than" in refusal(bombs.progressive_jpeg(2048, 2000))
    assert read_photo("photo", data=bombs.progressive_jpeg(512, 100)).shape == (512, 512, 3)


def test_what_is_joined_to_a_photograph_holds_no_scans(tmp_path: Path) -> None:
    """A video behind a photograph, as phones store them, contains the marker by chance."""
    content = bombs.progressive_jpeg(2048, 1) + b"\xff\xda" * 5000
    assert read_photo("photo", data=content).shape == (2048, 2048, 3)


def test_the_command_line_shows_no_traceback(tmp_path: Path, tiny_weights: Path) -> None:
    rng, folder = Random(0), tmp_path / "hostile"
    folder.mkdir()
    for number in range(60):
        (folder / f"{number}.jpg").write_bytes(photos.hostile_photo(rng))
    command = [sys.executable, "-m", "forgerank", "detect", str(folder), "--weights", str(tiny_weights)]
    command += ["--json", str(tmp_path / "r.json"), "--html", str(tmp_path / "r.html")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stdout + done.stderr
    own = [line for line in done.stderr.splitlines() if line.startswith("forgerank: ")]
    assert own
    assert all(line.isprintable() and str(folder) in line for line in own)
