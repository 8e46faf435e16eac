"""A page PAGE.zh.md has the commands, headings and tables of PAGE.md, so that neither form falls behind unseen."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
FENCED = re.compile(r"^```(.*?)^```", re.S | re.M)


def code_of(page: str) -> list[str]:
    """The lines of a page's code, fenced or indented, without comments and the spaces before these."""
    lines = [line for block in FENCED.findall(page) for line in block.splitlines()]
    lines += re.findall(r"^    (.*)$", FENCED.sub("", page), re.M)
    return [line for line in (re.sub(r"(^|\s)#.*", "", line).rstrip() for line in lines) if line]


def form_of(page: str) -> dict[str, list]:
    text = FENCED.sub("", page)
    return {"headings": [len(marks) for marks in re.findall(r"^(#+) ", text, re.M)],
            "columns of table rows": [row.replace(r"\|", "").count("|") for row in re.findall(r"^\|.*", text, re.M)],
            "list items": re.findall(r"^(\*|\d+\.) ", text, re.M)}


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.zh.md")), ids=lambda page: page.name)
def test_a_chinese_page_has_the_code_and_the_form_of_the_english_one(page):
    english = page.with_name(page.name.replace(".zh", "")).read_text("utf-8")
    chinese = page.read_text("utf-8")
    assert code_of(chinese) == code_of(english)
    assert form_of(chinese) == form_of(english)
