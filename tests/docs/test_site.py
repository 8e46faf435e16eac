"""The site of docs/: mkdocs makes it without a warning, in both languages. CI installs mkdocs, others may not."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


def anchors_of(page: Path) -> set[str]:
    """The names by which links reach a page's headings: small letters, marks left out, hyphens for spaces."""
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.S | re.M)
    titles = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_links_within_the_site_lead_to_a_page_and_a_heading_of_it(page):
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8"))
    for link in (link for link in links if "://" not in link):
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        # What lies outside of docs/ has no place on the site.
        assert target.resolve().is_relative_to(DOCS), link
        assert target.exists(), link
        assert not anchor or anchor in anchors_of(target), link


def test_every_page_is_in_the_sites_menu():
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))
    titles, pages, entries = set(), set(), list(site["nav"])
    while entries:
        ((title, inside),) = entries.pop().items()
        titles.add(title)
        entries += inside if isinstance(inside, list) else []
        pages |= {inside} if isinstance(inside, str) else set()
    assert pages == {page.name for page in DOCS.glob("*.md") if not page.name.endswith(".zh.md")}
    assert titles == set(site["plugins"][1]["i18n"]["languages"][1]["nav_translations"])
    for page in DOCS.glob("*.zh.md"):
        assert page.with_name(page.name.replace(".zh", "")).exists()


def test_mkdocs_builds_the_site_without_a_warning(tmp_path):
    if importlib.util.find_spec("material") is None:
        assert "DCVC_REQUIRE_SITE" not in os.environ
        pytest.skip("mkdocs-material is not installed: pip install -r docs/requirements.txt")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", str(tmp_path / "site")]
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(build, cwd=ROOT, env=quiet, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    english, chinese = (tmp_path / "site" / place / "index.html" for place in (".", "zh"))
    assert "Many videos" in english.read_text("utf-8")
    assert "大量视频" in chinese.read_text("utf-8")
