"""A Slurm cluster of one node on this machine: munged, slurmctld and slurmd, in a folder of its own.

Nothing outside the folder is written, /etc/slurm included: programs find the cluster by SLURM_CONF. The node declares
GPUs that do not exist.
"""

import importlib.util
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Self

import psutil

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol")
GPUS = 2
PATIENCE = 60  # seconds
MEMORY = Path("/sys/fs/cgroup/memory")  # cgroup v1; v2 needs a systemd that delegates it

SLURM_CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmdParameters=config_overrides
PlugStackConfig={folder}/plugstack.conf
AccountingStorageType=accounting_storage/none
MinJobAge=3600
KillWait=2
MpiDefault=none
ProctrackType=proctrack/{tracking}
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
TaskPlugin=task/{task}
SchedulerParameters=sched_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory={memory} Gres=gpu:{gpus} State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES State=UP MaxTime=INFINITE
"""

CGROUP_CONF = """\
CgroupPlugin=cgroup/v1
CgroupAutomount=no
ConstrainRAMSpace=yes
"""


def why_not() -> str | None:
    """Why the workflow cannot run on a cluster that is started here; None if it can."""
    if importlib.util.find_spec("snakemake_executor_plugin_slurm") is None:
        return "snakemake-executor-plugin-slurm not installed (pip)"
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        return f"{', '.join(missing)} not installed (Debian: slurm-wlm, munge)"
    return None if os.geteuid() == 0 else "slurmd needs root"


def limits_memory() -> bool:
    """Whether slurmd can limit the memory of jobs here."""
    return MEMORY.is_dir() and os.access(MEMORY, os.W_OK)


class Slurm:
    """The cluster while this context is open."""

    def __init__(self, folder: Path, memory: int = 16_000) -> None:
        """`folder` is made; `memory` in MB is what the node offers to jobs."""
        self.folder = folder
        self._memory = memory
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        self._stack = ExitStack()

    @property
    def environment(self) -> dict[str, str]:
        """What programs need to find it."""
        path = os.pathsep.join([str(self.folder / "bin"), os.environ["PATH"]])
        return {"SLURM_CONF": str(self.folder / "slurm.conf"), "PATH": path}

    def run(self, *words: str) -> str:
        """The output of a program of Slurm."""
        environment = os.environ | self.environment
        return subprocess.run(words, env=environment, check=True, capture_output=True, text=True).stdout

    def cancel(self) -> None:
        """End all jobs, and wait until they have ended."""
        self.run("scancel", "--user=root")
        self.wait_until_idle()

    def kill_node(self) -> None:
        """End slurmd and its jobs as a power cut does, and start slurmd again.

        slurmctld finds a node down by itself after SlurmdTimeout, five minutes; here it is told.
        """
        steps = [one for one in psutil.process_iter(["name"]) if one.info["name"] == "slurmstepd"]
        jobs = [process for step in steps for process in step.children(recursive=True)]
        self._daemons["slurmd"].kill()
        self._daemons["slurmd"].wait(PATIENCE)
        for process in (*steps, *jobs):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        node = f"nodename={socket.gethostname()}"
        self.run("scontrol", "update", node, "state=down", "reason=killed")
        self._start("slurmd", "-D")
        self.run("scontrol", "update", node, "state=resume")

    def wait_until_idle(self) -> None:
        """Wait until no job runs or waits."""
        self._wait(lambda: not self.run("squeue", "--noheader"))

    def __enter__(self) -> Self:
        folder, host = self.folder, socket.gethostname()
        for name in (".", "state", "spool", "bin"):
            (folder / name).mkdir(mode=0o755)
        srun = folder / "bin/srun"  # Snakemake's plugin clears SLURM_CONF before it calls this
        srun.write_text(f'#!/bin/sh\nSLURM_CONF={folder}/slurm.conf exec {shutil.which("srun")} "$@"\n')
        srun.chmod(0o755)
        limited = limits_memory()
        settings = {"tracking": "cgroup", "task": "cgroup"} if limited else {"tracking": "linuxproc", "task": "none"}
        text = SLURM_CONF.format(
            folder=folder, host=host, ports=[_free_port(), _free_port()], memory=self._memory, gpus=GPUS, **settings
        )
        (folder / "slurm.conf").write_text(text)
        for number in range(GPUS):
            (folder / f"gpu{number}").touch()
        (folder / "gres.conf").write_text(f"Name=gpu File={folder}/gpu[0-{GPUS - 1}]\n")
        (folder / "plugstack.conf").write_text("")
        if limited:
            (folder / "cgroup.conf").write_text(CGROUP_CONF)
        (folder / "munge.key").write_bytes(os.urandom(128))
        (folder / "munge.key").chmod(0o600)
        with ExitStack() as stack:
            self._stack = stack
            files = [f"--{name}-file={folder}/munge.{name}" for name in ("key", "log", "pid", "seed")]
            self._start("munged", "--foreground", "--force", f"--socket={folder}/munge.socket", *files)
            self._wait(lambda: (folder / "munge.socket").exists())
            self._start("slurmctld", "-D", "-i")
            self._start("slurmd", "-D")
            self._wait(lambda: "State=IDLE" in self.run("scontrol", "show", "node", host))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        with self._stack:
            self.cancel()
        for controller in ("memory", "freezer"):
            for group in sorted(MEMORY.parent.glob(f"{controller}/slurm_{socket.gethostname()}/**/"), reverse=True):
                group.rmdir()

    def _start(self, *words: str) -> None:
        log = self._stack.enter_context((self.folder / f"{words[0]}.out").open("a"))
        environment = os.environ | self.environment
        process = subprocess.Popen(words, env=environment, stdout=log, stderr=subprocess.STDOUT)

        def stop() -> None:
            process.terminate()
            process.wait(PATIENCE)

        self._daemons[words[0]] = process
        self._stack.callback(stop)

    def _wait(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE
        while True:
            try:
                if condition():
                    return
            except subprocess.CalledProcessError:
                pass
            if time.monotonic() > end:
                logs = (path.read_text()[-2000:] for path in sorted(self.folder.glob("*.log")))
                raise TimeoutError("the cluster hangs:\n" + "\n".join(logs))
            time.sleep(0.2)


def _free_port() -> int:
    with closing(socket.socket()) as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
