"""Problems that a check of a data set reports."""

from dataclasses import dataclass

KINDS = {
    "count": "other than published",
    "annotation": "annotations that cannot be used",
    "missing": "missing files",
    "unreadable": "unreadable files",
    "truncated": "truncated files",
    "damaged": "damaged frames",
    "same video": "in several splits",
    "same source": "people or sources in several splits",
    "near-duplicate": "images that another split shows too",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem of a data set."""

    kind: str  # a key of KINDS
    name: str
    detail: str = ""
