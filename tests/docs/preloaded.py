"""Run command lines of `lorun`, each in a fork of this process, which has done the slow imports.

Every line of standard input is a JSON list: the folder to run in, the file for the output, then the arguments. The
answer on standard output is the exit status.
"""

import json
import os
import sys
import traceback

import deepinv  # noqa: F401
import pandas  # noqa: F401
import peft  # noqa: F401
import pyiqa  # noqa: F401
import torch
from skimage import metrics  # noqa: F401

from lorun import cli


def run(folder: str, output: str, arguments: list[str]) -> int:
    """The exit status of `lorun ARGUMENTS`, in this process."""
    os.chdir(folder)
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.argv = ["lorun", *arguments]
    try:
        cli.main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


torch.set_num_threads(1)
print("ready", flush=True)
for line in sys.stdin:
    folder, output, *arguments = json.loads(line)
    child = os.fork()
    if child == 0:
        status = run(folder, output, arguments)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
