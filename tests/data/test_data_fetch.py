"""`lorun data fetch` end to end, in copies of the project's skeleton."""

import os
import shutil
import subprocess
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from lorun.data.checksums import read_manifest, verify_dataset, write_manifest

PROJECT = Path(__file__).parents[2]
SKELETON = (
    ".dvc/config",
    ".dvc/.gitignore",
    ".dvcignore",
    ".gitignore",
    "dvc.yaml",
    "dvc.lock",
    "data/photos.md5",
    "data/registry.yaml",
    "data/set11.md5",
)
CAMERA = "data/photos/test/gray/camera.png"
MARKER = "data/.photos.ok"

pytest.importorskip("dvc")
needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="no git here")


def run(project: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "DVC_"))}
    environment["DVC_SITE_CACHE_DIR"] = str(project.parent / "site-cache")
    environment["DVC_GLOBAL_CONFIG_DIR"] = environment["DVC_SYSTEM_CONFIG_DIR"] = str(project.parent / "no-config")
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)


def fetch(project: Path, name: str = "photos") -> subprocess.CompletedProcess[str]:
    return run(project, sys.executable, "-m", "lorun", "data", "fetch", name, "--marker", MARKER)


def dvc(project: Path, *arguments: str) -> None:
    assert run(project, sys.executable, "-m", "dvc", *arguments).returncode == 0


def skeleton(project: Path) -> Path:
    for name in SKELETON:
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / name, project / name)
    return project


def check(project: Path) -> None:
    """Everything is as it should be, and nothing that is committed has changed."""
    identity = verify_dataset(project / "data", "photos")
    assert (project / MARKER).read_text() == f"{identity}\n"
    for name in SKELETON:
        assert (project / name).read_bytes() == (PROJECT / name).read_bytes()


def flip(path: Path) -> None:
    """Change one bit of a file, but neither size, times nor mode: DVC believes what is write-protected."""
    before = path.stat()
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    path.chmod(before.st_mode)


def stored(store: Path, md5: str) -> Path:
    return store / "files/md5" / md5[:2] / md5[2:]


def forget(project: Path) -> None:
    for path in ("data/photos", ".dvc/cache"):
        shutil.rmtree(project / path)


def fetch_and_check(project: Path) -> str:
    """Returns what a successful fetch prints."""
    result = fetch(project)
    assert (result.returncode, result.stderr) == (0, "")
    check(project)
    return result.stdout


@pytest.fixture(scope="module")
def fetched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A project after its first fetch, and what that printed; not to be changed."""
    project = skeleton(tmp_path_factory.mktemp("fetched") / "project")
    assert run(project, "git", "init", "--quiet").returncode == 0
    return project, fetch(project)


@pytest.fixture
def project(fetched: tuple[Path, object], tmp_path: Path) -> Path:
    return shutil.copytree(fetched[0], tmp_path / "project")


@needs_git
def test_an_absent_dataset_is_built(fetched: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    project, result = fetched
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.endswith("photos: files restored and verified (from the origin)\n")
    check(project)
    new = run(project, "git", "status", "--porcelain", "--untracked-files=all").stdout.split()[1::2]
    assert sorted(new) == sorted(SKELETON)


@needs_git
def test_an_intact_dataset_keeps_its_marker(project: Path) -> None:
    os.utime(project / MARKER, ns=(0, 0))
    result = fetch(project)
    assert (result.returncode, result.stdout) == (0, "photos: 28 files verified\n")
    assert (project / MARKER).stat().st_mtime_ns == 0
    (project / MARKER).write_text("something else\n")
    fetch(project)
    check(project)


@needs_git
def test_a_damaged_file_that_dvc_takes_for_unchanged_is_restored(project: Path) -> None:
    dvc(project, "status")  # from now on DVC knows the files by inode, size and time
    flip(project / CAMERA)
    printed = fetch_and_check(project)
    assert printed.endswith("verified (from the origin)\n")


@needs_git
def test_damaged_and_missing_files_are_restored(project: Path) -> None:
    (project / CAMERA).write_bytes(b"")
    (project / "data/photos/train/rgb/coffee.png").unlink()
    printed = fetch_and_check(project)
    assert printed.startswith("photos: restoring 2 files")


@needs_git
def test_the_manifest_overrules_a_wrong_lock(project: Path) -> None:
    (project / "data/photos/mine.png").write_bytes(b"mine")
    dvc(project, "commit", "--force", "dataset@photos")
    shutil.rmtree(project / "data/photos")
    printed = fetch_and_check(project)
    assert printed.endswith("verified (from the origin)\n")


@needs_git
@pytest.mark.parametrize("victim", ["file", "listing"])
def test_a_wrong_object_in_the_cache_is_replaced(project: Path, victim: str) -> None:
    md5 = read_manifest(project / "data", "photos")["test/gray/camera.png"]
    if victim == "listing":
        md5 = verify_dataset(project / "data", "photos")
    copy = stored(project / ".dvc/cache", md5)
    right = copy.read_bytes()
    flip(copy)
    shutil.rmtree(project / "data/photos")
    fetch_and_check(project)
    assert copy.read_bytes() == right


@needs_git
def test_files_of_others_are_not_deleted(project: Path) -> None:
    (project / "data/photos/mine.png").write_bytes(b"precious")
    (project / CAMERA).unlink()
    result = fetch(project)
    assert result.returncode == 1
    assert result.stderr == "error: data/photos/mine.png is not part of the dataset: move it elsewhere\n"
    assert (project / "data/photos/mine.png").read_bytes() == b"precious"


@needs_git
def test_a_remote_is_asked_first_and_not_believed(project: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    dvc(project, "remote", "add", "--local", "--default", "store", str(store))
    dvc(project, "push")
    forget(project)
    printed = fetch_and_check(project)
    assert printed.endswith("verified (DVC remote 'store')\n")

    flip(stored(store, read_manifest(project / "data", "photos")["test/gray/camera.png"]))
    forget(project)
    printed = fetch_and_check(project)
    assert "photos: DVC remote 'store' gives a wrong test/gray/camera.png\n" in printed
    assert printed.endswith("verified (from the origin)\n")

    dvc(project, "remote", "modify", "--local", "store", "verify", "true")  # DVC finds it itself, and gives nothing
    forget(project)
    printed = fetch_and_check(project)
    assert "photos: DVC remote 'store' gives no intact test/gray/camera.png (ERROR: " in printed


@needs_git
def test_a_remote_without_an_answer_is_reported_in_the_words_of_dvc(project: Path) -> None:
    dvc(project, "remote", "add", "--local", "store", "ssh://127.0.0.1:1/store")
    (project / CAMERA).unlink()
    printed = fetch_and_check(project)
    assert "photos: DVC remote 'store' gives no intact test/gray/camera.png (ERROR: " in printed


@needs_git
def test_an_empty_remote_is_reported_and_the_origin_asked(project: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    dvc(project, "remote", "add", "--local", "empty", str(tmp_path / "empty"))
    forget(project)
    printed = fetch_and_check(project)
    assert "photos: DVC remote 'empty' gives no intact test/gray/astronaut.png (ERROR: " in printed
    assert printed.endswith("verified (from the origin)\n")


@needs_git
def test_a_second_remote_is_asked_when_the_first_has_nothing(project: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("empty", "full"):
        dvc(project, "remote", "add", "--local", name, str(tmp_path / name))
    dvc(project, "push", "--remote", "full")
    forget(project)
    (project / "data/.photos.download").mkdir()  # of a download that failed
    result = fetch(project)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.endswith("verified (DVC remote 'full')\n")
    assert not (project / "data/.photos.download").exists()
    check(project)


@needs_git
def test_upstream_remote_and_what_is_there_give_the_same_bytes(tmp_path: Path) -> None:
    """A dataset of one's own, from a web server on loopback, then from a DVC remote, then as it is."""
    files = {"test/a.png": b"a" * 5000, "b.png": b"b"}
    for name, data in files.items():
        for folder in (tmp_path / "web", tmp_path / "project/data/own"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
    project = tmp_path / "project"
    write_manifest(project / "data", "own")
    shutil.rmtree(project / "data/own")
    (project / "dvc.yaml").write_text(
        (PROJECT / "dvc.yaml").read_text().replace("      - photos\n", "      - own\n", 1)
    )
    for name in (".dvc/config", ".gitignore"):
        (project / name).parent.mkdir(exist_ok=True)
        shutil.copy(PROJECT / name, project / name)
    assert run(project, "git", "init", "--quiet").returncode == 0

    handler = partial(QuietHandler, directory=str(tmp_path / "web"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        (project / "data/registry.yaml").write_text(
            "own: {role: test, tasks: [cs], what: w, licence: l, redistribution: 'no', citation: c, upstream: "
            f"[{{address: 'http://127.0.0.1:{server.server_port}/{{file}}'}}]}}"
        )
        result = run(project, sys.executable, "-m", "lorun", "data", "fetch", "own")
        server.shutdown()
    assert result.returncode == 0, result.stdout + result.stderr
    assert "own: no DVC remote is configured; asking its origin\n" in result.stdout
    assert result.stdout.endswith("own: files restored and verified (from the origin)\n")
    from_web = verify_dataset(project / "data", "own")

    dvc(project, "remote", "add", "--local", "store", str(tmp_path / "store"))
    dvc(project, "push", "--remote", "store", "data/own")
    for path in ("data/own", ".dvc/cache"):
        shutil.rmtree(project / path)
    result = run(project, sys.executable, "-m", "lorun", "data", "fetch", "own")
    assert result.stdout.endswith("own: files restored and verified (DVC remote 'store')\n")
    assert verify_dataset(project / "data", "own") == from_web
    assert run(project, sys.executable, "-m", "lorun", "data", "fetch", "own").stdout == "own: 2 files verified\n"

    (tmp_path / "web/b.png").unlink()  # and the server is gone, too
    for path in ("data/own", ".dvc/cache", "../store"):
        shutil.rmtree(project / path)
    result = run(project, sys.executable, "-m", "lorun", "data", "fetch", "own")
    assert result.returncode == 1
    assert "own: DVC remote 'store' gives no intact b.png (ERROR: " in result.stdout
    assert result.stderr.splitlines()[-1].startswith("error: dataset 'own': cannot download b.png from http://127.0.")
    assert "Traceback" not in result.stderr


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def test_without_git(tmp_path: Path) -> None:
    project = skeleton(tmp_path / "project")
    fetch_and_check(project)


def test_an_unknown_dataset_is_one_line(tmp_path: Path) -> None:
    result = fetch(skeleton(tmp_path / "project"), "photo")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("error: unknown dataset 'photo'. Did you mean 'photos'? Choices: photos, set11, ")
