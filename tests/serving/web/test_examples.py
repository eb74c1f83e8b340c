import io

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from forgerank.serving.web.examples import EXAMPLES, example_bytes


@pytest.mark.parametrize("name", [name for name in EXAMPLES if not name.endswith(".mp4")])
def test_every_image_is_what_its_name_says(name: str, astronaut: NDArray[np.uint8]) -> None:
    image = Image.open(io.BytesIO(example_bytes(name)))
    assert image.get_format_mimetype() == EXAMPLES[name].media_type
    same = image.size == astronaut.shape[1::-1] and np.array_equal(np.asarray(image), astronaut)
    assert same == (EXAMPLES[name].truth == "real")


def test_the_truth_of_each_is_told() -> None:
    truths = {name: example.truth for name, example in EXAMPLES.items()}
    assert truths["four-edits.jpg"] == "forged: eyebrow, then nose, then eye, then lip"
    assert truths["face-swap.jpg"] == "forged: another person's face"
    assert len(set(truths.values())) == 5  # the video has no line of its own


def test_a_swap_changes_the_face_and_a_blend_changes_it_less(astronaut: NDArray[np.uint8]) -> None:
    face = (slice(80, 200), slice(180, 270))
    swap, blend = (
        np.asarray(Image.open(io.BytesIO(example_bytes(f"{name}.jpg")))).astype(int) - astronaut
        for name in ("face-swap", "self-blend")
    )
    assert np.abs(swap[face]).mean() > np.abs(blend[face]).mean() > 1
    assert np.abs(swap[300:, :100]).mean() < 3  # her suit is as it was


def test_the_video_plays_six_seconds() -> None:
    with av.open(io.BytesIO(example_bytes("half-forged.mp4"))) as container:
        frames = [frame.time for frame in container.decode(video=0)]
    assert len(frames) == 72
    assert frames[-1] == pytest.approx(71 / 12)
