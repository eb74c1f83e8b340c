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
    assert same == (EXAMPLES[name].sequence == ())


def test_the_video_plays_six_seconds() -> None:
    with av.open(io.BytesIO(example_bytes("half-forged.mp4"))) as container:
        frames = [frame.time for frame in container.decode(video=0)]
    assert len(frames) == 72
    assert frames[-1] == pytest.approx(71 / 12)
