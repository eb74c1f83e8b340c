"""The scheduling that an encoder leaves behind, put right: for the tests and for benchmarks/fuzz.py."""

import os


def ordinary_priority() -> None:
    """SVT-AV1's encoder gives a process of root real-time priority, which starves whatever runs beside it."""
    if hasattr(os, "sched_getscheduler") and os.sched_getscheduler(0) != os.SCHED_OTHER:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
