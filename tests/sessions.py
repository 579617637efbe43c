"""Programs that tests start in a session of their own, so that nothing of what they start is left over."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


def run_session(
    words: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    patience: float,
    stdin: int | None = None,
    stderr: int = subprocess.PIPE,
) -> "subprocess.CompletedProcess[str]":
    """Run a program to its end, or kill it and all that it started after `patience` seconds."""
    with subprocess.Popen(
        words,
        cwd=cwd,
        env=env,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            out, err = process.communicate(timeout=patience)
        finally:
            kill_session(process)  # nothing, unless it takes too long
    return subprocess.CompletedProcess(words, process.returncode, out, err)


def kill_session(process: "subprocess.Popen[str]") -> None:
    """kill -9 of a program and of all that it started at once, orphans too."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()
