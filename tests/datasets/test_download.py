"""Downloads, from servers on the loopback address that break off, lie, lead in circles and send something else."""

import functools
import gzip
import hashlib
import http.server
import io
import os
import re
import subprocess
import sys
import tarfile
import threading
import zipfile

import pytest
import soundfile
import torch

from temporal.datasets import SHD, DownloadError, _download, _sources
from temporal.datasets._download import fetch
from temporal.datasets._sources import Source, fetch_all, fetch_folder

CONTENT = bytes(range(256)) * 20_000  # 5 MB: several pieces
MD5 = "md5:" + hashlib.md5(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves ``server.files``; ``server.quirks`` say what is wrong with it."""

    def do_GET(self):
        server, quirks = self.server, self.server.quirks
        server.ranges.append(self.headers.get("Range"))
        if "circle" in quirks:
            self.send_response(302)
            self.send_header("Location", "/b" if self.path == "/a" else "/a")
            return self.end_headers()
        content = server.files.get(self.path.lstrip("/"))
        if content is None or "missing" in quirks:
            return self.send_error(404)
        if "busy" in quirks:
            return self.send_error(503)
        first = 0
        if (match := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")) and "no range" not in quirks:
            first = int(match[1])
            if first >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                return self.end_headers()
            self.send_response(206)
            stated = first + 7 if "wrong part" in quirks else first
            self.send_header("Content-Range", f"bytes {stated}-{len(content) - 1}/{len(content)}")
            if "wrong part" in quirks:
                quirks.discard("wrong part")
        else:
            self.send_response(200)
        rest = content[first:]
        length = len(rest) + (1000 if "too long" in quirks else 0) - (1000 if "too short" in quirks else 0)
        if "no length" not in quirks:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        if "breaks" in quirks:  # after a third of it, each time
            rest = rest[: max(1, len(content) // 3)]
        if "breaks at once" in quirks:
            rest = b""
        self.wfile.write(rest)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def serve(monkeypatch):
    monkeypatch.setattr(_download, "_WAIT", 0.0)
    servers = []

    def start(files, *quirks):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.files, server.quirks, server.ranges = files, set(quirks), []
        server.url = f"http://127.0.0.1:{server.server_port}/"
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def get(target, *urls, checksum=MD5, report=lambda done, total: None):
    fetch(urls, target, checksum=checksum, hand=f"put it into {target.parent}", report=report)


def left(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_comes_whole_and_alone(serve, tmp_path):
    server, seen = serve({"a": CONTENT}), []
    get(tmp_path / "new" / "a", server.url + "a", report=lambda done, total: seen.append((done, total)))
    assert (tmp_path / "new" / "a").read_bytes() == CONTENT and left(tmp_path / "new") == ["a"]
    assert seen[-1] == (len(CONTENT), len(CONTENT)) and len(seen) >= 5 and seen == sorted(seen)


def test_broken_off_again_and_again(serve, tmp_path):
    server = serve({"a": CONTENT}, "breaks")
    get(tmp_path / "a", server.url + "a")
    third = len(CONTENT) // 3
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert server.ranges == [None, f"bytes={third}-", f"bytes={2 * third}-", f"bytes={3 * third}-"]


def test_broken_off_for_good_is_kept_and_goes_on_later(serve, tmp_path):
    (tmp_path / ".a.partial").write_bytes(CONTENT[:1000])
    server = serve({"a": CONTENT}, "breaks at once")
    with pytest.raises(DownloadError) as caught:
        get(tmp_path / "a", server.url + "a")
    said = str(caught.value)
    assert said.startswith("cannot fetch a: 127.0.0.1:") and said.endswith(f"; put it into {tmp_path}")
    assert f"breaks off at 1000 of {len(CONTENT)} bytes, 4 times running" in said
    assert left(tmp_path) == [".a.partial"]
    server.quirks.clear()
    server.ranges.clear()
    get(tmp_path / "a", server.url + "a")
    assert server.ranges == ["bytes=1000-"] and (tmp_path / "a").read_bytes() == CONTENT


def test_a_server_that_does_not_know_range(serve, tmp_path):
    (tmp_path / ".a.partial").write_bytes(b"x" * 1000)
    server = serve({"a": CONTENT}, "no range")
    get(tmp_path / "a", server.url + "a")
    assert (tmp_path / "a").read_bytes() == CONTENT and server.ranges == ["bytes=1000-"]
    server.quirks.add("breaks")  # and breaks off: it never gets further, and says so
    with pytest.raises(DownloadError, match=r"breaks off at .* times running"):
        get(tmp_path / "b", server.url + "a")


def test_a_server_that_sends_another_part(serve, tmp_path):
    (tmp_path / ".a.partial").write_bytes(CONTENT[:1000])
    server = serve({"a": CONTENT}, "wrong part")
    get(tmp_path / "a", server.url + "a")
    assert (tmp_path / "a").read_bytes() == CONTENT and server.ranges == ["bytes=1000-", None]


@pytest.mark.parametrize("rest", [0, 50])
def test_what_has_come_is_whole_or_too_long(serve, tmp_path, rest):
    (tmp_path / ".a.partial").write_bytes(CONTENT + b"x" * rest)
    server = serve({"a": CONTENT})
    get(tmp_path / "a", server.url + "a")
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert server.ranges == [f"bytes={len(CONTENT) + rest}-", None][: 2 if rest else 1]


def test_promises_more_than_it_sends(serve, tmp_path):
    """With a checksum what has come is good; without one nobody knows."""
    server, size = serve({"a": CONTENT}, "too long"), len(CONTENT)
    get(tmp_path / "good", server.url + "a")
    with pytest.raises(DownloadError, match=f"says once that it has {size + 1000} bytes and once {size}"):
        get(tmp_path / "a", server.url + "a", checksum=None)
    server.quirks.add("no range")
    with pytest.raises(DownloadError, match=f"breaks off at {size} of {size + 1000} bytes, 4 times running"):
        get(tmp_path / "b", server.url + "a", checksum=None)
    assert left(tmp_path) == [".a.partial", ".b.partial", "good"]


def test_sends_more_than_it_promises(serve, tmp_path):
    server = serve({"a": CONTENT}, "too short")
    with pytest.raises(DownloadError, match=f"sends another file \\({len(CONTENT) - 1000} bytes, md5:.*, not {MD5}\\)"):
        get(tmp_path / "a", server.url + "a")
    assert left(tmp_path) == []


def test_no_length(serve, tmp_path):
    get(tmp_path / "a", serve({"a": CONTENT}, "no length").url + "a")
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_a_circle(serve, tmp_path):
    with pytest.raises(DownloadError, match="redirects in a circle; put it into"):
        get(tmp_path / "a", serve({"a": CONTENT}, "circle").url + "a")
    assert left(tmp_path) == []


def test_a_corrupt_file_is_not_kept_and_the_next_address_is_asked(serve, tmp_path):
    corrupt = bytearray(CONTENT)
    corrupt[1234] ^= 1
    bad, gone, good = serve({"a": bytes(corrupt)}), serve({}), serve({"a": CONTENT})
    with pytest.raises(DownloadError, match=r"sends another file .*; 127\.0\.0\.1:\d+ answers 404"):
        get(tmp_path / "a", bad.url + "a", gone.url + "a")
    assert left(tmp_path) == []
    get(tmp_path / "a", bad.url + "a", gone.url + "a", good.url + "a")
    assert (tmp_path / "a").read_bytes() == CONTENT and good.ranges == [None]


def test_another_address_goes_on_where_the_first_broke_off(serve, tmp_path):
    first, second = serve({"a": CONTENT[: len(CONTENT) // 2]}, "too long"), serve({"a": CONTENT})
    get(tmp_path / "a", first.url + "a", second.url + "a")
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_a_busy_server_is_asked_again(serve, tmp_path):
    server = serve({"a": CONTENT}, "busy")
    with pytest.raises(DownloadError, match="answers 503 Service Unavailable, 4 times running"):
        get(tmp_path / "a", server.url + "a")
    assert len(server.ranges) == 4


def test_a_silent_server(serve, tmp_path, monkeypatch):
    monkeypatch.setattr(_download, "_TIMEOUT", 0.05)
    listening = __import__("socket").create_server(("127.0.0.1", 0))
    with listening, pytest.raises(DownloadError, match="timed out"):
        get(tmp_path / "a", f"http://127.0.0.1:{listening.getsockname()[1]}/a")


def test_no_room(serve, tmp_path):
    code = """
import pathlib, resource, sys
from temporal.datasets._download import fetch
resource.setrlimit(resource.RLIMIT_FSIZE, (3 << 20, 3 << 20))
try:
    fetch([sys.argv[1]], pathlib.Path(sys.argv[2]), checksum=None, hand="", report=lambda *a: None)
except OSError as error:
    print(error)
"""
    server = serve({"a": CONTENT})
    command = [sys.executable, "-c", code, server.url + "a", str(tmp_path / "a")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.startswith(f"a: no room in {tmp_path} (") and "make room and try again" in said
    assert left(tmp_path) == [".a.partial"]
    get(tmp_path / "a", server.url + "a")
    assert (tmp_path / "a").read_bytes() == CONTENT and server.ranges[-1] != "bytes=0-"


def test_a_kill_leaves_what_had_come(serve, tmp_path):
    code = """
import os, pathlib, signal, sys
from temporal.datasets._download import fetch
def report(done, total):
    if done > 2 << 20:
        os.kill(os.getpid(), signal.SIGKILL)
fetch([sys.argv[1]], pathlib.Path(sys.argv[2]), checksum=None, hand="", report=report)
"""
    server = serve({"a": CONTENT})
    subprocess.run([sys.executable, "-c", code, server.url + "a", str(tmp_path / "a")], check=False)
    assert left(tmp_path) == [".a.partial"]
    get(tmp_path / "a", server.url + "a")
    assert (tmp_path / "a").read_bytes() == CONTENT and server.ranges[-1].startswith("bytes=")


def test_two_at_once(serve, tmp_path):
    server = serve({"a": CONTENT})

    def again(done, total):
        with pytest.raises(DownloadError, match="a: another process is fetching it into"):
            get(tmp_path / "a", server.url + "a")

    get(tmp_path / "a", server.url + "a", report=again)
    assert (tmp_path / "a").read_bytes() == CONTENT


# --- the data sets ---


def packed_zip(content, name):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


def sources(server, archives):
    hosts = (server.url,)
    return {
        part: Source(f"shd_{part}.h5", f"shd_{part}.h5.zip", hosts, f"md5:{hashlib.md5(content).hexdigest()}", "PAGE")
        for part, content in archives.items()
    }


@pytest.fixture
def published(shd, serve, monkeypatch):
    """The files of SHD, packed and served; and a class that knows where."""
    archives = {part: packed_zip((shd / f"shd_{part}.h5").read_bytes(), f"shd_{part}.h5") for part in ("train", "test")}
    server = serve({f"shd_{part}.h5.zip": content for part, content in archives.items()})
    monkeypatch.setattr(SHD, "_files", sources(server, archives))
    server.archives = archives
    return server


def test_shd_is_fetched_on_request_only(published, shd, tmp_path_factory):
    root = tmp_path_factory.mktemp("fresh") / "SHD data"
    with pytest.raises(FileNotFoundError, match="or give download=True"):
        SHD(root, "test")
    assert not published.ranges
    seen = []
    data = SHD(root, "test", download=True, progress=lambda done, total: seen.append((done, total)))
    assert torch.equal(data[0].spikes, SHD(shd, "test")[0].spikes) and seen
    assert left(root) == ["shd_test.h5", "shd_train.h5"]
    asked = len(published.ranges)
    assert len(SHD(root, "test", download=True)) == 12 and len(published.ranges) == asked == 2


def test_archives_put_there_by_hand(published, tmp_path_factory, shd):
    root = tmp_path_factory.mktemp("hand")
    (root / "shd_train.h5.zip").write_bytes(published.archives["train"])
    (root / "shd_test.h5.gz").write_bytes(gzip.compress((shd / "shd_test.h5").read_bytes()))
    published.quirks.add("missing")
    assert len(SHD(root, "all", download=True)) == 52 and not published.ranges
    assert left(root) == ["shd_test.h5", "shd_test.h5.gz", "shd_train.h5", "shd_train.h5.zip"]  # the user's own stay
    (root / "shd_train.h5").unlink()
    (root / "shd_train.h5.zip").write_bytes(published.archives["train"][:-1])
    with pytest.raises(DownloadError, match=r"shd_train\.h5\.zip: is not the published file \(md5:"):
        SHD(root, download=True)


def test_an_archive_of_something_else(serve, tmp_path, monkeypatch):
    for content in (packed_zip(b"no HDF5", "shd_train.h5"), packed_zip(b"x", "other"), b"<html>log in</html>"):
        server = serve({"shd_train.h5.zip": content})
        with pytest.raises(DownloadError, match="cannot be unpacked"):
            fetch_all(sources(server, {"train": content}).values(), tmp_path, False)
        assert left(tmp_path) == []


def test_no_internet_in_one_sentence(tmp_path, monkeypatch):
    def nowhere(*arguments, **more):
        raise OSError(-2, "Name or service not known")

    monkeypatch.setattr("socket.getaddrinfo", nowhere)
    with pytest.raises(DownloadError) as caught:
        SHD(tmp_path, download=True)
    assert str(caught.value) == (
        "cannot fetch shd_train.h5.zip: zenkelab.org is not reachable (Name or service not known); compneuro.net is not "
        "reachable (Name or service not known); fetch https://zenkelab.org/datasets/shd_train.h5.zip in another way and "
        f"put it into {tmp_path}, then try again"
    )
    assert left(tmp_path) == []


def packed_folder(*members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if content is None:
                info.type, info.linkname = tarfile.SYMTYPE, "/etc"
            else:
                info.size = len(content)
            archive.addfile(info, None if content is None else io.BytesIO(content))
    return buffer.getvalue()


def test_a_folder_is_fetched_and_never_leads_out_of_itself(serve, tmp_path):
    wave = io.BytesIO()
    soundfile.write(wave, torch.zeros(800).numpy(), 16000, format="WAV")
    good = packed_folder(("./yes/a_nohash_0.wav", wave.getvalue()), ("./LICENSE", b"CC BY"))
    make = functools.partial(Source, "words", "words.tar.gz", page="PAGE")
    server = serve({"words.tar.gz": good})
    source = make(hosts=(server.url,), checksum=f"sha256:{hashlib.sha256(good).hexdigest()}")
    fetch_folder(source, tmp_path / "words", False)
    fetch_folder(source, tmp_path / "words", False)
    assert left(tmp_path) == ["words"] and left(tmp_path / "words") == ["LICENSE", "yes"] and len(server.ranges) == 1
    for name, content in (("../out.txt", b"x"), ("yes/link", None)):
        bad = packed_folder((name, content))
        server.files["words.tar.gz"] = bad
        with pytest.raises(DownloadError, match="cannot be unpacked"):
            fetch_folder(make(hosts=(server.url,), checksum=None), tmp_path / "bad", False)
        assert left(tmp_path) == ["words"] and not os.path.exists(tmp_path / "out.txt")


def test_checksums_are_written_out_in_full():
    for source in (*_sources.SHD_FILES.values(), *_sources.SSC_FILES.values(), *_sources.SPEECH_COMMANDS.values()):
        kind, _, digits = source.checksum.partition(":")
        assert re.fullmatch("[0-9a-f]+", digits) and len(digits) == {"md5": 32, "sha256": 64}[kind]
        assert all(host.endswith("/") for host in source.hosts)


def test_checksums_are_those_of_other_libraries():
    shd = pytest.importorskip("spikingjelly.datasets.shd", exc_type=ImportError)
    for name, url, md5 in shd.SpikingHeidelbergDigits.resource_url_md5():
        source = next(s for s in _sources.SHD_FILES.values() if s.packed == name)
        assert source.hosts[0] + source.packed == url and source.checksum == f"md5:{md5}"
    audio = pytest.importorskip("torchaudio.datasets.speechcommands", exc_type=ImportError)
    for source in _sources.SPEECH_COMMANDS.values():
        assert source.checksum == f"sha256:{audio._CHECKSUMS[source.hosts[1] + source.packed]}"
