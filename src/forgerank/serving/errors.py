"""Errors that end a request with an HTTP status."""

from collections.abc import Mapping

RETRY_SECONDS = 5  # of Retry-After where nothing better is known


class ProblemError(Exception):
    """Ends a request with problem details; `detail` is one line and may be shown to anyone."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, headers


def busy(detail: str, seconds: int = RETRY_SECONDS) -> ProblemError:
    """503: come back in so many seconds."""
    return ProblemError(503, detail, {"Retry-After": str(seconds)})
