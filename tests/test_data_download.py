"""Downloads, against a server in this process that serves well or badly on demand."""

import gzip
import hashlib
import http.server
import pathlib
import threading
import time

import numpy as np
import pytest
from data_files import complaint, some_arrays, write_idx

from robust_mnist.data import DATASETS, _download, _streams, load
from robust_mnist.data._source import NAMES, Download
from robust_mnist.data._streams import content_sha256, file_sha256
from robust_mnist.files import cache_folder


ARRAYS = some_arrays(40, 10)
TIMEOUT = 0.3  # seconds until a test gives up a silent server


class Server(http.server.ThreadingHTTPServer):
    """Serves a folder; the first part of the path says how: `/good/`, `/cut/`, `/late/` ..."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, folder):
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder = folder
        self.asked = []
        self.over = threading.Event()

    def mirror(self, manner: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{manner}/"

    def handle_error(self, request, client_address):
        """Say nothing: clients that hang up are what is tested."""


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        _, manner, name = self.path.split("/")
        self.server.asked.append(self.path)
        if manner == "gone":
            self.send_error(404)
            return
        content = (self.server.folder / name).read_bytes()
        if manner == "wrong":
            content = gzip.compress(gzip.decompress(content)[:-1] + b"\7")
        if manner == "rubbish":
            content = b"<html>Please log in to this network</html>"
        if manner == "recompressed":
            content = gzip.compress(gzip.decompress(content), compresslevel=1, mtime=1)
        if manner == "silent":
            self.server.over.wait(20)
            return
        self.send_response(200)
        if manner == "eager" and "gzip" in self.headers.get("Accept-Encoding", ""):
            self.send_header("Content-Encoding", "gzip")  # and the client would unpack it
        if manner != "endless":
            self.send_header("Content-Length", str(2**40 if manner == "huge" else len(content)))
        self.end_headers()
        for _ in range(1000 if manner == "endless" else 0):  # 64 MB, sixty times the limit
            self.wfile.write(bytes(2**16))
        if manner == "cut":
            content = content[: len(content) // 2]
        self.wfile.write(content[:100])
        if manner == "stalls":
            self.wfile.flush()
            self.server.over.wait(20)
            return
        self.wfile.write(content[100:])

    def log_message(self, *args):
        """Keep stderr for what the package says."""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_idx(tmp_path_factory.mktemp("files"), ARRAYS, ending=".gz")


@pytest.fixture
def server(files):
    with Server(files) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.over.set()
        server.shutdown()
        thread.join(5)


@pytest.fixture
def make(files, server, tmp_path, monkeypatch):
    """Make a source with mirrors of the given manners."""
    monkeypatch.setattr(_download, "LARGEST", 10**6)

    def make(*manners, **changes):
        fields = {
            "mirrors": tuple(server.mirror(manner) for manner in manners),
            "hashes": tuple(content_sha256(files / name) for name in NAMES),
            "hashed": content_sha256,
            "cache": tmp_path / "cache",
        }
        fields |= changes
        # A busy machine may take longer to answer where no silence is waited for.
        waits = any(manner in url for url in fields["mirrors"] for manner in ("silent", "stalls"))
        return Download("toy", **{"timeout": TIMEOUT if waits else 20.0} | fields)

    return make


def assert_holds(data):
    assert np.array_equal(data.train_images, ARRAYS[0])
    assert np.array_equal(data.train_labels, ARRAYS[1])
    assert np.array_equal(data.test_images, ARRAYS[2])
    assert np.array_equal(data.test_labels, ARRAYS[3])
    assert not data.embedded


def kept(tmp_path: pathlib.Path) -> list[str]:
    """Everything in the cache, hidden files included."""
    return sorted(path.name for path in (tmp_path / "cache").rglob("*") if path.is_file())


def test_a_download_is_read_and_kept(make, server, tmp_path):
    data = make("good").load()
    assert_holds(data)
    assert (data.name, data.origin) == ("toy", str(tmp_path / "cache" / "toy"))
    assert kept(tmp_path) == sorted(NAMES)
    assert server.asked == [f"/good/{name}" for name in NAMES]


def test_what_is_kept_is_not_fetched_again(make, server):
    make("good").load()
    server.asked.clear()
    assert_holds(make("gone").load())
    assert server.asked == []


@pytest.mark.parametrize(
    "bad", ["gone", "cut", "wrong", "rubbish", "silent", "stalls", "huge", "endless", "nobody"]
)
def test_the_next_mirror_is_asked_when_one_fails(make, server, tmp_path, bad):
    mirrors = (server.mirror(bad), server.mirror("good"))
    if bad == "nobody":
        mirrors = ("http://127.0.0.1:9/", server.mirror("good"))
    assert_holds(make(mirrors=mirrors).load())
    assert kept(tmp_path) == sorted(NAMES)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("gone", "HTTP 404"),
        ("cut", "broke off"),
        ("wrong", "damaged, its sha256 is wrong"),
        ("rubbish", "damaged, its sha256 is wrong"),
        ("silent", "no answer for 0.3 s"),
        ("stalls", "no answer for 0.3 s"),
        ("huge", "larger than the 1000000 bytes allowed"),
        ("endless", "larger than the 1000000 bytes allowed"),
    ],
)
def test_a_failure_names_the_mirror_and_the_reason_and_keeps_nothing(
    make, server, tmp_path, bad, reason
):
    message = complaint(make(bad).load)
    assert f"{server.mirror(bad)}{NAMES[0]}: {reason}" in message
    assert kept(tmp_path) == []
    assert len(server.asked) == 1  # no retries behind one's back


def test_a_failure_names_every_mirror_and_what_to_do(make, server, tmp_path):
    message = complaint(
        make("gone", "cut", mirrors=(*make("gone", "cut").mirrors, "http://127.0.0.1:9/")).load
    )
    assert message == (
        f"toy: cannot get {NAMES[0]} ({server.mirror('gone')}{NAMES[0]}: HTTP 404; "
        f"{server.mirror('cut')}{NAMES[0]}: broke off; "
        f"http://127.0.0.1:9/{NAMES[0]}: no connection); "
        f"put {', '.join(NAMES)} into {tmp_path / 'cache' / 'toy'}, "
        "or name files of your own with --data PATH"
    )


def test_a_silent_server_costs_the_timeout_only(make):
    start = time.perf_counter()
    complaint(make("silent", "stalls").load)
    assert time.perf_counter() - start < 10 * TIMEOUT


def test_files_put_into_the_cache_by_hand_are_used(make, server, files, tmp_path):
    """As the message about a failure says."""
    folder = tmp_path / "cache" / "toy"
    folder.mkdir(parents=True)
    for name in NAMES:
        (folder / name).write_bytes((files / name).read_bytes())
    assert_holds(make("gone").load())
    assert server.asked == []


@pytest.mark.parametrize(
    "damage",
    [lambda content: content[:-5], lambda _: b"", lambda _: b"text"],
    ids=["cut", "empty", "text"],
)
def test_a_damaged_file_in_the_cache_is_fetched_again(make, server, tmp_path, damage):
    make("good").load()
    path = tmp_path / "cache" / "toy" / NAMES[2]
    path.write_bytes(damage(path.read_bytes()))
    assert f"{path}: damaged; " in complaint(make("gone").load)
    server.asked.clear()
    assert_holds(make("good").load())
    assert server.asked == [f"/good/{NAMES[2]}"]


def test_a_local_copy_comes_first(make, server, files, tmp_path):
    data = make("good", local=files).load()
    assert_holds(data)
    assert data.origin == str(files)
    assert server.asked == kept(tmp_path) == []


def test_a_local_copy_of_something_else_is_passed_over(make, server, tmp_path):
    local = write_idx(tmp_path / "local", some_arrays(3, 2), ending=".gz")
    assert_holds(make("good", local=local).load())
    assert len(server.asked) == 4


def test_a_server_that_labels_gzip_as_an_encoding_is_kept_from_it(make):
    assert_holds(make("eager").load())


def test_a_hash_of_the_content_allows_another_compression_and_one_of_the_file_does_not(make, files):
    assert_holds(make("recompressed").load())
    hashes = tuple(hashlib.sha256((files / name).read_bytes()).hexdigest() for name in NAMES)
    exact = make("recompressed", hashes=hashes, hashed=file_sha256, cache=files.parent / "other")
    assert "its sha256 is wrong" in complaint(exact.load)
    assert_holds(
        make("good", hashes=hashes, hashed=file_sha256, cache=files.parent / "other").load()
    )


def test_hashing_a_bomb_ends(tmp_path, monkeypatch):
    """Beyond the limit the hash is wrong, which is all that it has to be."""
    monkeypatch.setattr(_streams, "MAX_BYTES", 2**20)
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(bytes(2**22), compresslevel=1))
    assert content_sha256(path) == hashlib.sha256(bytes(2**20)).hexdigest()


def test_a_cache_that_cannot_be_written_to_is_told(make, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    message = complaint(make("good").load)
    assert "cannot be written" in message
    assert "ROBUST_MNIST_CACHE" in message


def test_the_environment_chooses_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("ROBUST_MNIST_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("ROBUST_MNIST_CACHE")
    assert cache_folder().name == "robust_mnist"


def test_nothing_is_printed_where_there_is_no_terminal(make, capfd):
    make("good").load()
    assert capfd.readouterr() == ("", "")


def test_a_terminal_shows_the_name_of_the_file_on_stderr(make, capfd, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes this for a terminal
    make("good").load()
    out, err = capfd.readouterr()
    assert out == ""
    assert all(name in err for name in NAMES)


@pytest.mark.parametrize("name", ["fashion-mnist", "kmnist"])
def test_every_address_of_a_registered_download_is_a_folder(name):
    source = DATASETS[name]
    assert source.name == name
    assert all(mirror.startswith("http") and mirror.endswith("/") for mirror in source.mirrors)
    assert all(len(bytes.fromhex(sha256)) == 32 for sha256 in source.hashes)


@pytest.mark.skipif(
    not pathlib.Path("/usr/share/datasets/fashion-mnist").is_dir(),
    reason="the Debian package dataset-fashion-mnist is not installed",
)
def test_the_debian_package_is_fashion_mnist():
    data = load("fashion-mnist")
    assert data.origin == "/usr/share/datasets/fashion-mnist"
    assert data.train_images.shape == (60_000, 784)
    assert data.train_labels[:10].tolist() == [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]


@pytest.mark.parametrize("quiet", [True, False])
def test_a_quiet_download_draws_no_bar(make, monkeypatch, quiet):
    disabled, real = [], _download.Progress

    def watched(*columns, **options):
        disabled.append(options["disable"])
        return real(*columns, **options | {"disable": True})

    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes any stream for a terminal then
    monkeypatch.setattr(_download, "Progress", watched)
    make("good").load(quiet=quiet)
    assert set(disabled) == {quiet}
