import threading
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from forgerank.detect.result import LoadedImage, Report
from forgerank.serving.service.batching import Batcher
from forgerank.serving.service.jobs import QueueFullError

WAIT = 20  # seconds after which a test has failed


def image(name: str) -> LoadedImage:
    return LoadedImage(name, "0" * 64, np.zeros((2, 3, 3), np.uint8))


class GatedDetector:
    """Reports names in batches; waits while its gate is closed, breaks at what is called `poison`."""

    def __init__(self) -> None:
        self.batches: list[list[str | None]] = []
        self.begun = threading.Semaphore(0)
        self.gate = threading.Event()

    def __call__(self, images: Sequence[LoadedImage]) -> list[Report]:
        names = [image.path for image in images]
        self.batches.append(names)
        self.begun.release()
        assert self.gate.wait(WAIT)
        if "poison" in names:
            raise ValueError("poisoned")
        return [Report(name, "0" * 64, 3, 2, "real", None, ()) for name in names]


@pytest.fixture
def judge() -> GatedDetector:
    return GatedDetector()


@pytest.fixture
def batcher(judge: GatedDetector) -> Iterator[Batcher]:
    made = Batcher(judge, batch_size=3, wait=0.0, places=4)
    made.start()
    yield made
    judge.gate.set()
    made.close()


def occupy(batcher: Batcher, judge: GatedDetector) -> None:
    """Keep the thread busy with an image of its own until the gate opens."""
    batcher.submit(image("first"))
    assert judge.begun.acquire(timeout=WAIT)


def test_what_comes_while_a_batch_is_judged_makes_the_next_ones(
    batcher: Batcher, judge: GatedDetector
) -> None:
    occupy(batcher, judge)
    answers = [batcher.submit(image(name)) for name in "abcde"]
    assert batcher.waiting == 5
    judge.gate.set()
    assert [answer.result(WAIT).path for answer in answers] == [*"abcde"]
    assert judge.batches == [["first"], ["a", "b", "c"], ["d", "e"]]


def test_a_lone_image_waits_for_company() -> None:
    judge = GatedDetector()
    judge.gate.set()
    sizes: list[int] = []
    batcher = Batcher(judge, batch_size=2, wait=60.0, observe=sizes.append)
    batcher.start()
    first = batcher.submit(image("a"))
    second = batcher.submit(image("b"))  # the full batch does not wait for the minute to end
    assert (first.result(WAIT).path, second.result(WAIT).path) == ("a", "b")
    batcher.close()
    assert sizes == [2]


def test_one_bad_image_does_not_fail_its_batch(batcher: Batcher, judge: GatedDetector) -> None:
    occupy(batcher, judge)
    good, bad, fine = (batcher.submit(image(name)) for name in ("good", "poison", "fine"))
    judge.gate.set()
    assert good.result(WAIT).path == "good"
    assert fine.result(WAIT).path == "fine"
    with pytest.raises(ValueError, match="poisoned"):
        bad.result(WAIT)
    assert batcher.submit(image("later")).result(WAIT).path == "later"


def test_a_cancelled_image_is_never_judged(batcher: Batcher, judge: GatedDetector) -> None:
    occupy(batcher, judge)
    dropped, kept = batcher.submit(image("dropped")), batcher.submit(image("kept"))
    assert dropped.cancel()
    judge.gate.set()
    assert kept.result(WAIT).path == "kept"
    assert judge.batches == [["first"], ["kept"]]


def test_no_more_than_the_places_are_let_in(batcher: Batcher) -> None:
    from contextlib import ExitStack

    with ExitStack() as taken:
        for _ in range(4):
            taken.enter_context(batcher.place())
        with pytest.raises(QueueFullError), batcher.place():
            pass
    with batcher.place():
        pass


def test_closing_judges_what_waits(judge: GatedDetector) -> None:
    batcher = Batcher(judge, batch_size=2)
    answers = [batcher.submit(image(name)) for name in "abc"]
    judge.gate.set()
    batcher.start()
    batcher.close()
    assert all(answer.done() for answer in answers)
    assert not batcher.alive


def test_what_is_to_be_judged_thoroughly_is_a_batch_of_its_own() -> None:
    plain, thorough = GatedDetector(), GatedDetector()
    plain.gate.set()
    thorough.gate.set()
    batcher = Batcher(plain, batch_size=4, wait=60.0, thorough=thorough)
    answers = [batcher.submit(image(name), thorough=name in "bd") for name in "abcd"]
    batcher.start()
    assert [answer.result(WAIT).path for answer in answers] == [*"abcd"]
    assert (plain.batches, thorough.batches) == ([["a", "c"]], [["b", "d"]])
    batcher.close()
