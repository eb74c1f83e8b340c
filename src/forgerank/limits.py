"""What a process had too little of, told from what libraries raise.

>>> lacking(RuntimeError("std::bad_alloc"))
'not enough memory'
>>> lacking(ValueError("of another shape")) is None
True
"""

import re

# What NumPy, OpenCV, torch, ONNX Runtime and the loader of libraries say where memory ends.
_NO_MEMORY = re.compile(
    r"allocate memory|unable to allocate|memory allocation|out of memory|bad_alloc|insufficient memory"
    r"|failed to map segment",
    re.IGNORECASE,
)
_NO_FILES = "too many open files"  # what they all say where the limit of descriptors is reached
_NO_THREADS = "can't start new thread"  # what Python says
_SPARE = 1 << 28  # bytes; where not even these can be had, any failure is for want of memory


def lacking(error: BaseException | None) -> str | None:
    """What the system had too little of, if that is why an error was raised, or the one behind it.

    Not every library says so: for want of memory torch.export and oneDNN name no reason.
    """
    threads = False
    try:
        while error is not None:
            if isinstance(error, MemoryError) or _NO_MEMORY.search(str(error)):
                return "not enough memory"
            if _NO_FILES in str(error).lower():
                return f"{_NO_FILES}: raise the limit (ulimit -n), or use fewer workers"
            threads |= _NO_THREADS in str(error)  # for want of memory for their stacks, too
            error = error.__cause__ or error.__context__
        bytes(_SPARE)  # which touches none of its pages
    except MemoryError:
        return "not enough memory"
    return "too many threads: raise the limit (ulimit -u)" if threads else None
