"""What the processes of the service write to standard error."""

import logging
import math

from forgerank.serving.trouble import trouble

ACCESS_LOG = "forgerank.access"  # name of the logger of requests


class OnceASecond(logging.Filter):
    """At most one record a second of each kind; the next one says how many were left out.

    Where files or memory have run out there is no traceback: it is always the same.
    """

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[tuple[str, str], tuple[float, int]] = {}  # when, and how many since

    def filter(self, record: logging.LogRecord) -> bool:
        kind = (record.name, str(record.msg).partition("\n")[0][:80])
        then, left_out = self._last.get(kind, (-math.inf, 0))
        if record.created < then + 1.0:
            self._last[kind] = (then, left_out + 1)
            return False
        if len(self._last) > 1000:
            self._last.clear()
        self._last[kind] = (record.created, 0)
        more = f" ({left_out} more like it)" if left_out else ""
        text, error = record.getMessage(), record.exc_info and record.exc_info[1]
        if error and trouble(error) is not None:
            record.msg, record.exc_info = f"{text.splitlines()[0]}{more}: {error}", None
        else:
            record.msg = f"{text}{more}"
        record.args = None
        return True


def log_to_stderr(*, access: bool) -> None:
    """Warnings and errors with their time, at most one of a kind a second; with `access`, every request."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    handler.addFilter(OnceASecond())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    if access:
        requests = logging.StreamHandler()
        requests.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        logger = logging.getLogger(ACCESS_LOG)
        logger.setLevel(logging.INFO)
        logger.propagate = False
        logger.addHandler(requests)
