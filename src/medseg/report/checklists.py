"""Checklists of reporting guidelines, filled in as far as a run's folder answers them, and no further.

What the folder does not hold is left "to be answered by the authors". The items are in ``checklist_items``, the facts
in ``facts_data``, ``facts_model`` and ``facts_use``.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from medseg.report import checklist_items
from medseg.report.checklist_items import Question
from medseg.report.facts_use import FACTS
from medseg.report.run_facts import Fact, RunFacts
from medseg.report.tables import Cell, Table

Facts = Mapping[str, Fact | None]
OPEN = "to be answered by the authors"


@dataclass(frozen=True)
class Item:
    """A question and what the run says to it.

    Attributes:
        number: in the published list.
        topic: in our words.
        fact: the answer and where it was found; None leaves it to the authors.
        left: what the authors add to an answer.
    """

    number: str
    topic: str
    fact: Fact | None
    left: str = ""

    @property
    def answer(self) -> str:
        """What is printed: the fact, and what is still open."""
        if self.fact is None:
            return f"{OPEN}: {self.left}" if self.left else OPEN
        return f"{self.fact.text} ({OPEN}: {self.left})" if self.left else self.fact.text

    @property
    def where(self) -> str:
        """File and key of the answer; empty without one."""
        return self.fact.where if self.fact else ""


@dataclass(frozen=True)
class Checklist:
    """One list about one run.

    Attributes:
        name: short name.
        title: one line.
        source: the published list.
        items: in its order.
    """

    name: str
    title: str
    source: str
    items: tuple[Item, ...]

    @property
    def answered(self) -> int:
        """How many items have an answer from the run, whole or in part."""
        return sum(item.fact is not None for item in self.items)

    @property
    def table(self) -> Table:
        """The list as a table; its writers are those of ``medseg.report.tables``."""
        return Table(
            name=self.name,
            title=self.title,
            columns=tuple(Cell(name) for name in ("Item", "Asks about", "Answer", "Found in")),
            rows=tuple(
                (Cell(item.number), Cell(item.topic), Cell(item.answer), Cell(item.where)) for item in self.items
            ),
            caption=(
                f"{self.answered} of {len(self.items)} items are answered from the run, whole or in part.",
                f"Numbers after {self.source}.",
                "The topics are our own short words: submit with the official form.",
            ),
        )


def claim(run: RunFacts) -> Checklist:
    """Return the CLAIM list of 2024 for a run."""
    return _claim(run, _facts(run, checklist_items.CLAIM))


def tripod_ai(run: RunFacts) -> Checklist:
    """Return the items of TRIPOD+AI for a run."""
    return _tripod_ai(run, _facts(run, checklist_items.TRIPOD_AI))


def miccai(run: RunFacts) -> Checklist:
    """Return the MICCAI reproducibility list for a run."""
    return _miccai(run, _facts(run, checklist_items.MICCAI))


def checklists(run: RunFacts) -> tuple[Checklist, ...]:
    """Return all lists for a run; each fact is computed once."""
    facts = _facts(run, [*checklist_items.CLAIM, *checklist_items.TRIPOD_AI, *checklist_items.MICCAI])
    return _claim(run, facts), _tripod_ai(run, facts), _miccai(run, facts)


def _claim(run: RunFacts, facts: Facts) -> Checklist:
    items = _filled(checklist_items.CLAIM, facts)
    return Checklist("claim", f"CLAIM 2024: {_name(run)}", checklist_items.CLAIM_SOURCE, items)


def _tripod_ai(run: RunFacts, facts: Facts) -> Checklist:
    items = _filled(checklist_items.TRIPOD_AI, facts)
    return Checklist("tripod_ai", f"TRIPOD+AI: {_name(run)}", checklist_items.TRIPOD_SOURCE, items)


def _miccai(run: RunFacts, facts: Facts) -> Checklist:
    items = _filled(checklist_items.MICCAI, facts)
    return Checklist("miccai", f"MICCAI reproducibility: {_name(run)}", checklist_items.MICCAI_SOURCE, items)


def _name(run: RunFacts) -> str:
    return str(run.get("name") or run.folder.name)


def _facts(run: RunFacts, questions: Iterable[Question]) -> Facts:
    return {name: FACTS[name](run) for name in sorted({question.answer for question in questions if question.answer})}


def _filled(questions: Sequence[Question], facts: Facts) -> tuple[Item, ...]:
    return tuple(Item(one.number, one.topic, facts.get(one.answer), one.left) for one in questions)
