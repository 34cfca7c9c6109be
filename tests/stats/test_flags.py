"""The words of the flags: one spelling in comparisons, pages and pictures."""

import pytest

from medseg.report.html.material import run_flags
from medseg.stats.flags import FLAGS, flags_of


@pytest.mark.parametrize(
    ("synthetic", "leaky", "words"),
    [
        (False, False, ()),
        (True, False, ("SYNTHETIC",)),
        (False, True, ("LEAKY SPLIT",)),
        (True, True, ("SYNTHETIC", "LEAKY SPLIT")),
    ],
)
def test_images_and_split_have_their_words_in_the_order_of_all_flags(
    synthetic: bool, leaky: bool, words: tuple[str, ...]
) -> None:
    assert flags_of(synthetic=synthetic, leaky=leaky) == words
    assert tuple(flag for flag in FLAGS if flag in words) == words
    record = {"data": {"synthetic": synthetic}, "split": {"leaky": leaky}}
    clean = {"data": {"synthetic": False}, "split": {"leaky": False}}
    assert run_flags(iter([clean, record])) == words
