"""git in the repositories that tests make."""

import subprocess
from pathlib import Path


def git(root: Path, *words: str) -> str:
    """What a git command prints in `root`; commits are by nobody."""
    identity = ("-c", "user.name=nobody", "-c", "user.email=nobody@example.org")
    command = ["git", "-C", str(root), *identity, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
