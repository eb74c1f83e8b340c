"""What a process had too little of."""

import pytest

from forgerank import limits
from forgerank.limits import lacking


def test_a_thread_that_cannot_start_lacks_memory_or_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    error = RuntimeError("can't start new thread")
    assert lacking(error) == "too many threads: raise the limit (ulimit -u)"
    monkeypatch.setattr(limits, "_SPARE", 1 << 60)
    assert lacking(error) == "not enough memory"
