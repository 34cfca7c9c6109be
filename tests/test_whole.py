"""A file is there whole, or what was there before."""

import threading
from pathlib import Path

import pytest

from medseg.whole import whole_file, write_whole


@pytest.mark.parametrize("durable", [True, False])
def test_the_file_appears_at_the_end_with_its_ending_while_it_is_written(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "deep" / "picture.png"
    with whole_file(path, durable=durable) as partial:
        assert partial.suffix == ".png"
        partial.write_bytes(b"half")
        assert not path.exists()
    assert path.read_bytes() == b"half"
    assert list(path.parent.iterdir()) == [path]


def test_a_failure_leaves_what_was_there_and_no_rest(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    write_whole(path, "old\n")
    with pytest.raises(KeyError), whole_file(path) as partial:
        partial.write_text("half")
        raise KeyError
    assert path.read_text() == "old\n"
    assert list(tmp_path.iterdir()) == [path]


def test_line_ends_are_plain_and_threads_do_not_share_a_path(tmp_path: Path) -> None:
    path = tmp_path / "text.md"
    texts = [f"{number}\n" * 2000 for number in range(8)]
    threads = [threading.Thread(target=write_whole, args=(path, text)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes().decode() in texts
    assert list(tmp_path.iterdir()) == [path]
