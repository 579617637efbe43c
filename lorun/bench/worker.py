"""A process that prepares one piece of work, then does it once for each line it is sent, and answers with the time.

Started by `lorun.bench.rounds`; talks in lines: `ready`, then seconds, or `error` and the reason.
"""

import importlib
import json
import os
import sys
import time
from collections.abc import Callable


def main() -> None:
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    sys.stdout = sys.stderr  # whatever a library prints is no answer
    try:
        job = json.loads(sys.argv[1])
        module, _, function = job["prepare"].partition(":")
        work: Callable[[], None] = getattr(importlib.import_module(module), function)(**job["arguments"])
        for _ in range(job["warm_up"]):
            work()
        print("ready", file=answers, flush=True)
        for _ in sys.stdin:
            begin = time.perf_counter()
            work()
            print(time.perf_counter() - begin, file=answers, flush=True)
    except Exception as error:
        print(f"error {type(error).__name__}: {' '.join(str(error).split())}", file=answers, flush=True)


if __name__ == "__main__":
    main()
