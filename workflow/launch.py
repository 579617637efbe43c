"""Run a profile from data to table: what `make reproduce` calls.

Finds the cores and GPUs, clears what a killed run left behind, lets Snakemake do what is not done yet, and prints the
table. Safe to interrupt in any way and to start again.
"""

import argparse
import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lorun.config import load_profile
from lorun.data.checksums import find_damage
from lorun.errors import LorunError

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    """Return Snakemake's exit status; print the table in any case."""
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
        with _only_one():
            return _run(arguments)
    except LorunError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _run(arguments: argparse.Namespace) -> int:
    profile = load_profile(Path("config") / f"{arguments.profile}.yaml")
    datasets = {
        name for task in profile.tasks.values() for name in [task.data.train, task.data.validation, *task.data.test]
    }
    for name in datasets:
        if find_damage(Path("data"), name):
            Path("data", f".{name}.ok").unlink(missing_ok=True)  # the workflow then fetches it again
    folder = Path(arguments.results or f"results/{profile.profile}")
    gpus = count_gpus()
    started = time.time()
    print(f"profile {profile.profile}: {arguments.cores} cores, {gpus} GPUs", flush=True)
    settings = [f"profile={arguments.profile}", f"gpus={gpus}", f"results={folder}"]
    command = [
        "snakemake",
        "--workflow-profile",
        "workflow/profiles/default",
        "--cores",
        str(arguments.cores),
    ]
    command += ["--resources", "dvc=1", f"gpu={gpus}"]
    command += [*arguments.snakemake, "--config", *settings]
    if any(Path(".snakemake/locks").glob("*")):  # nobody runs: the lock of this launcher is ours
        subprocess.run([*command, "--unlock"], check=True, capture_output=True)
    status = subprocess.run(command, check=False).returncode
    summary = folder / "summary.md"
    if summary.exists():
        subprocess.run(["lorun", "show", str(folder)], check=False)
    if status:
        print(
            f"error: some jobs failed (see above and the logs in runs/); {folder} says which rows",
            file=sys.stderr,
        )
    elif summary.exists() and summary.stat().st_mtime < started:
        print(f"Nothing to do: {folder} is up to date.")
    else:
        print(f"Done in {time.time() - started:.0f} s: {folder}")
    return status


def count_gpus() -> int:
    """GPUs that training can use. PyTorch is asked only where a driver is: it takes seconds to import."""
    if shutil.which("nvidia-smi") is None and not Path("/proc/driver/nvidia").exists():
        return 0
    import torch

    return torch.cuda.device_count()


@contextmanager
def _only_one() -> Iterator[None]:
    """Hold the lock of this checkout; it ends with the process, however that ends."""
    place = Path(".snakemake/launch.lock")
    try:
        place.parent.mkdir(exist_ok=True)
        lock = place.open("w")
    except OSError as error:
        raise LorunError(f"cannot write to {ROOT / place.parent}: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LorunError("another `make reproduce` runs in this checkout; wait for it or stop it") from None
        yield


if __name__ == "__main__":
    sys.exit(main())
