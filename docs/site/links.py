"""Links and includes between pages, which are written for readers of the repository and bent for the site."""

import posixpath
import re
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOT_PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}
"""Pages of the site that stand for files in the repository's root."""

_FENCE = re.compile(r"(^```.*?^```[^\n]*$)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(\]\()([^)#\s]+)((?:#[^)\s]*)?\))")
_INCLUDE = re.compile(r"^\[[^\]]*\]\(([^)#]+)(?:#([\w-]+))?\) <!-- include -->$", re.MULTILINE)


def slug(heading: str) -> str:
    """Returns the anchor of a heading.

    >>> slug("CUB, 30 species, whole: find the bird")
    'cub-30-species-whole-find-the-bird'
    """
    return re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", heading.lower())).strip("-")


def section(path: Path, anchor: str) -> str:
    """Returns the text below a heading of a page, up to the next one of its level or above.

    Raises:
        ValueError: if there is no such heading.
    """
    level, kept = 0, []
    for line in _outside_fences(path.read_text(encoding="utf-8")):
        heading = re.match(r"(#+) (.*)", line) if not line.startswith("```") else None
        if level and heading and len(heading[1]) <= level:
            break
        if level:
            kept.append(line)
        elif heading and slug(heading[2]) == anchor:
            level = len(heading[1])
    if not level:
        raise ValueError(f"{path} has no heading with the anchor #{anchor}.")
    return "\n".join(kept).strip()


def _outside_fences(text: str) -> list[str]:
    """Returns lines, a fenced block as one."""
    lines: list[str] = []
    for part in _FENCE.split(text):
        lines += [part] if part.startswith("```") else part.removeprefix("\n").removesuffix("\n").split("\n")
    return lines


def included(text: str, origin: str) -> str:
    """Replaces each line ``[title](path#anchor) <!-- include -->`` by that file, or that section of it.

    Args:
        text: Markdown.
        origin: path of its file in the repository, which relative links start from.
    """

    def content(match: re.Match[str]) -> str:
        path = _resolved(match[1], origin)
        if path.endswith(".py"):
            return f"```python\n{(ROOT / path).read_text(encoding='utf-8')}```"
        text = section(ROOT / path, match[2]) if match[2] else (ROOT / path).read_text(encoding="utf-8")
        return _with_links(text, lambda link: posixpath.relpath(_resolved(link, path), posixpath.dirname(origin)))

    return _INCLUDE.sub(content, text)


def relinked(text: str, origin: str, page: str) -> str:
    """Returns the Markdown of a page with links that hold in the site.

    Args:
        text: Markdown, its links relative to ``origin``.
        origin: path of its file in the repository.
        page: path of the page in the site.
    """
    return _with_links(
        text, lambda link: posixpath.relpath(site_path(_resolved(link, origin)), posixpath.dirname(page))
    )


def site_path(path: str) -> str:
    """Returns where a file of the repository is in the site."""
    if path in ROOT_PAGES:
        return ROOT_PAGES[path]
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return source_page(path)


def source_page(path: str) -> str:
    """Returns the page that shows a file that is outside of ``docs``."""
    return f"source/{path}.md"


def outside_files() -> list[str]:
    """Returns the files outside of ``docs``, and not in :data:`ROOT_PAGES`, that pages link to."""
    files = set()
    for page in [*(ROOT / name for name in ROOT_PAGES), *(ROOT / "docs").rglob("*.md")]:
        origin = page.relative_to(ROOT).as_posix()
        for link in links_of(page.read_text(encoding="utf-8")):
            path = _resolved(link, origin)
            if not path.startswith("docs/") and path not in ROOT_PAGES:
                files.add(path)
    return sorted(files)


def links_of(text: str) -> list[str]:
    """Returns the relative links of a page, without anchors and those in code."""
    outside_code = "".join(part for part in _FENCE.split(text) if not part.startswith("```"))
    return [match[2] for match in _LINK.finditer(outside_code) if not re.match(r"[a-z]+:", match[2])]


def _resolved(link: str, origin: str) -> str:
    """Returns the path in the repository that a link of the file ``origin`` leads to."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(origin), link))


def _with_links(text: str, change: Callable[[str], str]) -> str:
    """Returns a text with its relative links changed, but for those in fenced code."""

    def changed(match: re.Match[str]) -> str:
        return match[0] if re.match(r"[a-z]+:", match[2]) else f"{match[1]}{change(match[2])}{match[3]}"

    parts = _FENCE.split(text)
    return "".join(part if part.startswith("```") else _LINK.sub(changed, part) for part in parts)
