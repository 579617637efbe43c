"""Disturb the profile smoke in every way that a machine may, and require the tables of an undisturbed run.

`make soak` calls this. It works in copies of the commit that is checked out, below a temporary folder, and writes into
results/bench/soak.csv how often each disturbance was tried and whether the scores came out the same. A disturbance that
needs root is left out for others, and the table says so. Exit status 1 if one changed something.
"""

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import psutil
import typer

from lorun.cores import available_cores
from lorun.results.store import write_table
from lorun.revisions import git

ROOT = Path(__file__).resolve().parent.parent
OUT = Path("results/bench/soak.csv")
DATASETS = ("photos", "photos_spectral")
OTHER_USER = 65534  # nobody
YEAR = 365 * 24 * 3600  # seconds
PATIENCE = 3600  # seconds for one run


class Failed(Exception):
    """A disturbance that changed the scores, or that the launcher did not survive."""


class Copy:
    """A copy of the checkout at HEAD, in which the launcher runs smoke."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(folder)], check=True)
        for name in DATASETS:
            if (ROOT / "data" / name).is_dir():
                shutil.copytree(ROOT / "data" / name, folder / "data" / name, dirs_exist_ok=True)
        self.runs = folder / "runs"
        self.runs.mkdir()
        self.log = folder / "soak.log"

    def start(self, user: int | None = None) -> psutil.Popen:
        environment = os.environ | {"PYTHONPATH": str(self.folder), "HOME": str(self.folder)}
        command = [sys.executable, "workflow/launch.py", "--profile", "smoke", "--cores", str(available_cores())]
        with self.log.open("a") as log:
            return psutil.Popen(
                command,
                cwd=self.folder,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                user=user,
                group=user,
                umask=0,
                start_new_session=True,
            )

    def finish(self) -> str:
        """Run until it ends well; return the hash of the scores."""
        with self.start() as process:
            try:
                status = process.wait(PATIENCE)
            except psutil.TimeoutExpired:
                kill(process)
                raise Failed(f"not done after {PATIENCE} s, see {self.log}") from None
        if status not in (0, 4):  # 4: done, with other scores than those committed, as another processor has
            raise Failed(f"exit status {status}, see {self.log}")
        if "Traceback (most recent call last)" in self.log.read_text(errors="replace"):
            raise Failed(f"a traceback, see {self.log}")
        return str(json.loads((self.runs / "results" / "smoke" / "version.json").read_text())["scores"])

    def clear(self) -> None:
        for entry in self.runs.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def kill(process: psutil.Popen) -> None:
    """Kill it and all that it started, with no chance to clean up."""
    family = [process, *process.children(recursive=True)] if process.is_running() else []
    for one in family:
        with suppress(psutil.NoSuchProcess):
            one.kill()
    process.wait()
    psutil.wait_procs(family[1:], timeout=60)


def disturb(copy: Copy, seconds: float, user: int | None = None) -> bool:
    """Start, and kill after a while; return whether it was still running."""
    process = copy.start(user)
    try:
        process.wait(seconds)
    except psutil.TimeoutExpired:
        kill(process)
        return True
    return False


# The disturbances. Each returns the hash of the scores after it; `longest` are the seconds of an undisturbed run.


def killed(copy: Copy, count: int, longest: float) -> str:
    """Kill everything at random moments; begin anew whenever smoke got to its end."""
    done = 0
    while done < count:
        if disturb(copy, random.uniform(0, longest / 5)):  # each goes on where the one before was killed
            done += 1
            print(f"  kill {done} of {count}", flush=True)
        else:
            copy.clear()
    return copy.finish()


def two_launchers(copy: Copy, count: int, longest: float) -> str:
    """Start two at once in one checkout, and wait for both."""
    for _ in range(count):
        copy.clear()
        both = [copy.start(), copy.start()]
        for process in both:
            process.wait(PATIENCE)
    return copy.finish()


def two_users(copy: Copy, count: int, longest: float) -> str:
    """Another user starts, is killed, and this one goes on with the same folders."""
    subprocess.run(["chmod", "-R", "a+rwX", str(copy.folder)], check=True)
    for _ in range(count):
        copy.clear()
        disturb(copy, random.uniform(longest / 4, longest), user=OTHER_USER)
    return copy.finish()


def full_disk(copy: Copy, count: int, longest: float) -> str:
    """The folder of runs is full at a random number of bytes; then there is space again."""
    for _ in range(count):
        size = random.randint(200_000, 4_000_000)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(copy.runs)], check=True)
        try:
            if copy.start().wait(PATIENCE) == 0:
                raise Failed(f"exit status 0 with {size} bytes for the runs")
            subprocess.run(["mount", "-o", "remount,size=1g", str(copy.runs)], check=True)
            found = copy.finish()
        finally:
            subprocess.run(["umount", "--lazy", str(copy.runs)], check=True)
    return found


def jumping_clock(copy: Copy, count: int, longest: float) -> str:
    """What a killed run left was written a year ago, or will be in a year, each file at random."""
    for _ in range(count):
        copy.clear()
        disturb(copy, random.uniform(longest / 4, longest))
        for path in copy.runs.rglob("*"):
            moment = time.time() + random.choice([-YEAR, 0, YEAR])
            os.utime(path, (moment, moment))
    return copy.finish()


NEED_ROOT = (full_disk, two_users)


def main(
    kills: Annotated[int, typer.Option(min=0, help="Of everything at random moments.")] = 50,
    others: Annotated[int, typer.Option(min=1, help="Times of every other disturbance.")] = 2,
    seed: Annotated[int | None, typer.Option(help="Of the moments; by default a new one, which is printed.")] = None,
) -> None:
    """Try all disturbances."""
    seed = random.randrange(10**6) if seed is None else seed
    random.seed(seed)
    commit = git(ROOT, "rev-parse", "HEAD").decode().strip()
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    folder.chmod(0o755)  # the other user gets in
    print(f"seed {seed}, in {folder}", flush=True)
    started = time.monotonic()
    expected = Copy(folder / "undisturbed").finish()
    longest = time.monotonic() - started
    print(f"undisturbed: {longest:.0f} s, scores {expected[:10]}", flush=True)
    rows: list[dict[str, Any]] = []
    for trial in (killed, two_launchers, jumping_clock, full_disk, two_users):
        copy = Copy(folder / trial.__name__)
        times = kills if trial is killed else others
        try:
            if trial in NEED_ROOT and os.geteuid() != 0:
                raise PermissionError("needs root")
            found = trial(copy, times, longest)
            outcome = "same scores" if found == expected else f"other scores: {found[:10]}"
        except PermissionError as error:  # also where another user may not run this Python
            times, outcome = 0, f"not tried: {error}"
        except Failed as error:
            outcome = f"failed: {error}".replace(str(folder), "")
        print(f"{trial.__name__}: {times} times, {outcome}", flush=True)
        rows.append({"disturbance": trial.__name__, "times": times, "outcome": outcome, "seed": seed, "commit": commit})
    write_table(ROOT / OUT, pd.DataFrame(rows))
    print(f"wrote {OUT}")
    if not all(row["outcome"].startswith(("same", "not tried")) for row in rows):
        print(f"logs: {folder}")
        raise typer.Exit(1)
    shutil.rmtree(folder)


if __name__ == "__main__":
    typer.run(main)
