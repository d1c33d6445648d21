"""What mkdocs does not do by itself, for ``make docs``.

Pages link to files of the repository outside of docs/: on the site each has a page that
shows it. Guides and tutorials that mkdocs.yml does not name come at the end of theirs.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#|/)([^)#\s]+)")
CODE = re.compile(r"`[^`\n]+`")
LANGUAGES = {".py": "python", ".yaml": "yaml", ".toml": "toml", ".conf": "nginx"}
SECTIONS = {"Tutorial": "tutorial", "Guides": "guides"}


def on_config(config: Any) -> Any:
    """Add the pages that the navigation does not name."""
    named = set(_named(config.nav))
    for section in config.nav:
        for title, pages in section.items():
            folder = DOCS / SECTIONS.get(title, "-")
            paths = [*folder.glob("*.md")]
            if title == "Guides":
                paths += DOCS.glob("*.md")
            found = [path.relative_to(DOCS).as_posix() for path in paths]
            more = sorted(set(found) - named)
            if more:
                pages.append({"More": list(more)})
    return config


def _named(nav: Any) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    values = nav.values() if isinstance(nav, dict) else nav
    return [name for each in values for name in _named(each)]


def on_files(files: Files, config: Any) -> Files:
    """Add a page for each file outside of docs/ that a page links to."""
    for target in sorted(_find_outside(files)):
        content = _show(ROOT / target)
        files.append(File.generated(config, _page_of(target), content=content))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Lead the links that leave docs/ to their pages."""
    folder = os.path.dirname(page.file.src_uri)
    if page.file.src_uri.startswith("source/"):
        return markdown

    def replace(match: re.Match[str]) -> str:
        target = _outside(folder, match[0])
        return os.path.relpath(_page_of(target), folder) if target else match[0]

    return CODE.sub(_unescape, LINK.sub(replace, markdown))


def _unescape(match: re.Match[str]) -> str:
    # In a table a bar is escaped even in code; Python-Markdown would show that.
    return match[0].replace(r"\|", "|")


def _find_outside(files: Files) -> set[str]:
    found = set()
    for file in files.documentation_pages():
        folder = os.path.dirname(file.src_uri)
        for link in LINK.findall(file.content_string):
            target = _outside(folder, link)
            if target:
                path = ROOT / target
                found.add(target)
                if path.is_dir():
                    found |= {p.relative_to(ROOT).as_posix() for p in _files_in(path)}
    return found


def _files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file())


def _outside(folder: str, link: str) -> str:
    """Return a link's file, from the repository's root, if it is outside of docs/."""
    path = os.path.normpath(os.path.join("docs", folder, link))
    is_inside = path == "docs" or path.startswith(("docs/", ".."))
    return "" if is_inside or not (ROOT / path).exists() else path


def _page_of(target: str) -> str:
    return f"source/{target}.md"


def _show(path: Path) -> str:
    name = path.relative_to(ROOT).as_posix()
    head = f"---\nsearch:\n  exclude: true\n---\n# {name}\n\n"
    if path.is_dir():
        names = [each.name for each in _files_in(path)]
        return head + "\n".join(f"- [{n}]({path.name}/{n}.md)" for n in names)
    language = LANGUAGES.get(path.suffix, "text")
    return f"{head}````{language}\n{path.read_text('utf-8')}\n````\n"
