"""Downloads from a web server on loopback that misbehaves in every way."""

import errno
import re
import resource
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from lorun.data import download as module
from lorun.data import registry
from lorun.data.checksums import md5_of_bytes, verify_dataset, write_manifest
from lorun.data.download import RemoteFile, download
from lorun.data.fetch import make
from lorun.errors import LorunError

FILES = {
    "a.png": b"a" * 10_000,
    "deep/b.png": bytes(range(256)) * 700,
    "c.mat": b"",
}


@dataclass
class Upstream:
    """A web server, how it misbehaves, and what it was asked for."""

    address: str = ""
    content: dict[str, bytes] = field(default_factory=lambda: dict(FILES))
    faults: dict[str, list[Any]] = field(default_factory=dict)  # path -> what the next answers are
    redirects: dict[str, str] = field(default_factory=dict)  # path -> where it leads
    asked: list[str] = field(default_factory=list)

    def files(self, *names: str) -> dict[str, RemoteFile]:
        names = names or tuple(self.content)
        return {name: RemoteFile(f"{self.address}/{name}", md5_of_bytes(FILES[name])) for name in names}


@pytest.fixture
def upstream(monkeypatch: pytest.MonkeyPatch) -> Iterator[Upstream]:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    upstream = Upstream()
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = unquote(self.path.lstrip("/"))
            upstream.asked.append(name)
            pending = upstream.faults.get(name)
            fault = pending.pop(0) if pending else None
            if isinstance(fault, int):
                return self.send_error(fault)
            if fault == "silent":
                over.wait(5)
                return None
            if name in upstream.redirects:
                self.send_response(302)
                self.send_header("Location", upstream.redirects[name])
                return self.end_headers()
            if name not in upstream.content:
                return self.send_error(404)
            body = upstream.content[name]
            if fault == "wrong":
                body = b"x" * len(body)
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if fault is None or fault == "wrong":
                self.wfile.write(body)
                return None
            kind, count = fault
            self.wfile.write(body[:count])
            self.wfile.flush()
            if kind == "stall":
                over.wait(5)
            if kind == "reset":
                time.sleep(0.1)  # until what was sent was read
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
            return None

        def finish(self) -> None:
            if self.connection.fileno() >= 0:  # not reset
                super().finish()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    upstream.address = f"http://127.0.0.1:{server.server_port}"
    yield upstream
    over.set()
    server.shutdown()
    server.server_close()


def fetch(upstream: Upstream, folder: Path, *names: str) -> None:
    download(upstream.files(*names), folder, "stand_in", timeout=0.3, wait=0.001)


def check(folder: Path, *names: str) -> None:
    """Exactly these files, and nothing else beside the folder."""
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found == {name: FILES[name] for name in names or FILES}
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_all_files_come_with_the_bytes_of_their_origin(upstream: Upstream, tmp_path: Path) -> None:
    fetch(upstream, tmp_path / "data/set")
    check(tmp_path / "data/set")
    assert upstream.asked == list(FILES)


def test_what_is_there_is_not_asked_for_again(upstream: Upstream, tmp_path: Path) -> None:
    fetch(upstream, tmp_path / "set")
    (tmp_path / "set/a.png").write_bytes(b"damaged")
    (tmp_path / "set/other.png").write_bytes(b"not of the dataset")
    upstream.asked.clear()
    fetch(upstream, tmp_path / "set")
    assert upstream.asked == ["a.png"]
    check(tmp_path / "set")


@pytest.mark.parametrize(
    "fault", [500, 503, 408, 429, ("cut", 4_000), ("cut", 0), ("stall", 3_000), ("reset", 3_000), "silent", "wrong"]
)
def test_one_failure_is_got_over(upstream: Upstream, tmp_path: Path, fault: Any) -> None:
    upstream.faults["a.png"] = [fault]
    fetch(upstream, tmp_path / "set")
    check(tmp_path / "set")
    assert len(upstream.asked) == len(FILES) + 1


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (404, "the server answers 404 Not Found"),
        (500, "the server answers 500 Internal Server Error"),
        ("silent", "no data for 0.3 s"),
        (("stall", 100), "HTTPConnectionPool"),
        (("cut", 0), "('Connection broken: IncompleteRead"),
        ("wrong", "the file has another checksum than its manifest says"),
    ],
)
def test_a_lasting_failure_is_one_line_and_keeps_what_came(
    upstream: Upstream, tmp_path: Path, fault: Any, reason: str
) -> None:
    upstream.faults["deep/b.png"] = [fault] * module.TRIES
    with pytest.raises(LorunError) as error:
        fetch(upstream, tmp_path / "set")
    url = f"{upstream.address}/deep/b.png"
    message = str(error.value)
    assert message.startswith(f"dataset 'stand_in': cannot download deep/b.png from {url}: {reason}")
    assert message.endswith("; 1 of 3 files are complete, the same command continues from there")
    assert "\n" not in message
    assert upstream.asked == ["a.png"] + ["deep/b.png"] * module.TRIES
    assert not (tmp_path / "set").exists()
    upstream.faults.clear()
    upstream.asked.clear()
    fetch(upstream, tmp_path / "set")
    assert "a.png" not in upstream.asked
    check(tmp_path / "set")


def test_a_failed_download_leaves_the_folder_as_it_was(upstream: Upstream, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set/a.png").write_bytes(b"old")
    upstream.faults["c.mat"] = [404] * module.TRIES
    with pytest.raises(LorunError, match="404"):
        fetch(upstream, tmp_path / "set")
    assert (tmp_path / "set/a.png").read_bytes() == b"old"
    assert [path.name for path in (tmp_path / "set").iterdir()] == ["a.png"]


def test_no_server_at_all(tmp_path: Path, upstream: Upstream) -> None:
    files = {"a.png": RemoteFile("http://127.0.0.1:1/a.png", "0" * 32)}
    with pytest.raises(LorunError, match="Connection refused"):
        download(files, tmp_path / "set", "stand_in", timeout=0.3, wait=0.001)


@pytest.mark.parametrize("path", ["../a.png", "/a.png", "deep/../../a.png", ".", ""])
def test_a_path_out_of_the_folder_is_refused(upstream: Upstream, tmp_path: Path, path: str) -> None:
    with pytest.raises(LorunError, match="names no file inside its folder"):
        download({path: RemoteFile(f"{upstream.address}/a.png", "0" * 32)}, tmp_path / "set", "stand_in")
    assert upstream.asked == []


def test_only_the_web_is_asked(tmp_path: Path) -> None:
    with pytest.raises(LorunError, match="No connection adapters were found"):
        download({"a": RemoteFile((tmp_path / "a").as_uri(), "0" * 32)}, tmp_path / "set", "stand_in", wait=0)


def test_a_redirection_is_followed(upstream: Upstream, tmp_path: Path) -> None:
    upstream.redirects["old/a.png"] = f"{upstream.address}/a.png"
    files = {"a.png": RemoteFile(f"{upstream.address}/old/a.png", md5_of_bytes(FILES["a.png"]))}
    download(files, tmp_path / "set", "stand_in", timeout=0.3, wait=0.001)
    check(tmp_path / "set", "a.png")


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("ftp://127.0.0.1:1/a.png", "No connection adapters were found for 'ftp://127.0.0.1:1/a.png'"),
        ("file:///etc/hostname", "No connection adapters were found for 'file:///etc/hostname'"),
        ("/a.png", "Exceeded 30 redirects"),
        ("http://[oh/", "Invalid IPv6 URL"),
    ],
)
def test_a_redirection_to_nowhere_is_one_line(upstream: Upstream, tmp_path: Path, target: str, reason: str) -> None:
    upstream.redirects["a.png"] = target
    with pytest.raises(LorunError) as error:
        fetch(upstream, tmp_path / "set", "a.png")
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["im 1.png", "bild_ü.png", "50%25.png"])
def test_addresses_are_quoted_once(upstream: Upstream, tmp_path: Path, name: str) -> None:
    upstream.content = {unquote(name): b"content"}
    download({"a": RemoteFile(f"{upstream.address}/{name}", md5_of_bytes(b"content"))}, tmp_path / "set", "stand_in")
    assert (tmp_path / "set/a").read_bytes() == b"content"


def test_what_is_no_address_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(LorunError, match="Failed to parse"):
        download({"a": RemoteFile("http://127.0.0.1:x/a", "0" * 32)}, tmp_path / "set", "stand_in", wait=0)


def test_no_files_are_an_empty_folder(tmp_path: Path) -> None:
    download({}, tmp_path / "set", "stand_in")
    assert list((tmp_path / "set").iterdir()) == []
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_a_disk_that_gets_full_in_the_middle_of_a_file(upstream: Upstream, tmp_path: Path) -> None:
    """A write that the system refuses: the limit on a file's size stands for the end of the disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(LorunError, match=r"cannot write .*/\.set\.download/deep/b\.png: File too large"):
            fetch(upstream, tmp_path / "set")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    upstream.asked.clear()
    fetch(upstream, tmp_path / "set")
    assert upstream.asked == ["deep/b.png", "c.mat"]
    check(tmp_path / "set")


def test_a_disk_that_is_full_when_all_is_there(
    upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        if ".set.download" not in path.parts:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(LorunError, match=r"cannot write .*set: No space left on device"):
            fetch(upstream, tmp_path / "set")
    upstream.asked.clear()
    fetch(upstream, tmp_path / "set")
    assert upstream.asked == []
    check(tmp_path / "set")


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_and_repeated_tries_are_shown(
    upstream: Upstream,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    terminal: bool,
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    upstream.faults["a.png"] = [503]
    fetch(upstream, tmp_path / "set")
    shown = capsys.readouterr()
    assert shown.out == ""
    text = " ".join(re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.err).split())  # without colours
    assert re.search(r"stand_in \S+ 3/3", text)
    assert "the server answers 503 Service Unavailable; once more (2 of 4)" in text


def test_an_interrupted_download_keeps_complete_files(
    upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(remote: RemoteFile, *_: object) -> bytes:
        if remote.url.endswith("b.png"):
            raise KeyboardInterrupt
        return FILES["a.png"]

    with monkeypatch.context() as patch:
        patch.setattr(module, "_get", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fetch(upstream, tmp_path / "set")
    assert not (tmp_path / "set").exists()
    fetch(upstream, tmp_path / "set")
    assert upstream.asked == ["deep/b.png", "c.mat"]
    check(tmp_path / "set")


def test_the_registry_leads_to_the_upstream(
    upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`lorun data make` from an entry of a registry, with the web server in the place of the host of raw files."""
    commit = "0123456789012345678901234567890123456789"
    monkeypatch.setattr(registry, "_RAW", f"{upstream.address}/")
    upstream.content = {f"some/where/{commit}/data/{name}": data for name, data in FILES.items()}
    for name, data in FILES.items():
        (tmp_path / "stand_in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "stand_in" / name).write_bytes(data)
    write_manifest(tmp_path, "stand_in")
    (tmp_path / "stand_in/a.png").unlink()
    (tmp_path / "registry.yaml").write_text(
        "stand_in: {role: test, tasks: [cs], what: w, licence: l, redistribution: 'no', citation: c, upstream: "
        f"[{{repository: 'https://github.com/some/where', commit: '{commit}', path: 'data/{{file}}'}}]}}"
    )
    make(tmp_path, "stand_in")
    verify_dataset(tmp_path, "stand_in")
    assert upstream.asked == [f"some/where/{commit}/data/a.png"]
    assert "3/3" in capsys.readouterr().err
