"""Whether a file's bytes are all there and as they were written, without decoding a pixel.

A decoder is no witness: OpenCV fills the rest of a cut JPEG, Pillow does not look at the checksum of a PNG's pixel
chunks, and a reader of compressed volumes may stop before the checksum at the end. What the formats carry for that
purpose is checked here: every chunk's CRC-32 in PNG (ISO/IEC 15948), the order of markers up to the end of image in
JPEG (ITU-T T.81 annex B), CRC-32 and length in gzip (RFC 1952). A flipped bit inside the entropy-coded pixels of a
JPEG, in BMP and in most TIFF leaves no trace; only a recorded SHA-256 tells.
"""

import hashlib
import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from medseg.data.inspection.findings import Collector

PNG_START = b"\x89PNG\r\n\x1a\n"
JPEG_START = b"\xff\xd8\xff"
GZIP_START = b"\x1f\x8b"
_BLOCK = 1 << 20
_SCAN, _END = 0xDA, 0xD9
_RESTARTS = range(0xD0, 0xD8)


def scan(path: Path, collector: Collector, *, recorded: Mapping[Path, str]) -> str:
    """Return the SHA-256 (hex) of a file and note what its structure says; "" if it cannot be read at all.

    Args:
        path: a file, or a folder that is one DICOM series (hashed file by file in order of their names).
        collector: takes the findings.
        recorded: SHA-256 (hex) of files as their owner wrote them down, compared where there is one.
    """
    if path.is_dir():
        hashes = [scan(part, collector, recorded=recorded) for part in sorted(path.iterdir()) if part.is_file()]
        return hashlib.sha256("".join(hashes).encode()).hexdigest()
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            start = stream.read(len(PNG_START))
            found = hashlib.sha256(start)
            check = _Gzip() if start.startswith(GZIP_START) else _Whole()
            check.take(start)
            while block := stream.read(_BLOCK):
                found.update(block)
                check.take(block)
    except FileNotFoundError:
        collector.add("missing-file", f"{path.name} is not there", file=path)
        return ""
    except OSError as error:
        collector.add("unreadable", f"{path.name} cannot be read ({error.strerror})", file=path)
        return ""
    if not size:
        collector.add("empty-file", f"{path.name} has 0 bytes", file=path)
        return ""
    for kind, what in check.problems():
        collector.add(kind, f"{path.name}: {what}", file=path)
    digest = found.hexdigest()
    collector.unprotected += path not in recorded and not start.startswith((PNG_START, GZIP_START))
    if recorded.get(path, digest) != digest:
        collector.add("checksum", f"{path.name} differs from its recorded SHA-256 {recorded[path][:12]}...", file=path)
    return digest


class _Whole:
    """Keeps a PNG or JPEG and checks it at the end; any other content passes by unkept."""

    def __init__(self) -> None:
        self.content = bytearray()
        self.keep = True

    def take(self, block: bytes) -> None:
        if not self.content:
            self.keep = block.startswith((PNG_START, JPEG_START))
        if self.keep:
            self.content += block

    def problems(self) -> list[tuple[str, str]]:
        if not self.keep:
            return []
        return list((_png if self.content.startswith(PNG_START) else _jpeg)(bytes(self.content)))


class _Gzip:
    """Unpacks a gzip file block by block, keeping nothing; several members in a row are allowed, as in the RFC."""

    def __init__(self) -> None:
        self.member = zlib.decompressobj(wbits=31)
        self.failure = ""
        self.trailing = False

    def take(self, block: bytes) -> None:
        while block and not self.failure and not self.trailing:
            if self.member.eof:
                self.trailing = not block.startswith(GZIP_START)
                if self.trailing:
                    return
                self.member = zlib.decompressobj(wbits=31)
            try:
                self.member.decompress(block, _BLOCK)
                while self.member.unconsumed_tail:
                    self.member.decompress(self.member.unconsumed_tail, _BLOCK)
            except zlib.error as error:
                self.failure = str(error)
            block = self.member.unused_data

    def problems(self) -> list[tuple[str, str]]:
        if self.failure:
            return [("damaged", f"gzip content is damaged ({self.failure})")]
        if not self.member.eof:
            return [("damaged", "gzip content is cut short")]
        return [("trailing-bytes", "bytes follow the end of the gzip content")] if self.trailing else []


def _png(content: bytes) -> Iterator[tuple[str, str]]:
    place = len(PNG_START)
    while place + 12 <= len(content):
        (length,) = struct.unpack(">I", content[place : place + 4])
        name, end = content[place + 4 : place + 8], place + 12 + length
        if end > len(content):
            break
        (stored,) = struct.unpack(">I", content[end - 4 : end])
        if zlib.crc32(content[place + 4 : end - 4]) != stored:
            yield "damaged", f"checksum of PNG chunk {name!r} at byte {place} is wrong"
            return
        if name == b"IEND":
            if end < len(content):
                yield "trailing-bytes", f"{len(content) - end} bytes follow the end of the PNG"
            return
        place = end
    yield "damaged", f"PNG is cut short at byte {len(content)}: its end mark is missing"


def _jpeg(content: bytes) -> Iterator[tuple[str, str]]:
    """Walk the marker segments to the end-of-image mark; inside a scan only stuffing and restarts may follow 0xFF."""
    place, size, scans = 2, len(content), 0
    while place + 2 <= size:
        if content[place] != 0xFF:
            yield "damaged", f"JPEG has no marker at byte {place}"
            return
        marker = content[place + 1]
        if marker == 0xFF:  # fill bytes may precede a marker
            place += 1
            continue
        if marker == _END:
            if not scans:
                yield "damaged", "JPEG ends before its first scan"
            elif place + 2 < size:
                yield "trailing-bytes", f"{size - place - 2} bytes follow the end of the JPEG"
            return
        if place + 4 > size:
            break
        (length,) = struct.unpack(">H", content[place + 2 : place + 4])
        place += 2 + length
        if marker == _SCAN:
            scans += 1
            place = _scan_end(content, place)
    yield "damaged", f"JPEG is cut short at byte {size}: its end mark is missing"


def _scan_end(content: bytes, place: int) -> int:
    """Return where the entropy-coded data ends: at the next marker that is neither stuffing nor a restart."""
    while 0 <= (place := content.find(b"\xff", place)) < len(content) - 1:
        following = content[place + 1]
        if following != 0 and following not in _RESTARTS:
            return place
        place += 2
    return len(content)


def recorded_hashes(root: Path) -> dict[Path, str]:
    """Return the SHA-256 (hex) that ``SHA256SUMS`` of a dataset's folder states for its files; none without it.

    Lines are ``HASH  PATH`` with paths relative to the folder, as ``sha256sum`` writes them; other lines are passed by.
    """
    listing = root / "SHA256SUMS"
    if not listing.is_file():
        return {}
    found: dict[Path, str] = {}
    for line in listing.read_text(encoding="utf-8", errors="replace").splitlines():
        digest, _, name = line.partition(" ")
        if len(digest) == 64 and name.strip():
            found[root / name.strip().lstrip("*")] = digest.lower()
    return found
