"""What MkDocs calls while it builds the site: pages that are made, or lie in the root, and links out of docs."""

import posixpath
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # the checkout whose pages these are

from mkdocs.structure.files import File, Files, InclusionLevel  # noqa: E402

from docs.site import environments  # noqa: E402
from docs.site.links import ROOT_PAGES, included, outside_files, relinked, source_page  # noqa: E402

UNSEARCHED = ("source/", "benchmark/")
"""Pages below these folders are not in the search: code, and tables that other pages tell of."""
LARGE = 60_000
"""Bytes above which a PNG is shown as WebP."""


def on_config(config: Any) -> Any:
    """Puts the environments into the navigation."""
    config.nav = [
        {title: environments.navigation()} if entry == "environments/" else {title: entry}
        for item in config.nav
        for title, entry in item.items()
    ]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages that are made, or that lie outside of docs."""
    for path, text in _made_pages():
        level = InclusionLevel.NOT_IN_NAV if path.startswith("source/") else InclusionLevel.UNDEFINED
        files.append(File.generated(config, path, content=text, inclusion=level))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Includes what a page asks for, and bends links that lead out of docs."""
    path = page.file.src_uri
    if path.startswith(UNSEARCHED):
        page.meta["search"] = {"exclude": True}
    if not page.file.generated_by or path.startswith("environments/"):
        return relinked(included(markdown, f"docs/{path}"), f"docs/{path}", path)
    return markdown


def on_page_content(html: str, page: Any, config: Any, **_: Any) -> str:
    """Gives pictures their size, so that text does not jump, has those further down loaded late, and large ones light.

    A large PNG is shown as WebP, a fifth as heavy.
    """
    folder = posixpath.dirname(page.file.src_uri)
    count = 0

    def sized(match: re.Match[str]) -> str:
        nonlocal count
        shown = match[2]
        name = posixpath.normpath(posixpath.join(folder, shown))
        path = ROOT / "docs" / name
        if not path.is_file() or path.suffix == ".svg":
            return match[0]
        from PIL import Image

        with Image.open(path) as picture:
            width, height = picture.size
            if path.suffix == ".png" and path.stat().st_size > LARGE:
                light = (Path(config.site_dir) / name).with_suffix(".webp")
                light.parent.mkdir(parents=True, exist_ok=True)
                picture.save(light, quality=88)
                shown = f"{shown.removesuffix('.png')}.webp"
        count += 1
        lazy = "" if count <= 2 else ' loading="lazy"'
        return f'{match[1]} src="{shown}" width="{width}" height="{height}"{lazy}{match[3]}'

    return re.sub(r'(<img[^>]*?) src="([^":]+)"([^>]*>)', sized, html)


def on_post_page(output: str, **_: Any) -> str:
    """Names the dialog of the search, which the theme leaves without a name for those who hear the page."""
    return output.replace(
        'data-md-component="search" role="dialog"', 'data-md-component="search" role="dialog" aria-label="Search"'
    )


def _made_pages() -> Iterator[tuple[str, str]]:
    yield from environments.pages()
    for origin, path in ROOT_PAGES.items():
        if path != "index.md":
            yield path, relinked((ROOT / origin).read_text(encoding="utf-8"), origin, path)
    for outside in outside_files():
        yield source_page(outside), f"# {outside}\n\n```python\n{(ROOT / outside).read_text(encoding='utf-8')}```\n"
