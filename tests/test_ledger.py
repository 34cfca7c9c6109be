"""The ledger: nothing is lost when processes crowd, and nothing is changed unseen."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg import __version__, chain, ledger
from medseg.cli import VERBS, main
from medseg.errors import RunError

RECORD = {"key": "k1", "study": "s", "data": {"name": "ddti"}, "split": {"hash": "a" * 64}}
WRITER = """
import sys
from medseg import ledger
record = {"key": sys.argv[2], "study": None, "data": {"name": "ddti"}, "split": {"hash": "a" * 64}}
for _ in range(int(sys.argv[3])):
    ledger.append(sys.argv[1], ledger.access("evaluate", [record]))
"""


def a_record(key: str = "k1", *, split: str = "a", study: str | None = "s") -> dict[str, Any]:
    return {**RECORD, "key": key, "study": study, "split": {"hash": split * 64}}


def a_ledger(folder: Path, entries: int = 5) -> Path:
    path = ledger.path_in(folder)
    for number in range(entries):
        ledger.append(path, ledger.access("evaluate", [a_record(f"k{number}")]))
    return path


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def test_each_line_has_what_was_read_when_by_what_and_the_hash_of_the_line_before(tmp_path: Path) -> None:
    path = a_ledger(tmp_path / "new" / "outputs", 3)
    lines = lines_of(path)
    entries = [json.loads(line) for line in lines]
    assert entries == ledger.read(path)
    assert [entry["line"] for entry in entries] == [1, 2, 3]
    assert [entry["previous"] for entry in entries[1:]] == [hashlib.sha256(line[:-1]).hexdigest() for line in lines[:2]]
    assert entries[0]["previous"] == "0" * 64
    assert entries[0]["when"].endswith("+00:00")
    assert entries[0]["version"] == __version__
    known = {"action": "evaluate", "side": "test", "runs": ["k0"], "study": ["s"], "dataset": ["ddti"]}
    assert {name: entries[0][name] for name in known} == known
    assert entries[0]["split"] == ["a" * 64]
    assert ledger.verify(path) == chain.Chain(3, True, None)


def test_several_processes_at_once_lose_and_break_nothing(tmp_path: Path) -> None:
    path = ledger.path_in(tmp_path)
    started = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), f"k{i}", "6"]) for i in range(3)]
    assert [process.wait(timeout=120) for process in started] == [0, 0, 0]
    assert ledger.verify(path) == chain.Chain(18, True, None)
    keys = [entry["runs"][0] for entry in ledger.read(path)]
    assert sorted(keys) == ["k0"] * 6 + ["k1"] * 6 + ["k2"] * 6


def edited(lines: list[bytes], place: int) -> list[bytes]:
    return [*lines[:place], lines[place].replace(b'"evaluate"', b'"report"'), *lines[place + 1 :]]


def rehashed(lines: list[bytes], place: int) -> list[bytes]:
    entry = json.loads(lines[place]) | {"action": "report"}
    bare = {name: value for name, value in entry.items() if name != "hash"}
    line = chain.encoded({**bare, "hash": chain.sha256(chain.encoded(bare))}) + b"\n"
    return [*lines[:place], line, *lines[place + 1 :]]


def removed(lines: list[bytes], place: int) -> list[bytes]:
    return [*lines[:place], *lines[place + 1 :]]


def inserted(lines: list[bytes], place: int) -> list[bytes]:
    return [*lines[:place], lines[place], *lines[place:]]


def moved(lines: list[bytes], place: int) -> list[bytes]:
    other = (place + 1) % len(lines)
    swapped = list(lines)
    swapped[place], swapped[other] = lines[other], lines[place]
    return swapped


def blanked(lines: list[bytes], place: int) -> list[bytes]:
    return [*lines[:place], b"\n", *lines[place + 1 :]]


@pytest.mark.parametrize("change", [edited, rehashed, removed, inserted, moved, blanked])
@pytest.mark.parametrize("place", [0, 2, 4], ids=["first", "middle", "last"])
def test_a_line_changed_by_hand_is_found_at_its_place_or_the_next(tmp_path: Path, change: Any, place: int) -> None:
    path = a_ledger(tmp_path)
    path.write_bytes(b"".join(change(lines_of(path), place)))
    found = ledger.verify(path)
    assert not found.intact
    near = {place + 1, place + 2} | ({1} if change is moved and place == 4 else set())
    assert found.broken_line in near
    assert "CHAIN BROKEN at line" in ledger.summary(path)[-1]


@pytest.mark.parametrize("change", [edited, rehashed, removed, inserted, moved])
def test_later_entries_do_not_hide_a_change(tmp_path: Path, change: Any) -> None:
    path = a_ledger(tmp_path)
    path.write_bytes(b"".join(change(lines_of(path), 4)))
    for _ in range(3):
        ledger.append(path, ledger.access("report", [a_record()]))
    found = ledger.verify(path)
    assert not found.intact
    assert [entry["runs"] for entry in ledger.read(path)[-3:]] == [["k1"]] * 3


def test_a_removed_ledger_is_missed_and_said_to_have_been(tmp_path: Path) -> None:
    path = a_ledger(tmp_path)
    path.unlink()
    assert ledger.verify(path) == chain.Chain(0, False, 1, "lines up to 5 were written and are gone")
    ledger.append(path, ledger.access("report", [a_record()]))
    assert [entry["action"] for entry in ledger.read(path)] == ["break", "report"]
    assert ledger.verify(path).broken_line == 1


def test_a_damaged_head_is_no_head(tmp_path: Path) -> None:
    path = a_ledger(tmp_path)
    Path(f"{path}.head").write_text('{"line": ')
    assert not ledger.verify(path).intact


@pytest.mark.parametrize("kept", [1, 40])
def test_a_torn_last_line_is_found_and_repaired_by_an_entry_that_says_so(tmp_path: Path, kept: int) -> None:
    path = a_ledger(tmp_path, 3)
    torn = lines_of(path)[0][:kept]
    with path.open("ab") as file:
        file.write(torn)
    found = ledger.verify(path)
    assert (found.intact, found.broken_line) == (False, 4)
    assert "torn" in found.reason
    ledger.append(path, ledger.access("report", [a_record()]))
    assert lines_of(path)[3] == torn + b"\n", "what a kill left stays as it is"
    actions = [entry["action"] for entry in ledger.read(path)]
    assert actions == ["evaluate", "evaluate", "evaluate", "repair", "report"]
    repair = ledger.read(path)[3]
    assert (repair["torn_line"], repair["torn_bytes"]) == (4, kept)
    assert repair["previous"] == hashlib.sha256(torn).hexdigest()
    assert ledger.verify(path) == chain.Chain(5, True, None)
    path.write_bytes(path.read_bytes().replace(torn + b"\n", torn + b" \n"))
    assert not ledger.verify(path).intact, "nor may it be changed later"


def test_a_whole_last_line_without_its_end_needs_no_repair(tmp_path: Path) -> None:
    path = a_ledger(tmp_path, 2)
    path.write_bytes(path.read_bytes()[:-1])
    assert ledger.verify(path).intact
    ledger.append(path, ledger.access("report", [a_record()]))
    assert [entry["action"] for entry in ledger.read(path)] == ["evaluate", "evaluate", "report"]
    assert ledger.verify(path).intact


def test_a_line_written_before_a_kill_could_note_it_in_the_head_is_no_break(tmp_path: Path) -> None:
    path = a_ledger(tmp_path, 2)
    head = Path(f"{path}.head").read_bytes()
    a_ledger(tmp_path, 1)
    Path(f"{path}.head").write_bytes(head)
    assert ledger.verify(path).intact


def test_a_line_that_was_not_torn_cannot_be_repaired_away(tmp_path: Path) -> None:
    path = a_ledger(tmp_path, 3)
    lines = [line[:-1] for line in lines_of(path)]
    lines[1] = b"rubbish"
    path.write_bytes(b"\n".join(lines) + b"\n")
    assert ledger.verify(path).broken_line == 2


def test_anchors_tell_lines_that_are_gone_even_if_file_and_head_agree(tmp_path: Path) -> None:
    path = a_ledger(tmp_path, 2)
    anchor = ledger.append(path, ledger.access("train-score", [a_record()]))
    assert ledger.strangers(path, {"run": anchor}) == []
    path.unlink()
    Path(f"{path}.head").unlink()
    a_ledger(tmp_path, 3)
    assert ledger.verify(path).intact
    assert ledger.strangers(path, {"run": anchor}) == ["run"]


@settings(max_examples=300, deadline=None)
@given(place=st.integers(0), bit=st.integers(0, 7))
def test_no_flipped_bit_goes_unseen(place: int, bit: int) -> None:
    lines: list[bytes] = []
    for key in ("k1", "k2", "k3"):
        lines.append(chain.link(ledger.access("evaluate", [a_record(key)]), lines))
    content = bytearray(b"".join(line + b"\n" for line in lines))
    anchor = {"line": 3, "sha256": chain.sha256(lines[-1])}
    assert chain.check(bytes(content), [anchor]).intact
    content[place % len(content)] ^= 1 << bit
    found = chain.check(bytes(content), [anchor])
    # The end of the last line is no part of it: whatever stands there instead makes the line another one.
    assert not found.intact


def test_the_summary_counts_every_access_to_a_split_whoever_made_it(tmp_path: Path) -> None:
    path = ledger.path_in(tmp_path)
    for action, record in (
        ("train-score", a_record("k1")),
        ("train-score", a_record("k2", study=None)),
        ("report", a_record("k1")),
        ("evaluate", a_record("k9", split="b", study="other")),
    ):
        ledger.append(path, ledger.access(action, [record]))
    ledger.append(path, ledger.access("evaluate", [a_record()], side="val"))
    lines = ledger.summary(path, study="s")
    assert len(lines) == 2
    assert "split aaaaaaaa (ddti): read 3 times (train-score 2, report 1) for 2 runs" in lines[0]
    assert lines[1] == "Ledger: 5 entries, chain intact."
    assert ledger.summary(path, key="k2") == lines
    assert "split bbbbbbbb" in ledger.summary(path)[1]
    assert ledger.summary(path, study="none")[0] == "Ledger of test accesses: none noted."


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({**ledger.access("report", [RECORD]), "action": "peek"}, "action 'peek' is unknown"),
        ({**ledger.access("report", [RECORD]), "runs": []}, "lacks \\['runs'\\]"),
        ({**ledger.access("report", [RECORD]), "previous": "0"}, "must not give \\['previous'\\]"),
    ],
)
def test_an_entry_that_says_too_little_or_too_much_is_refused(tmp_path: Path, entry: Any, message: str) -> None:
    with pytest.raises(RunError, match=message):
        ledger.append(ledger.path_in(tmp_path), entry)
    assert not ledger.path_in(tmp_path).exists()


def test_a_folder_that_cannot_be_written_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="cannot be noted"):
        ledger.append(tmp_path / "file" / "ledger.jsonl", ledger.access("report", [RECORD]))


def test_the_command_prints_the_entries_and_refuses_a_broken_chain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MEDSEG_OUTPUTS", str(tmp_path))
    monkeypatch.setitem(VERBS, "ledger", "print the ledger")
    path = a_ledger(tmp_path, 4)
    assert main(["ledger", "study=s", "last=3"]) == 0
    shown = capsys.readouterr().out
    assert "1 other entries are not shown." in shown
    assert "chain intact" in shown
    assert "read 4 times (evaluate 4)" in shown
    path.write_bytes(b"".join(edited(lines_of(path), 1)))
    assert main(["ledger"]) == 2
    out, err = capsys.readouterr()
    assert "CHAIN BROKEN at line 2" in out
    assert len(err.splitlines()) == 1
    assert "chain broken at line 2 (edited" in err
    assert main(["ledger", "last=0"]) == 2
