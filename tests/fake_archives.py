"""Makers of archives, honest and hostile. Nothing here unpacks anything."""

import gzip
import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

FILES = {"set/images/a.txt": b"one", "set/masks/b.txt": b"two"}


def write_zip(path: Path, files: dict[str, bytes], *, method: int = zipfile.ZIP_DEFLATED) -> Path:
    """Write a zip with the members named exactly as given."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, compress_type=method)
    return path


def write_tar(path: Path, files: dict[str, bytes]) -> Path:
    """Write a tar; the suffix says how it is compressed."""
    kind = {".gz": "gz", ".tgz": "gz", ".bz2": "bz2", ".xz": "xz"}.get(path.suffix, "")
    with tarfile.open(path, f"w:{kind}") as archive:
        for name, content in files.items():
            _add(archive, tarfile.TarInfo(name), content)
    return path


def _add(archive: tarfile.TarFile, member: tarfile.TarInfo, content: bytes = b"") -> None:
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def tar_with(path: Path, member: tarfile.TarInfo, *more: tarfile.TarInfo) -> Path:
    """Write a tar with an honest file, then the given headers, each with three bytes if it is a file."""
    with tarfile.open(path, "w:gz") as archive:
        _add(archive, tarfile.TarInfo("good.txt"), b"good")
        for item in (member, *more):
            _add(archive, item, b"bad" if item.isreg() else b"")
    return path


def tar_member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    """Return a header of any type."""
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def zip_with(path: Path, names: Sequence[str], *, mode: int = 0, flags: int = 0) -> Path:
    """Write a zip with an honest file, then members of the given names, file mode and flag bits."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("good.txt", b"good")
        for name in names:
            member = zipfile.ZipInfo(name)
            member.external_attr = mode << 16
            archive.writestr(member, b"/etc/passwd")
    if flags:
        content = path.read_bytes()
        place = content.rindex(b"PK\x01\x02") + 8
        path.write_bytes(content[:place] + struct.pack("<H", flags) + content[place + 2 :])
    return path


def lying_zip(path: Path, *, declared: int, content: bytes) -> Path:
    """Write a zip whose directory declares another size than its one member unpacks to."""
    write_zip(path, {"liar.bin": content})
    data = path.read_bytes()
    return _replace_last(path, data, struct.pack("<I", len(content)), struct.pack("<I", declared))


def _replace_last(path: Path, data: bytes, old: bytes, new: bytes) -> Path:
    place = data.rindex(b"PK\x01\x02")
    at = data.index(old, place)
    path.write_bytes(data[:at] + new + data[at + len(old) :])
    return path


def overlapping_zip(path: Path, *, members: int, size: int) -> Path:
    """Write a zip whose members all share one compressed stream of zeros: small on disk, large unpacked."""
    packed = zlib.compressobj(9, zlib.DEFLATED, -15)
    stream = packed.compress(bytes(size)) + packed.flush()
    crc = zlib.crc32(bytes(size))
    name = b"0000"
    local = struct.pack("<4sHHHHHIIIHH", b"PK\x03\x04", 20, 0, 8, 0, 33, crc, len(stream), size, len(name), 0)
    body = local + name + stream
    directory = b""
    for number in range(members):
        entry = f"{number:04d}".encode()
        sizes = (crc, len(stream), size, len(entry))
        directory += struct.pack("<4sHHHHHHIIIHHHHHII", b"PK\x01\x02", 20, 20, 0, 8, 0, 33, *sizes, 0, 0, 0, 0, 0, 0)
        directory += entry
    end = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, members, members, len(directory), len(body), 0)
    path.write_bytes(body + directory + end)
    return path


def bomb_tar(path: Path, *, size: int, declared: int | None = None) -> Path:
    """Write a tar.gz with one file of zeros, from repeated gzip members, so that making it costs next to nothing."""
    member = tarfile.TarInfo("zeros.bin")
    member.size = size if declared is None else declared
    piece = 1 << 22
    packed = gzip.compress(bytes(piece), 9, mtime=0)
    with path.open("wb") as stream:
        stream.write(gzip.compress(member.tobuf(), mtime=0))
        for _ in range(size // piece):
            stream.write(packed)
    return path


def huge_header_tar(path: Path, *, size: int) -> Path:
    """Write a tar.gz whose first header announces a name of ``size`` bytes."""
    member = tarfile.TarInfo("././@LongLink")
    member.type, member.size = tarfile.GNUTYPE_LONGNAME, size
    piece = 1 << 22
    packed = gzip.compress(b"a" * piece, 9, mtime=0)
    with path.open("wb") as stream:
        stream.write(gzip.compress(member.tobuf(tarfile.GNU_FORMAT), mtime=0))
        for _ in range(size // piece):
            stream.write(packed)
    return path
