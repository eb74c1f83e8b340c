"""A server's own trouble, told apart from what is wrong with a file or a request."""

import errno

from forgerank.limits import lacking
from forgerank.types import InputError

_FULL = "its disk is full"
_FILES = "it has too many open files"
_MEMORY = "it is out of memory"
_BUSY = "it has too much in work"
_TROUBLES = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: _FULL,
    errno.EMFILE: _FILES,
    errno.ENFILE: _FILES,
    errno.ENOMEM: _MEMORY,
    errno.EAGAIN: _BUSY,
    errno.EIO: "its disk fails",
    errno.EROFS: "its disk cannot be written to",
    # Of its own folders alone: what it is sent has no paths.
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM, errno.EEXIST, errno.ENOTDIR, errno.ELOOP), "its folder cannot be used"
    ),
}
_LACKING = {"memory": _MEMORY, "files": _FILES, "threads": _BUSY}  # by a word of what `lacking` says


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
    lack = lacking(error) or ""
    return next((told for word, told in _LACKING.items() if word in lack), None)
