"""The case table: what the manifest says comes back as it was, and a table of other cases is refused."""

from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.data.cases import Case
from medseg.errors import ScoreError
from medseg.stats.case_table import case_table, check_case_table, read_case_table, write_case_table

CELLS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=12)


def a_case(name: str = "007", patient: str = "NA", domain: str = "", **attributes: str) -> Case:
    return Case(name, patient, (None,), domain=domain, attributes=attributes)


def test_columns_are_the_three_then_the_attributes_as_they_appear(tmp_path: Path) -> None:
    cases = [a_case("007", label="benign"), a_case("1e5", "0012", "site A", tirads="4", label="NaN")]
    frame = case_table(cases)
    assert list(frame.columns) == ["case", "patient", "domain", "label", "tirads"]
    write_case_table(frame, tmp_path / "cases.csv")
    back = read_case_table(tmp_path / "cases.csv")
    assert back.to_dict("records") == [
        {"case": "007", "patient": "NA", "domain": "", "label": "benign", "tirads": ""},
        {"case": "1e5", "patient": "0012", "domain": "site A", "label": "NaN", "tirads": "4"},
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["cases.csv"]


@settings(max_examples=50, deadline=None)
@given(texts=st.lists(CELLS, min_size=1, max_size=6))
def test_any_text_comes_back_but_for_its_white_space(
    texts: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("t") / "cases.csv"
    write_case_table(case_table([a_case(f"c{i}", note=text) for i, text in enumerate(texts)]), path)
    assert read_case_table(path)["note"].tolist() == [" ".join(text.split()) for text in texts]


def test_an_attribute_called_like_a_column_of_ours_gets_another_name() -> None:
    frame = case_table([Case("a", "p", (None,), attributes={"patient": "theirs", "case": "x"})])
    assert frame.iloc[0].to_dict() == {
        "case": "a", "patient": "p", "domain": "", "source_patient": "theirs", "source_case": "x",
    }  # fmt: skip
    with pytest.raises(ScoreError, match="column 'source_case'"):
        case_table([Case("a", "p", (None,), attributes={"source_case": "y", "case": "x"})])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "columns"),
        ("case,patient,domain\n", "no rows"),
        ("case,domain,patient\na,b,c\n", "must come first"),
        ("case,patient,domain,x,x\na,b,c,d,e\n", "stand once"),
        ("case,patient,domain\na,b\n", "line 2: 2 fields under 3 columns"),
        ("case,patient,domain\na,,\n", "'patient' has an empty cell"),
        ("case,patient,domain\na,p,\na,p,\n", "case 'a' stands twice"),
        ('case,patient,domain\n"a,p,\n', "cannot read"),
    ],
)
def test_a_damaged_table_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "cases.csv"
    path.write_text(text)
    with pytest.raises(ScoreError, match=message) as refused:
        read_case_table(path)
    assert "cases.csv" in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


def test_a_missing_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ScoreError, match="medseg evaluate"):
        read_case_table(tmp_path / "cases.csv")


def test_cases_twice_are_refused() -> None:
    with pytest.raises(ScoreError, match="'007' stands twice"):
        case_table([a_case(), a_case()])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"case": "z"}, "scored case 'a' is missing"),
        ({"patient": "q"}, "case 'a' has patient 'q', in the score table 'p'"),
        ({"domain": "d"}, "case 'a' has domain 'd'"),
    ],
)
def test_the_table_of_other_cases_is_refused(change: dict[str, str], message: str) -> None:
    scored = pd.DataFrame({"case": ["a", "a", "b"], "patient": ["p", "p", "r"], "domain": ["", "", ""]})
    rows = [{"case": "b", "patient": "r", "domain": ""}, {"case": "a", "patient": "p", "domain": ""}]
    check_case_table(pd.DataFrame([*rows, {"case": "more", "patient": "m", "domain": ""}]), scored, source="x")
    with pytest.raises(ScoreError, match=message):
        check_case_table(pd.DataFrame([rows[0], {**rows[1], **change}]), scored, source="x")
