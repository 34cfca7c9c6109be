"""Fetching against a server on this machine: resumed, verified, bounded; nothing starts by itself."""

import hashlib
import http.server
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from medseg import cli
from medseg.data.fetch import Remote, check_url, fetch
from medseg.errors import DataError
from medseg.rng import generator

CONTENT = generator(0, "archive").bytes(3_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Behaviour:
    """What the server does, and what it was asked."""

    content: bytes = CONTENT
    etag: str | None = '"v1"'
    ranges: bool = True
    cut_after: int | None = None
    cuts: int = 0
    codes: list[int] = field(default_factory=list)
    length: bool = True
    redirect: str = ""
    kind: str = "application/zip"
    requests: list[dict[str, str]] = field(default_factory=list)
    sent: int = 0


class _Handler(http.server.BaseHTTPRequestHandler):
    behaviour: Behaviour

    def do_GET(self) -> None:
        told = self.behaviour
        told.requests.append(dict(self.headers.items()))
        if told.codes:
            self.send_error(told.codes.pop(0))
            return
        if self.path.startswith("/moved"):
            self.send_response(302)
            self.send_header("Location", told.redirect)
            self.end_headers()
            return
        start = self._start(told)
        if start is None:
            return
        self._send(told, start)

    def _start(self, told: Behaviour) -> int | None:
        asked = self.headers.get("Range", "")
        same = told.etag is not None and self.headers.get("If-Range") == told.etag
        if not (asked and told.ranges and same):
            self.send_response(200)
            return 0
        start = int(asked.removeprefix("bytes=").rstrip("-"))
        if start >= len(told.content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(told.content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return None
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {start}-{len(told.content) - 1}/{len(told.content)}")
        return start

    def _send(self, told: Behaviour, start: int) -> None:
        body = told.content[start:]
        self.send_header("Content-Type", told.kind)
        if told.length:
            self.send_header("Content-Length", str(len(body)))
        if told.etag:
            self.send_header("ETag", told.etag)
        self.end_headers()
        if told.cuts > 0 and told.cut_after is not None:
            told.cuts -= 1
            body = body[: told.cut_after]
        self.wfile.write(body)
        told.sent += len(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[tuple[str, Behaviour]]:
    behaviour = Behaviour()
    handler = type("Handler", (_Handler,), {"behaviour": behaviour})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}/", behaviour
        running.shutdown()
        thread.join()


@pytest.fixture
def waits() -> list[float]:
    return []


def remote(url: str, **changes: object) -> Remote:
    return Remote(**{"url": url + "set%20é.zip", "sha256": SHA256, "size": len(CONTENT), **changes})


def got(what: Remote, target: Path, waits: list[float], **options: object) -> Path:
    return fetch(what, target, wait=waits.append, timeout=5, **options)


def test_a_file_is_fetched_verified_and_named(server, tmp_path, waits):
    path = got(remote(server[0]), tmp_path / "new" / "data", waits)
    assert path.name == "set é.zip"
    assert path.read_bytes() == CONTENT
    assert [item.name for item in path.parent.iterdir()] == ["set é.zip"]
    assert waits == []
    assert server[1].requests[0]["Accept-Encoding"] == "identity"


def test_what_is_there_and_right_is_not_fetched_again(server, tmp_path, waits):
    got(remote(server[0]), tmp_path, waits)
    got(remote(server[0]), tmp_path, waits)
    assert len(server[1].requests) == 1


def test_what_is_there_and_wrong_is_kept_and_named(server, tmp_path, waits):
    (tmp_path / "set é.zip").write_bytes(b"mine")
    with pytest.raises(DataError, match="is there but is not the file of.*move it away"):
        got(remote(server[0]), tmp_path, waits)
    assert (tmp_path / "set é.zip").read_bytes() == b"mine"
    assert server[1].requests == []


def test_a_cut_connection_is_continued_where_it_ended(server, tmp_path, waits):
    server[1].cut_after, server[1].cuts = 1_000_000, 2
    assert got(remote(server[0]), tmp_path, waits).read_bytes() == CONTENT
    assert [request.get("Range") for request in server[1].requests] == [None, "bytes=1000000-", "bytes=2000000-"]
    assert server[1].requests[1]["If-Range"] == '"v1"'
    assert server[1].sent == len(CONTENT), "no byte was sent twice"
    assert waits == [1.0, 1.0], "a transfer that brought something does not count as another failure"


def test_a_later_call_continues_what_an_earlier_one_left(server, tmp_path, waits):
    server[1].cut_after, server[1].cuts = 1_000_000, 1
    with pytest.raises(DataError, match=r"transfer failed 1 times.*1,000,000 bytes are kept and continued"):
        got(remote(server[0]), tmp_path, waits, attempts=1)
    assert {path.name for path in tmp_path.iterdir()} >= {"set é.zip.partial"}
    assert got(remote(server[0]), tmp_path, waits).read_bytes() == CONTENT
    assert server[1].sent == len(CONTENT)


def test_a_finished_transfer_that_was_not_renamed_is_not_fetched_again(server, tmp_path, waits, monkeypatch):
    monkeypatch.setattr("medseg.data.fetch._verify", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        got(remote(server[0]), tmp_path, waits)
    monkeypatch.undo()
    assert got(remote(server[0]), tmp_path, waits).read_bytes() == CONTENT
    assert server[1].sent == len(CONTENT)


def test_a_server_that_ignores_ranges_starts_over(server, tmp_path, waits):
    server[1].cut_after, server[1].cuts, server[1].ranges = 1_000_000, 1, False
    assert got(remote(server[0]), tmp_path, waits).read_bytes() == CONTENT
    assert server[1].sent == len(CONTENT) + 1_000_000


def test_a_file_that_changed_meanwhile_starts_over(server, tmp_path, waits):
    server[1].cut_after, server[1].cuts = 1_000_000, 1
    with pytest.raises(DataError, match="transfer failed"):
        got(remote(server[0], sha256=None, size=None), tmp_path, waits, attempts=1)
    server[1].content, server[1].etag = CONTENT[::-1], '"v2"'
    assert got(remote(server[0], sha256=None, size=None), tmp_path, waits).read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize("etag", [None, 'W/"v1"'])
def test_without_a_reliable_mark_nothing_is_continued(etag, server, tmp_path, waits):
    server[1].etag, server[1].cut_after, server[1].cuts = etag, 1_000_000, 1
    assert got(remote(server[0]), tmp_path, waits).read_bytes() == CONTENT
    assert all("Range" not in request for request in server[1].requests)


def test_a_beginning_from_another_address_is_not_continued(server, tmp_path, waits):
    server[1].cut_after, server[1].cuts = 1_000_000, 1
    with pytest.raises(DataError):
        got(remote(server[0] + "other/"), tmp_path, waits, attempts=1)
    assert got(remote(server[0]), tmp_path, waits).read_bytes() == CONTENT
    assert "Range" not in server[1].requests[1]


def test_a_wrong_checksum_is_refused_and_nothing_is_left(server, tmp_path, waits):
    with pytest.raises(DataError, match=rf"not the expected one and was removed: its sha256 is {SHA256}"):
        got(remote(server[0], sha256="0" * 64), tmp_path, waits)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_size_is_refused_before_anything_is_written(server, tmp_path, waits):
    with pytest.raises(DataError, match="the file has 3,000,000 bytes, 5 are expected"):
        got(remote(server[0], size=5), tmp_path, waits)
    server[1].length = False
    with pytest.raises(DataError, match="more than the expected 5 bytes came"):
        got(remote(server[0], size=5), tmp_path, waits)
    assert not (tmp_path / "set é.zip").exists()


def test_a_cut_that_no_header_betrays_is_found_by_the_size(server, tmp_path, waits):
    server[1].length, server[1].cut_after, server[1].cuts = False, 1000, 1
    with pytest.raises(DataError, match="it has 1,000 bytes, 3,000,000 are expected"):
        got(remote(server[0]), tmp_path, waits)
    assert got(remote(server[0]), tmp_path, waits).read_bytes() == CONTENT


@pytest.mark.parametrize("code", [401, 403, 404, 410])
def test_a_refusal_is_final_and_says_what_to_do(code, server, tmp_path, waits):
    server[1].codes = [code] * 9
    with pytest.raises(DataError, match=rf"the server answers {code} .*medseg data info NAME"):
        got(remote(server[0]), tmp_path, waits)
    assert len(server[1].requests) == 1
    assert not (tmp_path / "set é.zip").exists()


def test_passing_faults_are_waited_for_longer_each_time_and_not_forever(server, tmp_path, waits):
    server[1].codes = [503, 500, 429]
    assert got(remote(server[0]), tmp_path, waits).read_bytes() == CONTENT
    assert waits == [1.0, 2.0, 4.0]
    server[1].codes = [503] * 9
    with pytest.raises(DataError, match=r"transfer failed 5 times \(503 "):
        got(remote(server[0]), tmp_path / "b", waits)
    assert len(server[1].codes) == 4


def test_a_web_page_in_place_of_the_file_is_refused(server, tmp_path, waits):
    server[1].kind = "text/html; charset=utf-8"
    with pytest.raises(DataError, match="sends a web page instead of the file"):
        got(remote(server[0], sha256=None, size=None), tmp_path, waits)


def test_two_cannot_fetch_one_file_at_a_time(server, tmp_path, waits):
    from filelock import FileLock

    held, refusal = FileLock(tmp_path / "set é.zip.partial.lock"), pytest.raises(DataError, match="another process")
    with held, refusal:
        got(remote(server[0]), tmp_path, waits)
    assert server[1].requests == []


def test_nobody_listening_is_one_line(tmp_path, waits):
    with pytest.raises(DataError, match=r"transfer failed 2 times \(.*refused.*\); 0 bytes are kept") as caught:
        got(remote("http://127.0.0.1:9/"), tmp_path, waits, attempts=2)
    assert "\n" not in str(caught.value)


def test_redirects_are_followed_but_not_out_of_https(server, tmp_path, waits):
    server[1].redirect = server[0] + "elsewhere"
    assert got(remote(server[0] + "moved/"), tmp_path / "a", waits).read_bytes() == CONTENT
    for address in ("http://example.org/x.zip", "ftp://example.org/x.zip", "file:///etc/passwd"):
        server[1].redirect = address
        with pytest.raises(DataError, match="only https addresses are fetched|answers 302"):
            got(remote(server[0] + "moved/"), tmp_path / "b", waits)
    server[1].redirect, before = server[0] + "moved/again", len(server[1].requests)
    with pytest.raises(DataError, match="answers 302"):
        got(remote(server[0] + "moved/"), tmp_path / "b", waits)
    assert len(server[1].requests) - before <= 6


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/a.zip",
        "ftp://example.org/a",
        "file:///etc/passwd",
        "a.zip",
        "https:///a",
        "http://127.0.0.1.x.org/a",
    ],
)
def test_other_addresses_than_https_are_refused(url, tmp_path):
    with pytest.raises(DataError, match="only https addresses"):
        fetch(Remote(url), tmp_path)


def test_https_is_accepted_as_an_address():
    check_url("https://example.org/a.zip")


def test_an_address_of_https_may_not_lead_to_this_machine():
    from urllib.request import Request

    from medseg.data.fetch import _Redirects

    with pytest.raises(DataError, match="which is not https"):
        _Redirects().redirect_request(Request("https://example.org/a"), None, 302, "", {}, "http://127.0.0.1/a")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://e.org/x/a.zip?download=1", "a.zip"),
        ("https://e.org/%2e%2e%2fpasswd", "passwd"),
        ("https://e.org/", "download"),
        ("https://e.org/.hidden", "hidden"),
        ("https://e.org/a%00b|c.zip", "a_b_c.zip"),
        ("https://e.org/a%5Cb.zip", "a_b.zip"),
    ],
)
def test_the_file_s_name_is_plain(url, name):
    assert Remote(url).file_name == name


# The command


@pytest.fixture
def conf(server, tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "conf"
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "mine.yaml").write_text(
        f"card: {{name: mine, licence: CC BY 4.0, citation: me, classes: [background, x]}}\nabout:\n  title: My set\n"
        f"  fetch: {{url: '{server[0]}a.zip', sha256: {SHA256}, bytes: {len(CONTENT)}}}\n"
    )
    (folder / "data" / "closed.yaml").write_text("about: {title: Closed, access: request, fetch: null}\n")
    return folder


def run(conf: Path, *arguments: str) -> int:
    return cli.main(["data", "fetch", *arguments, "--config-dir", str(conf)])


def test_the_command_asks_first_and_refuses_without_anybody_to_ask(conf, server, tmp_path, capsys):
    assert run(conf, "mine", "--target", str(tmp_path / "t")) == 2
    shown = capsys.readouterr()
    assert "add --yes" in shown.err
    for fact in ("3.0 MB", "CC BY 4.0", server[0] + "a.zip", "My set"):
        assert fact in shown.out
    assert server[1].requests == []


@pytest.mark.parametrize(
    ("answer", "fetched"), [("", False), ("n", False), ("what", False), ("y", True), ("YES ", True)]
)
def test_only_a_clear_yes_starts(answer, fetched, conf, server, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda *_: answer)
    assert run(conf, "mine", "--target", str(tmp_path / "t")) == 0
    assert (tmp_path / "t" / "a.zip").exists() == fetched
    assert bool(server[1].requests) == fetched
    assert ("Nothing was fetched" in capsys.readouterr().out) != fetched


def test_yes_fetches_and_says_what_comes_next(conf, tmp_path, capsys):
    assert run(conf, "mine", "--target", str(tmp_path / "t"), "--yes") == 0
    assert f"next: medseg data prepare mine --source '{tmp_path / 't' / 'a.zip'}'" in capsys.readouterr().out


def test_a_set_without_a_public_address_names_the_way(conf, tmp_path, capsys):
    assert run(conf, "closed", "--target", str(tmp_path), "--yes") == 2
    assert "no public address" in capsys.readouterr().err
    assert run(conf, "mein", "--target", str(tmp_path), "--yes") == 2
    assert "unknown dataset 'mein'" in capsys.readouterr().err
    assert run(conf, "mine", "--yes") == 2
    assert "--target" in capsys.readouterr().err
