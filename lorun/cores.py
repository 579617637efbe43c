"""The CPU cores that work may be spread over."""

import os


def available_cores() -> int:
    """The cores that this process may run on, whatever OMP_NUM_THREADS says; all where the system does not tell."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
