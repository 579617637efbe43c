"""Follow the pages of the documentation in a copy of the project whose profiles are cut to the smallest size."""

import glob
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml
from pages import Block, blocks, program, words
from processes import Target, launch, preloaded_in_copy, python, run_in_copy
from sessions import run_session
from tiny import PROJECT

_STEPS = {"steps": 4, "phase1_steps": 2, "batch": 2, "checkpoint_every": 2, "validate_every": 2, "warmup_steps": 1}
_TINY: Mapping[str, Any] = {
    "data": {"train": "photos", "validation": "photos", "test": ["photos"]},
    "physics": {"initial_blocks": 200},
    "denoiser": {"name": "unet", "width": 4, "levels": 2, "blocks": 1},
    "unfolding": {"stages": 2},
    "training": {**_STEPS, "tuning": None, "cpu_threads": 1},
    "accounting": {"batch": 2, "image": 128, "latency_repeats": 1},
}
_FEW = {"strategies": ["lorun"], "baselines": [], "evaluation": {"keep": ["camera"]}}

STAND_INS: Mapping[str, Any] = {
    "quick": {"cs": {**_TINY, **_FEW}, "cassi": None, "sr": None},
    "smoke": {"cassi": None, "sr": None},
    "desk": {"cs": _TINY, "cassi": None, "cassi_real": None, "sr": None},
    "paper": {"cs": _TINY, "cassi": None, "cassi_real": None, "sr": None},
}
"""Profile -> changes of its tasks; None leaves a task out."""

_SHELL = re.compile(r"[|&;<>$`(){}~\"']")  # what only a shell understands
_PATIENCE = 900  # seconds; the machine may be busy


class Reader:
    """A scratch copy of the project, in whose folder commands are run."""

    def __init__(self, root: Path, shared: Path | None = None) -> None:
        self.root = root
        self.environment = {
            **os.environ,
            "PATH": os.pathsep.join([str(root / ".venv" / "bin"), os.environ["PATH"]]),
            "PYTHONPATH": str(root),
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "DVC_SITE_CACHE_DIR": str(root.parent / "site-cache"),
        }
        for name in ("MAKEFLAGS", "MAKELEVEL"):  # of the `make test` that this may be
            self.environment.pop(name, None)
        self._shared = shared
        self._own = ExitStack()

    def follow(self, page: str) -> None:
        """Do what a page says, in order, and fail at the first thing that does not work."""
        for block in blocks(PROJECT / page):
            if block.kind == "file":
                self._write(block.note, block.text)
            elif block.kind == "patch":
                self._patch(block)
            elif block.language == "python":
                compile(block.text, block.place, "exec")
                if self._may_run(block):
                    _succeed(block, "python", self._fork(python, block.text))
            elif block.language:
                for command in block.commands:
                    self._obey(block, command)

    def run(self, command: str) -> tuple[int, str]:
        """Run one command line; return its exit status and what it printed."""
        if program(command) == "lorun" and not _SHELL.search(command.partition(" #")[0]):
            arguments = [found for word in words(command)[1:] for found in self._expanded(word)]
            return self._call([str(self._lorun() / "lorun"), *arguments])
        if program(command) == "python":
            match words(command)[1:]:
                case ["-c", text]:
                    return self._fork(python, text)
                case ["workflow/launch.py", *arguments]:
                    return self._fork(launch, arguments, LORUN_PRELOADED=str(self._lorun()))
        return self._call(["bash", "-c", command])

    def called_by_make(self, target: str) -> str:
        """The command of a target of the Makefile that has one. To run it here saves the imports of new processes."""
        status, output = self.run(f"make --dry-run --silent {target}")
        assert status == 0, output
        return re.sub(r"^\S*bin/python", "python", output.strip())

    def copy(self, root: Path) -> "Reader":
        """A reader in a copy of this folder. They share the process that runs `lorun` until the code of one changes."""
        shutil.copytree(self.root, root, symlinks=True)
        return Reader(root, self._lorun())

    def close(self) -> None:
        """End what runs `lorun`; the next command starts it anew, with the code as it is then."""
        self._own.close()
        self._shared = None

    def _obey(self, block: Block, command: str) -> None:
        if self._may_run(block):
            _succeed(block, command, self.run(command))
        else:
            self._check(block, command)

    def _may_run(self, block: Block) -> bool:
        """Whether a block is run, by the comment above it (`pages`)."""
        note = block.note
        kind, _, rest = note.partition(" ")
        known = not note or (kind in ("not,", "with") and rest)
        assert known, f"{block.place}: `run: {note}` is neither `run: not, REASON` nor `run: with NAME ...`"
        return not note or (kind == "with" and self._has(rest.split()))

    def _has(self, datasets: list[str]) -> bool:
        """Whether these datasets are there; they are copied from the project where it has them."""
        for name in datasets:
            if (PROJECT / "data" / name).is_dir() and not (self.root / "data" / name).exists():
                shutil.copytree(PROJECT / "data" / name, self.root / "data" / name)
        return all((self.root / "data" / name).is_dir() for name in datasets)

    def _check(self, block: Block, command: str) -> None:
        """Check a command without running it."""
        called = program(command)
        if called == "make":
            _succeed(block, command, self.run(command.replace("make", "make --dry-run", 1)))
        elif called == "lorun":
            _parse(words(command)[1:])
        elif called == "torchrun":
            from torch.distributed.run import get_args_parser

            script = get_args_parser().parse_args(words(command)[1:])
            assert (script.module, script.training_script) == (True, "lorun"), f"{block.place}: {command}"
            _parse(script.training_script_args)
        else:
            _succeed(block, command, self._call(["bash", "-nc", command]))
            assert shutil.which(called, path=self.environment["PATH"]), f"{block.place}: there is no {called}"

    def _write(self, path: str, text: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)
        if path.endswith(".py"):
            self.close()

    def _patch(self, block: Block) -> None:
        done = subprocess.run(
            ["git", "apply", "-"], cwd=self.root, input=block.text, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{block.place}: does not apply any more: {done.stderr}"
        if re.search(r"(?m)^\+\+\+ .*\.py$", block.text):
            self.close()

    def _call(self, command: list[str]) -> tuple[int, str]:
        done = run_session(
            command,
            cwd=self.root,
            env=self.environment,
            patience=_PATIENCE,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
        )
        return done.returncode, done.stdout

    def _fork(self, target: Target, argument: object, **variables: str) -> tuple[int, str]:
        done = run_in_copy(self.root, self.environment | variables, target, argument, patience=_PATIENCE)
        return done.returncode, done.stdout + done.stderr

    def _expanded(self, word: str) -> list[str]:
        """The files that a pattern matches, or the word where there are none, as in a shell."""
        return sorted(glob.glob(word, root_dir=self.root)) or [word]

    def _lorun(self) -> Path:
        """The folder of the program `lorun` with today's code."""
        if self._shared is None:
            self._shared = self._own.enter_context(preloaded_in_copy(self.root, self.environment))
        return self._shared


def make_reader(root: Path) -> Reader:
    """A reader in a fresh copy of the project as it is checked out, in a git repository of its own."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listed, cwd=PROJECT, check=True, capture_output=True, text=True).stdout.split("\0")
    for name in names:
        if name and (PROJECT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PROJECT / name, root / name)
    _cut(root / "config")
    (root / ".venv").symlink_to(sys.prefix)
    for name in ("requirements.lock", "pyproject.toml"):
        os.utime(root / name, (0, 0))  # older than the environment, which was made from them
    reader = Reader(root)
    git = "git -c user.name=reader -c user.email=reader@example.org -c commit.gpgsign=false"
    for command in ("git init --quiet", "git add .", f"{git} commit --quiet --no-verify --message project"):
        status, output = reader.run(command)
        assert status == 0, output
    return reader


def _cut(config: Path) -> None:
    """Replace the profiles by the stand-ins, which extend them."""
    for name, tasks in STAND_INS.items():
        path = config / f"{name}.yaml"
        path.rename(config / f"{name}.full.yaml")
        content = {"extends": f"{name}.full.yaml", "seeds": [0], "tasks": tasks}
        path.write_text(yaml.safe_dump(content, sort_keys=False))


def _succeed(block: Block, command: str, done: tuple[int, str]) -> None:
    status, output = done
    assert status == 0, f"{block.place}: {command}: exit status {status}\n{output}"


def _parse(arguments: list[str]) -> None:
    """Parse a command line of lorun without running it; a mistake is an exception."""
    from typer.main import get_command

    from lorun.cli import app

    command: Any = get_command(app)
    rest = list(arguments)
    while hasattr(command, "commands"):
        command = command.commands[rest.pop(0)]
    command.make_context(command.name, rest)
