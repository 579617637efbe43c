"""What a wheel installs."""

import subprocess
import sys
import zipfile
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]


def test_a_wheel_installs_one_package_with_baselines_and_models(tmp_path):
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=PROJECT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"lorun", next(top for top in tops if top.endswith(".dist-info"))}
    assert {"lorun/plugins/template/baseline.py.txt", "lorun/plugins/template/card.yaml.txt"} <= set(names)
    for folder in ("baselines", "models"):
        own = {
            path.relative_to(PROJECT).as_posix()
            for path in (PROJECT / folder).glob("*/*")
            if path.is_file() and path.name[0] != "."
        }
        assert {f"lorun/shipped/{name}" for name in own} <= set(names)
