"""A download is whole or not there, whatever the server does; all of it against a server on loopback."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from stages.store.fetching import Limits, download, sha256

CONTENT = bytes(range(256)) * 40
QUICK = Limits(size=2**20, stall=0.3, seconds=20, tries=3, pause=0.01)


class Server:
    """A file server whose behaviour a test decides, and the requests that it had."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {"/file": CONTENT}
        self.seen: list[tuple[str, str | None]] = []
        self.answer: Callable[[BaseHTTPRequestHandler, int], bool] = lambda handler, turn: False
        self.release = threading.Event()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                owner.seen.append((self.path, self.headers.get("range")))
                if owner.answer(self, len(owner.seen)):
                    return
                body = owner.files.get(self.path)
                if body is None:
                    return reply(self, 404)
                start = int((self.headers.get("range") or "bytes=0-")[6:-1])
                if start >= len(body) > 0 and start:
                    return reply(self, 416, headers={"Content-Range": f"bytes */{len(body)}"})
                headers = {"Content-Range": f"bytes {start}-{len(body) - 1}/{len(body)}"} if start else {}
                reply(self, 206 if start else 200, body[start:], headers)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.base = f"http://127.0.0.1:{self.http.server_port}"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    def close(self) -> None:
        self.release.set()
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


def reply(handler: BaseHTTPRequestHandler, code: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
    """A whole answer; a `Content-Length` among the headers may lie."""
    handler.send_response(code)
    for name, value in ({"Content-Length": str(len(body)), "Connection": "close"} | (headers or {})).items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)
    handler.close_connection = True


@pytest.fixture
def server() -> Iterator[Server]:
    one = Server()
    yield one
    one.close()


def test_a_file_is_brought_as_it_is(server: Server, tmp_path: Path) -> None:
    part = tmp_path / "folder" / "part"
    download(f"{server.base}/file", part, QUICK)
    assert part.read_bytes() == CONTENT and sha256(part) == hashlib.sha256(CONTENT).hexdigest()
    assert server.seen == [("/file", None)]


def test_what_is_there_already_is_not_brought_again(server: Server, tmp_path: Path) -> None:
    part = tmp_path / "part"
    part.write_bytes(CONTENT[:1000])
    download(f"{server.base}/file", part, QUICK)
    assert part.read_bytes() == CONTENT and server.seen == [("/file", "bytes=1000-")]


def test_a_part_that_is_whole_answers_416_and_is_left(server: Server, tmp_path: Path) -> None:
    part = tmp_path / "part"
    part.write_bytes(CONTENT)
    download(f"{server.base}/file", part, QUICK)
    assert part.read_bytes() == CONTENT and len(server.seen) == 1


def test_a_part_that_is_longer_than_the_file_is_dropped_and_brought_anew(server: Server, tmp_path: Path) -> None:
    part = tmp_path / "part"
    part.write_bytes(CONTENT + b"more")
    download(f"{server.base}/file", part, QUICK)
    assert part.read_bytes() == CONTENT
    assert [asked for _, asked in server.seen] == [f"bytes={len(CONTENT) + 4}-", None]


def test_a_server_that_knows_no_ranges_sends_all_of_it(server: Server, tmp_path: Path) -> None:
    part = tmp_path / "part"
    part.write_bytes(b"x" * 500)
    server.answer = lambda handler, turn: reply(handler, 200, CONTENT) is None
    download(f"{server.base}/file", part, QUICK)
    assert part.read_bytes() == CONTENT


def test_a_server_that_goes_on_elsewhere_is_not_believed(server: Server, tmp_path: Path) -> None:
    part = tmp_path / "part"
    part.write_bytes(CONTENT[:1000])

    def answer(handler: BaseHTTPRequestHandler, turn: int) -> bool:
        if turn > 1:
            return False
        headers = {"Content-Range": f"bytes 900-{len(CONTENT) - 1}/{len(CONTENT)}"}
        return reply(handler, 206, CONTENT[900:], headers) is None

    server.answer = answer
    download(f"{server.base}/file", part, QUICK)
    assert part.read_bytes() == CONTENT


def test_a_truncated_answer_is_gone_on_with(server: Server, tmp_path: Path) -> None:
    def answer(handler: BaseHTTPRequestHandler, turn: int) -> bool:
        if turn > 1:
            return False
        return reply(handler, 200, CONTENT[:8192], {"Content-Length": str(len(CONTENT))}) is None

    server.answer = answer
    download(f"{server.base}/file", tmp_path / "part", QUICK)
    assert (tmp_path / "part").read_bytes() == CONTENT
    assert [asked for _, asked in server.seen] == [None, "bytes=8192-"]


def test_a_server_that_always_ends_early_is_given_up_and_the_part_kept(server: Server, tmp_path: Path) -> None:
    server.answer = lambda handler, turn: (
        reply(handler, 200, CONTENT[:8192], {"Content-Length": str(len(CONTENT))}) is None
    )
    with pytest.raises(ValueError, match="ended early; 8192 bytes are kept, run the command again") as caught:
        download(f"{server.base}/file", tmp_path / "part", QUICK)
    assert "\n" not in str(caught.value) and len(server.seen) == QUICK.tries


def test_a_slow_server_is_given_up_after_the_stall(server: Server, tmp_path: Path) -> None:
    def stall(handler: BaseHTTPRequestHandler, turn: int) -> bool:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(CONTENT)))
        handler.end_headers()
        handler.wfile.write(CONTENT[:10])
        handler.wfile.flush()
        server.release.wait(10)
        handler.close_connection = True
        return True

    server.answer = stall
    with pytest.raises(ValueError, match=r"no byte for 0.3 seconds"):
        download(f"{server.base}/file", tmp_path / "part", QUICK)


def test_a_server_that_trickles_is_given_up_in_the_end(server: Server, tmp_path: Path) -> None:
    def trickle(handler: BaseHTTPRequestHandler, turn: int) -> bool:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        while not server.release.wait(0.05):
            try:
                handler.wfile.write(b"1\r\nx\r\n")
                handler.wfile.flush()
            except OSError:
                break
        handler.close_connection = True
        return True

    server.answer = trickle
    limits = Limits(size=2**20, stall=1, seconds=0.5, tries=3, pause=0.01)
    with pytest.raises(ValueError, match=r"not whole after 0.5 seconds"):
        download(f"{server.base}/file", tmp_path / "part", limits)


@pytest.mark.parametrize("declared", [True, False])
def test_a_file_that_is_too_large_is_not_kept(server: Server, tmp_path: Path, declared: bool) -> None:
    def chunked(handler: BaseHTTPRequestHandler, turn: int) -> bool:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(CONTENT), CONTENT))
        handler.close_connection = True
        return True

    server.answer = (lambda *_: False) if declared else chunked
    with pytest.raises(ValueError, match=r"may have|may have 100|larger than 100 bytes"):
        download(f"{server.base}/file", tmp_path / "part", Limits(size=100, stall=1, tries=1))
    assert (tmp_path / "part").read_bytes() == b""


@pytest.mark.parametrize(
    ("code", "message"), [(404, "no such file any more"), (410, "no such file any more"), (403, "does not give it")]
)
def test_an_answer_that_is_final_is_not_asked_for_again(
    server: Server, tmp_path: Path, code: int, message: str
) -> None:
    server.answer = lambda handler, turn: reply(handler, code, b"an error page") is None
    with pytest.raises(ValueError, match=message):
        download(f"{server.base}/file", tmp_path / "part", QUICK)
    assert len(server.seen) == 1 and (tmp_path / "part").read_bytes() == b""


def test_a_busy_server_is_asked_again(server: Server, tmp_path: Path) -> None:
    server.answer = lambda handler, turn: turn < 3 and reply(handler, 503) is None
    download(f"{server.base}/file", tmp_path / "part", QUICK)
    assert (tmp_path / "part").read_bytes() == CONTENT and len(server.seen) == 3


def test_redirects_lead_to_known_hosts_alone(server: Server, tmp_path: Path) -> None:
    other = server.base.replace("127.0.0.1", "localhost")

    def answer(handler: BaseHTTPRequestHandler, turn: int) -> bool:
        to = {"/near": "/file", "/far": f"{other}/file", "/round": "/round", "/odd": "ftp://127.0.0.1/file"}
        if handler.path not in to:
            return False
        return reply(handler, 302, headers={"Location": to[handler.path]}) is None

    server.answer = answer
    download(f"{server.base}/near", tmp_path / "near", QUICK)
    assert (tmp_path / "near").read_bytes() == CONTENT
    download(f"{server.base}/far", tmp_path / "far", QUICK, hosts=("localhost",))
    assert (tmp_path / "far").read_bytes() == CONTENT
    for path, message in (("far", "localhost, which is not asked"), ("odd", "ftp"), ("round", "more than 5 redirects")):
        with pytest.raises(ValueError, match=message):
            download(f"{server.base}/{path}", tmp_path / f"{path}2", QUICK)
        assert (tmp_path / f"{path}2").read_bytes() == b""


def test_two_do_not_write_one_part(server: Server, tmp_path: Path) -> None:
    import fcntl

    with (tmp_path / "part").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match="another process is fetching it"):
            download(f"{server.base}/file", tmp_path / "part", QUICK)


def test_no_server_is_said_in_a_line(tmp_path: Path) -> None:
    one = Server()
    one.close()
    with pytest.raises(ValueError, match="no connection") as caught:
        download(f"{one.base}/file", tmp_path / "part", QUICK)
    assert "\n" not in str(caught.value)
