"""Try random profiles and damaged files, and write into results/bench/fuzz.csv how many were refused and accepted.

`make fuzz` calls this. The rule: one line that says what is wrong, or something that later steps honour. Exit status 1
if a test found anything else; its falsifying example is printed.
"""

import os
import random
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer

from lorun.results.store import write_table
from lorun.revisions import git

ROOT = Path(__file__).resolve().parent.parent
OUT = Path("results/bench/fuzz.csv")


def main(
    count: Annotated[int, typer.Option(min=1, help="Examples of each test.")] = 1000,
    cores: Annotated[int, typer.Option(min=1, help="Tests at a time.")] = 1,
) -> None:
    """Run the tests that are marked `fuzz` and write the counts."""
    seed = random.randrange(10**6)
    commit = git(ROOT, "rev-parse", "HEAD").decode().strip()
    print(f"seed {seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-m", "fuzz", "-n", str(cores)]
        command += [f"--hypothesis-seed={seed}", f"--junitxml={report}"]
        environment = os.environ | {"FUZZ": str(count), "OMP_NUM_THREADS": "1"}
        if status := subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode:
            raise typer.Exit(status)
        rows = [{"test": test.get("name"), **_counts(test), "seed": seed} for test in ET.parse(report).iter("testcase")]
    write_table(ROOT / OUT, pd.DataFrame(rows).assign(commit=commit).sort_values("test"))
    print(f"wrote {OUT}")


def _counts(test: ET.Element) -> dict[str, Any]:
    """What the fixture `tally` recorded."""
    found = {one.get("name"): one.get("value") for one in test.iter("property")}
    return {name: found.get(name, 0) for name in ("refused", "accepted")}


if __name__ == "__main__":
    typer.run(main)
