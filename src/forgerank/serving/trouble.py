"""A server's own trouble, told apart from what is wrong with a file or a request."""

import errno

from forgerank.limits import lacking
from forgerank.types import InputError

_FULL = "its disk is full"
_FILES = "it has too many open files"
_MEMORY = "it is out of memory"
_TROUBLES = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: _FULL,
    errno.EMFILE: _FILES,
    errno.ENFILE: _FILES,
    errno.ENOMEM: _MEMORY,
    errno.EAGAIN: "it has too much in work",
    errno.EIO: "its disk fails",
    errno.EROFS: "its disk cannot be written to",
}


def trouble(error: BaseException) -> str | None:
    """What this machine has no more of, or cannot do, if that is why an error was raised.

    Whoever raises an InputError blames the file, unless the error names another as its cause.

    >>> trouble(OSError(errno.ENOSPC, "No space left on device"))
    'its disk is full'
    >>> trouble(ValueError("of another shape")) is None
    True
    """
    if isinstance(error, InputError):
        return None if error.__cause__ is None else trouble(error.__cause__)
    if isinstance(error, OSError) and error.errno in _TROUBLES:
        return _TROUBLES[error.errno]
    if isinstance(error, RuntimeError) and str(error) == "can't start new thread":
        return _TROUBLES[errno.EAGAIN]
    lack = lacking(error)
    if lack is None:
        return None
    return _MEMORY if "memory" in lack else _FILES
