"""Archives: what is honest comes out whole, what is hostile is refused in one line and leaves nothing."""

import io
import os
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from fake_archives import (
    FILES,
    bomb_tar,
    huge_header_tar,
    lying_zip,
    overlapping_zip,
    tar_member,
    tar_with,
    write_tar,
    write_zip,
    zip_with,
)
from medseg.data.prepare.archives import is_archive, opened, single
from medseg.data.prepare.unpacked import Budget, Limits, Writer
from medseg.errors import DataError

SMALL = Limits(members=1000, size=50_000_000, ratio=200, harmless=1_000_000)


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A folder whose scratch folder can be looked at, above which nothing may appear."""
    scratch = tmp_path / "outer" / "scratch"
    scratch.mkdir(parents=True)
    monkeypatch.setenv("TMPDIR", str(scratch))
    return tmp_path


def refused(archive: Path, *, limits: Limits = SMALL) -> str:
    scratch = archive.parent / "outer" / "scratch"
    before = sorted(archive.parent.rglob("*"))
    with pytest.raises(DataError) as caught, opened(archive, limits=limits, scratch=scratch):
        pytest.fail("the archive was opened")
    assert sorted(archive.parent.rglob("*")) == before, "something was left behind"
    assert "\n" not in str(caught.value)
    assert str(archive) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.tgz", "a.tar.bz2", "a.tar.xz", "数据 é.zip"])
def test_an_archive_is_a_folder_for_a_while(name, place):
    archive = (write_zip if name.endswith("zip") else write_tar)(place / name, FILES)
    with opened(archive) as folder:
        assert content(folder) == FILES
        assert single(folder).name == "set"
    assert not folder.exists()
    assert is_archive(archive)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_every_compression_of_zip_is_read(method, place):
    with opened(write_zip(place / "a.zip", FILES, method=method)) as folder:
        assert content(folder) == FILES


def test_a_folder_is_used_as_it_is(place):
    (place / "set").mkdir()
    (place / "set" / "a.txt").write_text("one")
    with opened(place) as folder:
        assert folder == place
    assert (place / "set" / "a.txt").exists()


def test_the_folder_is_removed_also_when_what_is_done_with_it_fails(place):
    archive = write_zip(place / "a.zip", FILES)
    with pytest.raises(KeyError), opened(archive, scratch=place / "outer") as folder:
        raise KeyError
    assert not folder.exists()


def test_archives_in_an_archive_are_unpacked_into_folders_of_their_names(place):
    inner = write_tar(place / "Task01.tar", FILES)
    more = write_zip(place / "more.zip", {"deep.tar": inner.read_bytes()})
    with opened(
        write_zip(place / "all.zip", {"x/Task01.tar": inner.read_bytes(), "y.zip": more.read_bytes()})
    ) as folder:
        assert set(content(folder)) == {
            "x/Task01/set/images/a.txt", "x/Task01/set/masks/b.txt",
            "y/deep/set/images/a.txt", "y/deep/set/masks/b.txt",
        }  # fmt: skip


def test_a_folder_of_nothing_but_archives_is_unpacked_and_what_lies_beside_is_kept(place):
    parts = place / "parts"
    parts.mkdir()
    write_zip(parts / "images.zip", {"a.txt": b"one"})
    write_tar(parts / "masks.tar.gz", {"a.txt": b"two"})
    (parts / "list.csv").write_bytes(b"a,b")
    with opened(parts, scratch=place / "outer" / "scratch") as folder:
        assert content(folder) == {"images/a.txt": b"one", "masks/a.txt": b"two", "list.csv": b"a,b"}
    assert sorted(path.name for path in parts.iterdir()) == ["images.zip", "list.csv", "masks.tar.gz"]


def test_clutter_of_operating_systems_is_left_out_and_windows_separators_are_understood(place):
    files = {"__MACOSX/set/._a.txt": b"x", "set/.DS_Store": b"x", "set/._a.txt": b"x", "set\\a.txt": b"one"}
    with opened(write_zip(place / "a.zip", files)) as folder:
        assert content(folder) == {"set/a.txt": b"one"}


def test_no_file_comes_out_executable(place):
    member = tar_member("run.sh")
    member.mode = 0o7777
    with opened(tar_with(place / "a.tar.gz", member)) as folder:
        assert not stat.S_IMODE((folder / "run.sh").stat().st_mode) & 0o7111


LEAVING = ["../x", "a/../../x", "a/..", "..\\x", "a\\..\\..\\x"]
ABSOLUTE = ["/etc/x", "//host/x", "C:\\x", "c:/x", "\\\\host\\share\\x"]


@pytest.mark.parametrize("name", LEAVING)
def test_names_that_leave_the_folder_are_refused(name, place):
    assert "leaves the folder" in refused(zip_with(place / "a.zip", [name]))
    assert "leaves the folder" in refused(tar_with(place / "a.tar.gz", tar_member(name)))


@pytest.mark.parametrize("name", ABSOLUTE)
def test_absolute_names_and_drives_are_refused(name, place):
    assert "absolute path" in refused(zip_with(place / "a.zip", [name]))
    assert "absolute path" in refused(tar_with(place / "a.tar.gz", tar_member(name)))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE,
                                  tarfile.CONTTYPE, b"Z"])  # fmt: skip
def test_links_devices_and_strange_members_of_a_tar_are_refused(kind, place):
    member = tar_member("a", kind, "good.txt")
    assert "no plain file" in refused(tar_with(place / "a.tar.gz", member))


def test_a_link_followed_by_a_file_through_it_writes_nothing_outside(place):
    outside = place / "outside"
    outside.mkdir()
    archive = tar_with(place / "a.tar.gz", tar_member("d", tarfile.SYMTYPE, str(outside)), tar_member("d/x"))
    refused(archive)
    assert list(outside.iterdir()) == []


def test_sparse_members_are_refused(place):
    member = tar_member("a")
    member.pax_headers = {"GNU.sparse.map": "0,0", "GNU.sparse.size": "9", "GNU.sparse.numblocks": "1"}
    path = place / "a.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(member)
    assert "no plain file" in refused(path)


@pytest.mark.parametrize("mode", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK])
def test_links_and_devices_of_a_zip_are_refused(mode, place):
    assert "link or a device" in refused(zip_with(place / "a.zip", ["a"], mode=mode | 0o777))


def test_encrypted_members_are_refused(place):
    assert "encrypted" in refused(zip_with(place / "a.zip", ["a"], flags=1))


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("names", [["a", "a"], ["d/a", "d//a"], ["a", "./a"], ["d/a", "d\\a"]])
def test_a_name_that_occurs_twice_is_refused(names, place):
    assert "occurs twice" in refused(zip_with(place / "a.zip", names))
    assert "occurs twice" in refused(tar_with(place / "a.tar.gz", *map(tar_member, names)))


def test_a_file_that_is_also_a_folder_is_refused(place):
    assert "a file and a folder" in refused(zip_with(place / "a.zip", ["a", "a/b"]))
    assert "occurs twice" in refused(zip_with(place / "a.zip", ["a/b", "a"]))


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[2Jb", "a\x7fb"])
def test_unprintable_names_are_refused(name, place):
    message = refused(tar_with(place / "a.tar.gz", tar_member(name)))
    assert "unprintable" in message
    assert message.isprintable()


def test_names_that_are_no_unicode_are_refused(place):
    assert "unprintable" in refused(tar_with(place / "a.tar.gz", tar_member(os.fsdecode(b"a\xff"))))


def test_folders_within_folders_without_end_are_refused(place):
    assert "folders deep" in refused(zip_with(place / "a.zip", ["d/" * 40 + "a"]))


def test_too_many_members_are_refused(place):
    files = {f"{number}.txt": b"" for number in range(301)}
    for archive in (write_zip(place / "a.zip", files), write_tar(place / "a.tar.gz", files)):
        assert "more than 300 members" in refused(archive, limits=Limits(members=300))


def test_folders_count_as_members(place):
    assert "more than 3 members" in refused(write_zip(place / "a.zip", {f"{n}/": b"" for n in range(4)}),
                                            limits=Limits(members=3))  # fmt: skip


def test_the_limits_that_hold_by_default():
    limits = Limits()
    assert limits.members < 1_000_000
    assert limits.ratio * 10_000_000 < 10 * 10**9, "ten gigabytes out of ten megabytes are a bomb"


def test_a_bomb_of_ten_gigabytes_is_refused_by_its_header(place, monkeypatch):
    monkeypatch.setattr("medseg.data.prepare.unpacked.Writer.fill", lambda *_, **__: pytest.fail("it was written"))
    archive = bomb_tar(place / "bomb.tar.gz", size=10 * 2**30)
    assert archive.stat().st_size < 20_000_000
    assert "times its size, as bombs do" in refused(archive, limits=Limits())


def test_a_member_that_turns_out_larger_than_its_header_is_refused_while_it_is_written(place):
    budget = Budget(place / "a.zip", packed=1000, limits=SMALL)
    writer = Writer(place, budget)
    path = writer.file("zeros", 5)
    with pytest.raises(DataError, match="times its size"):
        writer.fill(path, io.BytesIO(bytes(60_000_000)))
    assert path.stat().st_size <= 2_000_000
    budget = Budget(place / "a.zip", packed=10**9, limits=SMALL)
    with pytest.raises(DataError, match="more than 50,000,000 bytes"):
        Writer(place, budget).fill(place / "more", io.BytesIO(bytes(60_000_000)))


def test_the_total_size_is_limited_whatever_the_ratio(place):
    packed = write_zip(place / "a.zip", {"zeros": bytes(5_000_000)})
    assert "times its size" in refused(packed)
    assert "more than 1,000,000 bytes" in refused(packed, limits=Limits(size=1_000_000))


def test_many_harmless_members_that_are_a_bomb_together_are_refused(place):
    assert "times its size" in refused(write_zip(place / "a.zip", {f"{n}": bytes(200_000) for n in range(20)}))


def test_a_bomb_inside_an_archive_is_judged_by_the_outer_size(place):
    inner = write_zip(place / "inner.zip", {"zeros": bytes(5_000_000)})
    outer = write_zip(place / "outer.zip", {"inner.zip": inner.read_bytes(), "more.zip": inner.read_bytes()})
    assert "times its size" in refused(outer)


def test_archives_nested_without_end_are_refused(place):
    data = write_zip(place / "0.zip", FILES).read_bytes()
    for level in range(1, 5):
        data = write_zip(place / f"{level}.zip", {"in.zip": data}).read_bytes()
    assert "archive in an archive" in refused(place / "4.zip")


def test_members_that_share_their_bytes_are_refused(place):
    refused(overlapping_zip(place / "a.zip", members=50, size=900_000))


@pytest.mark.parametrize("declared", [10, 3_000_000])
def test_a_directory_that_lies_about_sizes_is_refused(declared, place):
    refused(lying_zip(place / "a.zip", declared=declared, content=bytes(range(256)) * 100))


def test_a_header_that_would_fill_the_memory_is_refused(place):
    assert "a header of" in refused(huge_header_tar(place / "a.tar.gz", size=64 << 20))


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.tar.bz2", "a.tar.xz"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.85])
def test_a_cut_archive_is_refused(name, share, place):
    files = {f"{number}": os.urandom(3000) for number in range(20)}
    archive = (write_zip if name.endswith("zip") else write_tar)(place / name, files)
    archive.write_bytes(archive.read_bytes()[: int(archive.stat().st_size * share)])
    refused(archive)


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz", "a.tar.xz"])
def test_an_archive_with_a_flipped_byte_is_refused(name, place):
    archive = (write_zip if name.endswith("zip") else write_tar)(place / name, {"a": os.urandom(5000)})
    data = bytearray(archive.read_bytes())
    data[len(data) // 2] ^= 1
    archive.write_bytes(bytes(data))
    refused(archive)


def test_a_tar_cut_between_two_members_is_refused(place):
    archive = write_tar(place / "a.tar", FILES)
    archive.write_bytes(archive.read_bytes()[:1024])
    assert "its end is missing" in refused(archive)


@pytest.mark.parametrize("data", [b"<!DOCTYPE html><html>sign in</html>", b"", b"Rar!\x1a\x07\x00"])
def test_what_is_no_archive_is_named(data, place):
    path = place / "a.zip"
    path.write_bytes(data)
    assert "no zip or tar archive" in refused(path)


def test_a_missing_source_is_named(place):
    with pytest.raises(DataError, match="source does not exist"), opened(place / "none.zip"):
        pass


def test_a_full_disk_leaves_nothing(place, monkeypatch):
    archive = write_zip(place / "a.zip", FILES)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("medseg.data.prepare.unpacked.Writer.fill", full)
    assert "No space left on device" in refused(archive)
