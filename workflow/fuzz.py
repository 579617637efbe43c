"""Try random profiles and damaged files, and write into results/bench/fuzz.csv how many were refused and accepted.

`make fuzz` calls this. The rule: one line that says what is wrong, or something that later steps honour. Exit status 1
if a test found anything else; its falsifying example is printed.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

import pandas as pd

from lorun.revisions import git

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "results" / "bench" / "fuzz.csv"


def main() -> int:
    """Run the tests that are marked `fuzz` and write the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000, help="examples of each test (default: 1000)")
    parser.add_argument("--cores", type=int, default=1, help="tests at a time (default: 1)")
    parser.add_argument("--seed", type=int, default=None, help="of the examples (default: a new one)")
    arguments = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if arguments.seed is None else arguments.seed
    commit = git(ROOT, "rev-parse", "HEAD").decode().strip()
    print(f"seed {seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-m", "fuzz", "-n", str(arguments.cores)]
        command += [f"--hypothesis-seed={seed}", f"--junitxml={report}"]
        environment = os.environ | {"FUZZ": str(arguments.count), "OMP_NUM_THREADS": "1"}
        status = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
        if status:
            return status
        tests = ET.parse(report).iter("testcase")
        rows = [{"test": test.get("name"), **_counts(test), "seed": seed, "commit": commit} for test in tests]
    pd.DataFrame(rows).sort_values("test").to_csv(OUT, index=False)
    print(f"wrote {OUT.relative_to(ROOT)}")
    return 0


def _counts(test: ET.Element) -> dict[str, int]:
    """What the fixture `tally` recorded."""
    found = {one.get("name", ""): int(one.get("value", "")) for one in test.iter("property")}
    return {name: found.get(name, 0) for name in ("refused", "accepted")}


if __name__ == "__main__":
    sys.exit(main())
