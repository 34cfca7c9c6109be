"""The documentation as pages: every ``docs/*.md`` and a preview of each dataset that is on this machine.

    python docs/build.py [--output outputs/docs] [--data NAME ...]

Previews show dataset images, so the pages lie below ``outputs/`` and are never committed.
"""

import argparse
import html
import os
import shutil
import sys
from pathlib import Path

from markdown_it import MarkdownIt

from medseg.cli import main as medseg
from medseg.commands.datasets.known import Known, files, read

HERE = Path(__file__).resolve().parent
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
pre, code { background: #f4f4f4 } pre { padding: .6rem; overflow-x: auto }
table { border-collapse: collapse; display: block; overflow-x: auto }
td, th { border: 1px solid #ccc; padding: .2rem .6rem; text-align: left }
img { max-width: 100% } nav a { margin-right: 1rem }
"""
PREVIEW = ("view=default", "augment=light", "samples=4", "hydra.verbose=false")


def write_page(path: Path, title: str, body: str, names: list[str]) -> None:
    """Write one page with links to all of them."""
    links = " ".join(f'<a href="{name}.html">{name}</a>' for name in names)
    head = f'<!doctype html><meta charset="utf-8"><title>medseg: {html.escape(title)}</title><style>{STYLE}</style>'
    viewport = '<meta name="viewport" content="width=device-width, initial-scale=1">'
    path.write_text(f"{head}{viewport}<nav>{links}</nav>{body}", encoding="utf-8")


def preview(name: str, output: Path) -> str:
    """Draw a dataset's preview and return the picture's file name, or "" after a failure, which is printed."""
    if medseg(["data", "preview", f"data={name}", *PREVIEW]) != 0:
        return ""
    made = Path(os.environ.get("MEDSEG_OUTPUTS", "outputs")) / "data" / name / "preview.png"
    shutil.copy(made, output / f"{name}.png")
    return f"{name}.png"


def dataset_section(dataset: Known, picture: str) -> str:
    """Return what a reader wants to know of one dataset."""
    card, about = dataset.card, dataset.about
    rows = {
        "classes": ", ".join(map(str, card.get("classes", []))),
        "cases": about.get("expected", {}).get("cases") or "not stated",
        "official split": about.get("official_split") or "none",
        "licence": card.get("licence") or "not stated",
        "citation": card.get("citation") or "none",
        "access": about.get("access") or "your own",
    }
    cells = "".join(f"<tr><th>{key}</th><td>{html.escape(str(value))}</td></tr>" for key, value in rows.items())
    shown = f'<p><img src="{picture}" alt="training samples of {dataset.name}"></p>' if picture else ""
    title = html.escape(str(about.get("title", dataset.name)))
    return f'<h2 id="{dataset.name}">{dataset.name}</h2><p>{title}</p><table>{cells}</table>{shown}'


def build(output: Path, wanted: list[str] | None) -> list[str]:
    """Write all pages and return the datasets whose preview failed."""
    output.mkdir(parents=True, exist_ok=True)
    pages = sorted(HERE.glob("*.md"))
    names = [*(page.stem for page in pages), "datasets"]
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    for page in pages:
        write_page(output / f"{page.stem}.html", page.stem, markdown.render(page.read_text("utf-8")), names)
    failed, sections = [], []
    options = files()
    for dataset in (read(name, options) for name in options):
        here = dataset.present or dataset.synthetic
        picture = preview(dataset.name, output) if here and (wanted is None or dataset.name in wanted) else ""
        if here and not picture and (wanted is None or dataset.name in wanted):
            failed.append(dataset.name)
        sections.append(dataset_section(dataset, picture))
    write_page(output / "datasets.html", "datasets", "<h1>Datasets</h1>" + "".join(sections), names)
    return failed


def main() -> int:
    """Build the pages and say where they are."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("outputs/docs"))
    parser.add_argument("--data", nargs="*", help="previews of these datasets only; without it, of all that are here")
    given = parser.parse_args()
    failed = build(given.output, given.data)
    print(f"{given.output / 'datasets.html'} and its neighbours" + (f"; no preview of {failed}" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
