"""One public file from the web, resumed and verified; nothing starts by itself.

Only https is spoken (http to this machine itself, for tests). A transfer goes to NAME.partial; what was cut off is
continued where the server allows it and the file there is still the same one (``ETag`` or ``Last-Modified``).
"""

import errno
import hashlib
import json
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

from medseg import __version__
from medseg.data.prepare.progress import Progress
from medseg.errors import DataError

_CHUNK = 1 << 18
_PASSING = (408, 425, 429, 500, 502, 503, 504)
"""Answers after which another attempt makes sense."""
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_REDIRECTS = 5
_SAFE = "%/:?#[]@!$&'()*+,;=~"
"""Signs that an address keeps; any other is percent-encoded."""
_OWN_FAULT = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EFBIG)


@dataclass(frozen=True)
class Remote:
    """A public file.

    Attributes:
        url: https address of the file itself.
        sha256: of the whole file, None where its owner publishes none.
        size: in bytes, None where unknown.
    """

    url: str
    sha256: str | None = None
    size: int | None = None

    @property
    def file_name(self) -> str:
        """Name to store it under: the last part of the address, made plain."""
        name = urllib.parse.unquote(urllib.parse.urlsplit(self.url).path).rstrip("/").rpartition("/")[2]
        return re.sub(r"[^\w.\-+ ]", "_", name).lstrip(".") or "download"


def check_url(url: str) -> None:
    """Refuse an address that is neither https nor http on this machine itself.

    Raises:
        DataError: as said.
    """
    parts = urllib.parse.urlsplit(url)
    local = parts.scheme == "http" and parts.hostname in _LOOPBACK
    if not (parts.hostname and (parts.scheme == "https" or local)):
        raise DataError(f"{url}: only https addresses are fetched; correct about.fetch.url.")


class _Redirects(urllib.request.HTTPRedirectHandler):
    max_redirections = _REDIRECTS
    max_repeats = 2

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        check_url(newurl)
        if req.type == "https" and not newurl.startswith("https:"):
            raise DataError(f"{req.full_url}: it leads to {newurl}, which is not https; nothing is fetched from there.")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def fetch(
    remote: Remote, target: Path, *, timeout: float = 60.0, attempts: int = 5, wait: Callable[[float], Any] = time.sleep
) -> Path:
    """Download a file into a folder and return its path; a file that is there and right is not fetched again.

    Args:
        remote: what to fetch.
        target: folder, made if need be.
        timeout: seconds without an answer or a byte.
        attempts: transfers in a row that may bring nothing before it gives up; between them it waits 1, 2, 4, ... s.
        wait: how to wait.

    Raises:
        DataError: the server refuses, the connection fails for good, or the file is not the expected one. A cut
            transfer is kept for the next call, a wrong file is not.
    """
    check_url(remote.url)
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{target}: the folder cannot be made ({error}); choose another --target.") from None
    whole = target / remote.file_name
    if whole.exists():
        _verify(whole, remote, keep=True)
        return whole
    partial = whole.with_name(f"{whole.name}.partial")
    lock = FileLock(f"{partial}.lock", timeout=0)
    try:
        with lock:
            try:
                _transfer(remote, partial, timeout=timeout, attempts=attempts, wait=wait)
                _verify(partial, remote, keep=False)
                partial.replace(whole)
                _note(partial).unlink(missing_ok=True)
            finally:
                Path(lock.lock_file).unlink(missing_ok=True)
    except Timeout:
        raise DataError(f"{partial}: another process is fetching this file; wait until it ends.") from None
    return whole


def _note(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.json")


def _transfer(remote: Remote, partial: Path, *, timeout: float, attempts: int, wait: Callable[[float], Any]) -> None:
    progress = Progress(f"fetch {remote.file_name}", unit="bytes", total=remote.size)
    try:
        _persist(remote, partial, progress, timeout=timeout, attempts=attempts, wait=wait)
    finally:
        progress.stop()


def _persist(
    remote: Remote, partial: Path, progress: Progress, *, timeout: float, attempts: int, wait: Callable[[float], Any]
) -> None:
    failures = 0
    while True:
        before = _length(partial)
        try:
            _attempt(remote, partial, progress, timeout)
            return
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 416 and before:  # all is here, or what is here is no beginning of what is there
                if error.headers.get("Content-Range") == f"bytes */{before}":
                    return
                _forget(partial)
            elif error.code not in _PASSING:
                raise DataError(
                    f"{remote.url}: the server answers {error.code} {error.reason}; {_elsewhere()}"
                ) from None
            reason = f"{error.code} {error.reason}"
        except (OSError, HTTPException) as error:
            if getattr(error, "errno", None) in _OWN_FAULT:
                raise DataError(
                    f"{partial}: the file cannot be written ({error}); free space or choose another folder."
                ) from None
            reason = " ".join(str(getattr(error, "reason", error)).split()) or type(error).__name__
        failures = 1 if _length(partial) > before else failures + 1
        if failures >= attempts:
            kept = f"{_length(partial):,} bytes are kept and continued by the same command"
            raise DataError(f"{remote.url}: transfer failed {failures} times ({reason}); {kept}.")
        wait(2.0 ** (failures - 1))


def _elsewhere() -> str:
    return "open the dataset's page in a browser (medseg data info NAME) and fetch it from there."


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _forget(partial: Path) -> None:
    partial.unlink(missing_ok=True)
    _note(partial).unlink(missing_ok=True)


def _attempt(remote: Remote, partial: Path, progress: Progress, timeout: float) -> None:
    """Ask once; append where the server continues the same file, else begin again.

    Raises:
        OSError: the connection failed or ended early.
    """
    have, mark = _length(partial), _mark(partial, remote.url)
    if have and not mark:
        _forget(partial)
        have = 0
    headers = {"User-Agent": f"medseg/{__version__}", "Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": mark}
    opener = urllib.request.build_opener(_Redirects)
    plain = urllib.parse.quote(remote.url, safe=_SAFE)
    with opener.open(urllib.request.Request(plain, headers=headers), timeout=timeout) as answer:
        if answer.headers.get_content_type() == "text/html" and partial.suffixes[-2:-1] not in ([".html"], [".htm"]):
            raise DataError(f"{remote.url}: the server sends a web page instead of the file; {_elsewhere()}")
        start, total = _begins_at(answer, have)
        if start == 0:
            _note(partial).write_text(json.dumps({"url": remote.url, "mark": _strong_mark(answer.headers)}), "utf-8")
        progress.expect(total or remote.size)
        progress.restart(start)
        _judge_size(remote, total)
        with partial.open("ab" if start else "wb") as stream:
            _receive(answer, stream, remote, progress, start)
    if total is not None and _length(partial) < total:
        raise ConnectionError(f"connection ended after {_length(partial):,} of {total:,} bytes")


def _mark(partial: Path, url: str) -> str:
    """Return what identifies the version of the file that the beginning was taken from, "" where nothing does."""
    try:
        note = json.loads(_note(partial).read_text(encoding="utf-8"))
        return str(note["mark"] or "") if note["url"] == url else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _strong_mark(headers: HTTPMessage) -> str:
    etag = headers.get("ETag") or ""
    return etag if etag and not etag.startswith("W/") else headers.get("Last-Modified") or ""


def _begins_at(answer: Any, have: int) -> tuple[int, int | None]:
    """Return the first byte that the answer holds and the length of the whole file."""
    if answer.status == 206:
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
        if match is None or int(match[1]) != have:
            raise ConnectionError("server continues elsewhere than asked")
        return have, None if match[2] == "*" else int(match[2])
    length = answer.headers.get("Content-Length")
    return 0, int(length) if length and length.isdigit() else None


def _judge_size(remote: Remote, total: int | None) -> None:
    if remote.size is not None and total is not None and total != remote.size:
        raise DataError(
            f"{remote.url}: the file has {total:,} bytes, {remote.size:,} are expected; it was replaced at its source. "
            f"Nothing is used; {_elsewhere()}"
        )


def _receive(answer: Any, stream: IO[bytes], remote: Remote, progress: Progress, length: int) -> None:
    while chunk := answer.read(_CHUNK):
        length += len(chunk)
        if remote.size is not None and length > remote.size:
            raise DataError(f"{remote.url}: more than the expected {remote.size:,} bytes came; {_elsewhere()}")
        stream.write(chunk)
        progress.advance(len(chunk))


def _verify(path: Path, remote: Remote, *, keep: bool) -> None:
    """Compare size and hash.

    Raises:
        DataError: they differ; the file is removed unless ``keep``.
    """
    problem = ""
    if remote.size is not None and _length(path) != remote.size:
        problem = f"it has {_length(path):,} bytes, {remote.size:,} are expected"
    elif remote.sha256 is not None:
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        if found != remote.sha256.lower():
            problem = f"its sha256 is {found}, {remote.sha256} is expected"
    if not problem:
        return
    if keep:
        raise DataError(f"{path} is there but is not the file of {remote.url}: {problem}; move it away and try again.")
    _forget(path)
    raise DataError(f"{remote.url}: the file is not the expected one and was removed: {problem}; {_elsewhere()}")
