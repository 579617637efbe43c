"""Run a profile from data to table: what `make reproduce` calls.

Finds the cores and GPUs, clears what a killed run left behind, lets Snakemake do what is not done yet, and prints the
table. Safe to interrupt in any way and to start again.
"""

import argparse
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from lorun.data.checksums import find_damage
from lorun.errors import LorunError
from lorun.profiles import Profile, load_profile

ROOT = Path(__file__).resolve().parent.parent
INTERRUPTED = 130  # as of a shell


def main() -> int:
    """Return Snakemake's exit status; print the table where there is one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="quick", help="file of config/ without its suffix (default: quick)")
    parser.add_argument("--cores", type=int, default=os.cpu_count(), help="CPU cores to use (default: all)")
    parser.add_argument("--results", help="folder of the result set (default: results/PROFILE)")
    parser.add_argument("snakemake", nargs="*", help="further arguments for Snakemake, after --")
    arguments = parser.parse_args()
    os.chdir(ROOT)
    # The environment's own programs first, whatever shell this was called from.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    try:
        with _only_one() as lock:
            status = _run(arguments, lock)
    except LorunError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        status = INTERRUPTED
    if status == INTERRUPTED:
        print("Interrupted. What is done is kept: the same command goes on from there.", file=sys.stderr)
    return status


def _run(arguments: argparse.Namespace, lock: IO[str]) -> int:
    config = Path("config") / f"{arguments.profile}.yaml"
    profile = load_profile(config)
    folder = Path(arguments.results or f"results/{profile.profile}")
    for place in (folder, Path("runs")):
        _check_writable(place)
    gpus = count_gpus()
    started = time.time()
    print(f"profile {profile.profile}: {arguments.cores} cores, {gpus} GPUs", flush=True)
    settings = ["--cores", str(arguments.cores), "--resources", "dvc=1", f"gpu={gpus}"]
    settings += ["--workflow-profile", "workflow/profiles/default"]
    settings += ["--config", f"profile={arguments.profile}", f"gpus={gpus}", f"results={folder}"]
    if any(Path(".snakemake/locks").glob("*")):  # nobody runs: the lock of this launcher is ours
        subprocess.run(["snakemake", "--unlock", *settings], check=False, capture_output=True)
    status = 0
    if not _data_intact(profile) and not arguments.snakemake:
        # By themselves: to Snakemake, a training is out of date when its data are made anew in the same go.
        status = _snakemake(["snakemake", "data", *settings], lock)
    status = status or _snakemake(["snakemake", *arguments.snakemake, *settings], lock)
    if status == INTERRUPTED or arguments.snakemake:
        return status  # with arguments of one's own, the table is not what was asked for
    if status and any(log.stat().st_mtime >= started for log in Path("runs").rglob("*.log")):
        # Whatever finished is in the tables; what failed or never ran is a row that says so.
        subprocess.run(["lorun", "table", "--config", config, "--out", folder, "--partial"], check=False)
        subprocess.run(["lorun", "report", folder, "--config", config], check=False)
    summary = folder / "summary.md"
    written = _is_newer(summary, started)
    if summary.exists() and (written or not status):
        subprocess.run(["lorun", "show", str(folder)], check=False)
    if status and written:
        print(
            f"error: some jobs failed (see above and the logs in runs/); {folder} says which rows",
            file=sys.stderr,
        )
    elif status:
        print(f"error: failed before there was a table (see above); {folder} is what it was", file=sys.stderr)
    elif written or _is_newer(folder / "report.html", started):
        print(f"Done in {time.time() - started:.0f} s: {folder}")
    else:
        print(f"Nothing to do: {folder} is up to date.")
    return status


def _is_newer(path: Path, moment: float) -> bool:
    return path.exists() and path.stat().st_mtime >= moment


def _data_intact(profile: Profile) -> bool:
    """Whether all datasets are there; the markers of the others are removed, so that the workflow fetches them."""
    datasets = profile.datasets()
    markers = [Path("data", f".{name}.ok") for name in datasets]
    for name, marker in zip(datasets, markers, strict=True):
        if find_damage(Path("data"), name):
            marker.unlink(missing_ok=True)
    return all(marker.exists() for marker in markers)


def _snakemake(command: list[str], lock: IO[str]) -> int:
    """Run Snakemake to its end; return its exit status, or INTERRUPTED where a signal ended it.

    Ctrl-C reaches Snakemake and its jobs from the terminal. SIGTERM is passed on: the running jobs are finished, no
    others started. Snakemake keeps the lock, so that nobody else starts while it outlives a killed launcher.
    """
    stopped = False

    def stop(number: int, _: object) -> None:
        nonlocal stopped
        stopped = True
        if number == signal.SIGTERM:
            process.send_signal(number)

    process = subprocess.Popen(command, pass_fds=[lock.fileno()])
    lock.truncate(0)
    print(process.pid, end="", file=lock, flush=True)  # for the message of a second launcher
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    status = process.wait()
    return INTERRUPTED if stopped and status else status


def _check_writable(folder: Path) -> None:
    """Raise LorunError now rather than after hours of training."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise LorunError(f"cannot write to {folder}: {error.strerror}; nothing was run") from error


def count_gpus() -> int:
    """GPUs that training can use. PyTorch is asked only where a driver is: it takes seconds to import."""
    if shutil.which("nvidia-smi") is None and not Path("/proc/driver/nvidia").exists():
        return 0
    import torch

    return torch.cuda.device_count()


@contextmanager
def _only_one() -> Iterator[IO[str]]:
    """Hold the lock of this checkout; it ends with the last process that has it, however that ends."""
    place = Path(".snakemake/launch.lock")
    try:
        place.parent.mkdir(exist_ok=True)
        lock = place.open("a+")
    except OSError as error:
        raise LorunError(f"cannot write to {ROOT / place.parent}: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            which = lock.read() or "just starting"
            raise LorunError(
                f"another `make reproduce` runs in this checkout (process {which}); wait for it or stop it"
            ) from None
        lock.truncate(0)
        yield lock


if __name__ == "__main__":
    sys.exit(main())
