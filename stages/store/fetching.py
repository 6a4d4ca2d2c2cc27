"""One file from an address, whole or not at all: streamed, limited, resumed, from the hosts that may be asked."""

from __future__ import annotations

import fcntl
import hashlib
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urljoin, urlsplit

import requests

CHUNK = 2**12  # bytes; of a connection that ends early the last chunk is lost
REDIRECTS = 5
LOOPBACK = ("127.0.0.1", "localhost", "::1")
AGAIN = (408, 425, 429, 500, 502, 503, 504)  # answers after which another try may help


@dataclass(frozen=True)
class Limits:
    """What a download may take before it is given up."""

    size: int  # bytes
    stall: float = 30.0  # seconds without a byte
    seconds: float = 900.0  # in all
    tries: int = 3  # each goes on where the one before ended
    pause: float = 1.0  # seconds before the second try, doubled for each that follows


class Interrupted(Exception):
    """A try ended early; the next one may go on from what is there."""


def download(url: str, part: Path, limits: Limits, hosts: tuple[str, ...] = ()) -> None:
    """Fills `part` with the file at `url`, going on behind the bytes that it has already.

    Redirects lead to the host of `url` and to `hosts` alone, and never from https to http. What was brought so far is
    kept after an interruption, and removed when it is too much. ValueError in one line for anything that ends it.
    """
    part.parent.mkdir(parents=True, exist_ok=True)
    ends = time.monotonic() + limits.seconds
    with _alone(part) as file, requests.Session() as session:
        session.trust_env = urlsplit(url).hostname not in LOOPBACK  # no proxy for this machine
        for turn in range(limits.tries):
            try:
                return _bring(session, url, file, limits, hosts, ends)
            except Interrupted as error:
                if turn + 1 == limits.tries or time.monotonic() > ends:
                    raise ValueError(f"{url}: {error}; {file.tell()} bytes are kept, run the command again") from None
                time.sleep(min(limits.pause * 2**turn, max(0.0, ends - time.monotonic())))


def sha256(path: Path) -> str:
    """The sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _alone(part: Path) -> Iterator[BinaryIO]:
    """The open file, at its end; ValueError if another process writes it."""
    with part.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"{part}: another process is fetching it") from None
        yield file


def _bring(
    session: requests.Session, url: str, file: BinaryIO, limits: Limits, hosts: tuple[str, ...], ends: float
) -> None:
    """One try: appends what is missing, or begins anew if the server does not go on."""
    have = file.seek(0, 2)
    with _answer(session, url, have, limits, hosts) as answer:
        code, total = answer.status_code, _total(answer)
        if code == 416 and have and total == have:
            return  # all of it is there
        if code == 416 and have:
            file.truncate(0)
            raise Interrupted("the part that was kept is not of this file")
        if code == 206 and _start(answer) != have:
            file.truncate(0)
            raise Interrupted("the server went on at another byte")
        if code not in (200, 206):
            _refuse(url, answer)
        if code == 200:
            file.truncate(0)
        _check_size(url, file, total, limits)
        _append(url, answer, file, limits, ends)


def _answer(
    session: requests.Session, url: str, have: int, limits: Limits, hosts: tuple[str, ...]
) -> requests.Response:
    """The answer behind all redirects; its body is not read yet."""
    allowed, at = {urlsplit(url).hostname, *hosts}, url
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    for _ in range(REDIRECTS + 1):
        try:
            answer = session.get(
                at, headers=headers, stream=True, timeout=(limits.stall, limits.stall), allow_redirects=False
            )
        except requests.RequestException as error:
            raise Interrupted(_reason(error, limits)) from None
        if not answer.is_redirect:
            return answer
        answer.close()
        before, at = urlsplit(at), urljoin(at, answer.headers["location"])
        after = urlsplit(at)
        if after.hostname not in allowed or (before.scheme, after.scheme) == ("https", "http"):
            raise ValueError(f"{url}: redirected to {after.scheme}://{after.hostname}, which is not asked")
        if after.scheme not in ("http", "https"):
            raise ValueError(f"{url}: redirected to {after.scheme}, which is not asked")
    raise ValueError(f"{url}: more than {REDIRECTS} redirects")


def _append(url: str, answer: requests.Response, file: BinaryIO, limits: Limits, ends: float) -> None:
    try:
        for chunk in answer.iter_content(CHUNK):
            if file.tell() + len(chunk) > limits.size:
                file.truncate(0)
                raise ValueError(f"{url}: larger than {limits.size} bytes, which is all that it may have")
            file.write(chunk)
            file.flush()
            if time.monotonic() > ends:
                raise Interrupted(f"not whole after {limits.seconds:g} seconds")
    except requests.RequestException as error:
        raise Interrupted(_reason(error, limits)) from None
    declared = _total(answer)
    if declared is not None and file.tell() < declared:
        raise Interrupted(f"ended after {file.tell()} of {declared} bytes")


def _check_size(url: str, file: BinaryIO, total: int | None, limits: Limits) -> None:
    if total is not None and total > limits.size:
        file.truncate(0)
        raise ValueError(f"{url}: {total} bytes, and it may have {limits.size}")


def _refuse(url: str, answer: requests.Response) -> None:
    code = answer.status_code
    if code in AGAIN:
        raise Interrupted(f"the server answers {code}")
    if code in (404, 410):
        raise ValueError(f"{url}: there is no such file any more ({code})")
    if code in (401, 403):
        raise ValueError(f"{url}: the server does not give it to you ({code})")
    raise ValueError(f"{url}: the server answers {code}")


def _total(answer: requests.Response) -> int | None:
    """The bytes of the whole file, if the answer says."""
    ranged = re.fullmatch(r"bytes (?:\d+-\d+|\*)/(\d+)", answer.headers.get("content-range", ""))
    if ranged:
        return int(ranged[1])
    length = answer.headers.get("content-length", "")
    return int(length) if answer.status_code == 200 and length.isdigit() else None


def _start(answer: requests.Response) -> int | None:
    ranged = re.match(r"bytes (\d+)-", answer.headers.get("content-range", ""))
    return int(ranged[1]) if ranged else None


def _reason(error: Any, limits: Limits) -> str:
    if isinstance(error, requests.Timeout) or "timed out" in str(error).lower():
        return f"no byte for {limits.stall:g} seconds"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection ended early"
    return f"no connection ({type(error).__name__})"
