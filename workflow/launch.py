"""Run a profile from data to tables. `make reproduce` calls this.

Finds the cores and GPUs, removes what a killed run left behind and what is damaged, lets Snakemake run what is not done
yet, prints the summary, and says whether it reproduces the committed result set, results/PROFILE at HEAD. It can be
interrupted at any time and started again.

With --on slurm, Snakemake submits the trainings, scores and costs to the nodes of a cluster (docs/cluster.md). With
--store s3://BUCKET/FOLDER, jobs exchange runs through a store, for executors without a shared file system.

Where a set is committed, the tables go into runs/results/PROFILE, and --accept also writes them into results/PROFILE.
Otherwise they go into results/PROFILE.

Exit status: 0 if the results are identical, equal within noise, accepted, or if there is nothing to compare with; 1 if
something failed; 4 if the results differ; 130 if interrupted. (make itself always ends with 2 and shows this one.)
"""

import argparse
import fcntl  # not filelock: Snakemake inherits the open file, which filelock keeps private
import importlib.util
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

from preloaded import preloaded

from lorun.cores import available_cores
from lorun.data.checksums import find_damage
from lorun.errors import LorunError
from lorun.profiles import Profile, load_profile
from lorun.profiles.references import check_references
from lorun.results.damage import remove_damaged
from lorun.results.failures import describe, failures
from lorun.revisions import UnknownRevision, git

ROOT = Path(__file__).resolve().parent.parent
DIFFERENT = 4  # exit status; Snakemake and a training have used those below
SHOWN = 5  # jobs that failed
SUBMITTED = Path(".snakemake/slurm_logs")
INTERRUPTED = 130  # the exit status that a shell gives after Ctrl-C


def main() -> int:
    """Run the profile and return the exit status, see above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="quick", help="file of config/ without its suffix (default: quick)")
    parser.add_argument("--cores", type=int, default=available_cores(), help="CPU cores to use (default: all)")
    parser.add_argument("--on", choices=["slurm"], help="submit jobs to a cluster, with --cores for what stays here")
    parser.add_argument("--gpus", type=int, help="with --on: GPUs to use at once, one for each job (default: 0)")
    parser.add_argument("--store", help="store of jobs that share no file system: s3://BUCKET/FOLDER, or a folder")
    parser.add_argument("--accept", action="store_true", help="replace results/PROFILE by the results of this run")
    parser.add_argument("snakemake", nargs="*", help="further arguments for Snakemake, after --")
    arguments = parser.parse_args()
    if arguments.gpus is not None and arguments.on is None:
        parser.error("--gpus goes with --on; the GPUs of this machine are counted")
    os.chdir(ROOT)
    # Prefer the programs of this Python environment, whatever shell this was called from.
    _prefer(Path(sys.executable).parent)
    gpus = _count_gpus() if arguments.on is None else arguments.gpus or 0
    try:
        with _only_one() as lock, _commands(arguments.on is None and not gpus and not arguments.store) as folder:
            _prefer(folder)
            status = _run(arguments, gpus, lock)
    except LorunError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        status = INTERRUPTED
    if status == INTERRUPTED:
        print("Interrupted. Finished work is kept; run the same command to continue.", file=sys.stderr)
    return status


def _prefer(folder: Path) -> None:
    """Put the programs of a folder first."""
    os.environ["PATH"] = os.pathsep.join([str(folder), os.environ.get("PATH", "")])


@contextmanager
def _commands(forked: bool) -> Iterator[Path]:
    """The folder of the program `lorun`: if `forked`, and on Linux, one that starts at once.

    A process that uses a GPU initialises it by itself, and one on a cluster belongs to its job. Tests name a folder in
    LORUN_PRELOADED that several launchers share.
    """
    shared = os.environ.get("LORUN_PRELOADED")
    if forked and not shared and sys.platform == "linux":
        with preloaded() as folder:
            yield folder
    else:
        yield Path((forked and shared) or Path(sys.executable).parent)


def _run(arguments: argparse.Namespace, gpus: int, lock: IO[str]) -> int:
    config = Path("config") / f"{arguments.profile}.yaml"
    profile = load_profile(config)
    check_references(profile, Path("data"))
    kept = Path("results", profile.profile)
    committed, reason = _committed(kept)
    folder = kept if committed is None else "runs" / kept
    for place in (folder, Path("runs"), *([kept] if arguments.accept else [])):
        _check_writable(place)
    for line in remove_damaged(profile, Path("runs"), folder):
        print(line, file=sys.stderr, flush=True)
    _date_back(Path("runs"), folder)
    started = time.time()
    if arguments.on is not None:
        _check_cluster()
    where = f"{arguments.cores} cores" if arguments.on is None else f"on {arguments.on}"
    print(f"profile {profile.profile}: {where}, {gpus} GPUs", flush=True)
    # Where jobs are submitted, a profile of Snakemake says how many at once.
    submitted = arguments.on is not None or (arguments.store is not None and "SNAKEMAKE_PROFILE" in os.environ)
    settings = ["--local-cores" if submitted else "--cores", str(arguments.cores)]
    settings += ["--resources", "dvc=1", f"gpu={gpus}", *([] if arguments.on is None else ["account=1"])]
    settings += ["--workflow-profile", f"workflow/profiles/{arguments.on or 'default'}"]
    # Paths with a slash: Snakemake would turn a name such as 2024_01 or 1e3 into a number.
    settings += ["--config", f"profile_file={config}", f"gpus={gpus}", f"results={os.path.join('.', folder)}"]
    if arguments.store is not None:
        settings += ["stored=True", *_storage(arguments.store, profile)]
    if any(Path(".snakemake/locks").glob("*")):  # left by a killed Snakemake: this launcher holds the lock
        subprocess.run(["snakemake", "--unlock", *settings], check=False, capture_output=True)
    status = 0
    if not arguments.snakemake and not _data_intact(profile):
        # In a separate run: Snakemake trains again if the data are made anew in the same one.
        status = _snakemake(["snakemake", "data", *settings], lock)
    if not status and not arguments.snakemake and profile.untuned():
        status = _snakemake(["snakemake", "tune", "--forcerun", "tune_one", *settings], lock)
    status = status or _snakemake(["snakemake", *arguments.snakemake, *settings], lock)
    if status == INTERRUPTED or arguments.snakemake:
        return status
    if status and any(log.stat().st_mtime >= started for log in Path("runs").rglob("*.log")):
        # Tables of the finished runs, which list the others with their status.
        _tabulate(config, folder, "--partial")
    written = _is_newer(folder / "summary.md", started)
    if written or (not status and (folder / "summary.md").exists()):
        subprocess.run(["lorun", "show", str(folder)], check=False)
    if status:
        _show_failures(profile, started)
        if written:
            print(f"error: some jobs failed (see above and the logs in runs/); {folder} lists them", file=sys.stderr)
        else:
            print(f"error: failed before any table was written; {folder} is unchanged", file=sys.stderr)
        return status
    if written or _is_newer(folder / "report.html", started):
        print(f"Done in {time.time() - started:.0f} s: {folder}")
    else:
        print(f"Nothing to do: {folder} is up to date.")
    if committed is None:
        print(f"Not compared with committed results: {reason}", flush=True)
    else:
        status = _compare(committed, folder)
    if arguments.accept and folder != kept:
        status = _tabulate(config, kept)
        print(f"error: {kept} is unchanged" if status else f"Accepted: {kept} has these results; commit it", flush=True)
    elif status:
        print(f"To replace the committed set: make reproduce PROFILE={arguments.profile} ACCEPT=1", flush=True)
    return status


def _show_failures(profile: Profile, started: float) -> None:
    """Say which jobs failed, with the ends of their logs, on one screen."""
    found = failures(profile, Path("runs"), started, SUBMITTED)
    for failure in found[:SHOWN]:
        print(*describe(failure, SUBMITTED), sep="\n", file=sys.stderr)
    if len(found) > SHOWN:
        print(f"and {len(found) - SHOWN} further jobs", file=sys.stderr)


def _tabulate(config: Path, folder: Path, *options: str) -> int:
    """Write tables and report from the runs that are there; return the exit status of the tables."""
    status = subprocess.run(["lorun", "table", "--config", config, "--out", folder, *options], check=False).returncode
    subprocess.run(["lorun", "report", folder, "--config", config], check=False)
    return status


def _committed(kept: Path) -> tuple[str | None, str]:
    """The committed result set as REV:FOLDER, and why there is none, in words."""
    try:
        prefix = git(ROOT, "rev-parse", "--show-prefix").decode().removesuffix("\n")  # of ROOT in the repository
        git(ROOT, "cat-file", "-e", f"HEAD:{prefix}{kept}/rows.csv")
    except UnknownRevision as error:
        return None, f"{kept} is not committed ({error})"
    return f"HEAD:{prefix}{kept}", ""


def _compare(committed: str, folder: Path) -> int:
    """Say whether `folder` reproduces the committed set; return 0 or DIFFERENT."""
    from lorun.gate.reproduction import reproduction
    from lorun.results.store import read_result_set

    try:
        found = reproduction(read_result_set(committed), read_result_set(folder))
    except LorunError as error:
        print(f"Not compared with committed results: {error}", flush=True)
        return 0
    print(*found.lines, sep="\n", flush=True)
    if not found.differences:
        return 0
    print(f"All findings: lorun gate --reference {committed} --candidate {folder} --all", flush=True)
    return DIFFERENT


def _is_newer(path: Path, moment: float) -> bool:
    return path.exists() and path.stat().st_mtime >= moment


def _data_intact(profile: Profile) -> bool:
    """Whether all datasets are intact. Removes the markers of the others, so that the workflow fetches them."""
    intact = True
    for name in profile.datasets():
        marker = Path("data", f".{name}.ok")
        if find_damage(Path("data"), name):
            marker.unlink(missing_ok=True)
        intact = intact and marker.exists()
    return intact


def _snakemake(command: list[str], lock: IO[str]) -> int:
    """Run Snakemake and return its exit status, or INTERRUPTED if a signal ended it.

    Ctrl-C reaches Snakemake and its jobs from the terminal. SIGTERM is passed on: running jobs finish, and no others
    start. Snakemake inherits the lock, so that no second launcher starts while it outlives a killed one.
    """
    stopped = False

    def stop(number: int, _: object) -> None:
        nonlocal stopped
        stopped = True
        if number == signal.SIGTERM:
            process.send_signal(number)

    process = subprocess.Popen(command, pass_fds=[lock.fileno()])
    lock.truncate(0)
    print(process.pid, end="", file=lock, flush=True)  # for the error of a second launcher
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    status = process.wait()
    return INTERRUPTED if stopped and status else status


def _check_writable(folder: Path) -> None:
    """Raise LorunError before hours of training, not after them."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise LorunError(f"cannot write to {folder}: {error.strerror}; nothing was run") from error


def _check_cluster() -> None:
    """Raise LorunError where jobs cannot be submitted to Slurm."""
    if shutil.which("sbatch") is None:
        raise LorunError("--on slurm needs the programs of Slurm, and `sbatch` is not on PATH: start on a login node")
    _check_plugin("--on slurm", "executor-plugin-slurm")


def _check_plugin(option: str, name: str) -> None:
    if importlib.util.find_spec(f"snakemake_{name.replace('-', '_')}") is None:
        raise LorunError(f"{option} needs Snakemake's plugin: .venv/bin/uv pip install snakemake-{name}")


def _storage(store: str, profile: Profile) -> list[str]:
    """The options of Snakemake for a store. Raises LorunError where it cannot be used."""
    provider = store.partition("://")[0] if "://" in store else "fs"
    _check_plugin(f"--store {store}", f"storage-plugin-{provider}")
    if provider == "fs" and shutil.which("rsync") is None:
        raise LorunError(f"--store {store} needs the program rsync, with which Snakemake's plugin copies")
    if untuned := profile.untuned():
        names = ", ".join(dict.fromkeys(f"{task}/{method}" for task, method in untuned))
        raise LorunError(f"--store: choose learning rates with `lorun tune` before, on one machine, for {names}")
    return ["--shared-fs-usage", "none", "--default-storage-provider", provider, "--default-storage-prefix", store]


def _date_back(*folders: Path) -> None:
    """Give files from the future today's time: a clock was wrong. Snakemake refuses an output older than its input."""
    now = time.time()
    for path in (path for folder in folders for path in folder.rglob("*")):
        if path.is_file() and path.stat().st_mtime > now:
            os.utime(path, (now, now))


def _count_gpus() -> int:
    """Number of usable GPUs. PyTorch is imported, which takes seconds, only if there is a driver."""
    if shutil.which("nvidia-smi") is None and not Path("/proc/driver/nvidia").exists():
        return 0
    import torch

    return torch.cuda.device_count()


@contextmanager
def _only_one() -> Iterator[IO[str]]:
    """Hold the lock of this checkout. It is released when the last process that inherited it ends."""
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
