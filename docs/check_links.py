"""Check a built site: every link to a page of it, and to a place within a page, must lead there.

    python docs/check_links.py docs/_build/html

Sphinx knows what its sources refer to; this looks at what is served, the theme's and the gallery's
links, pictures and downloads included. Addresses of other sites are not visited.
"""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """What a page links to, and the places within it that can be linked to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.places: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for key, value in attrs:
            if value is None:
                continue
            if key in ("href", "src"):
                self.links.append(value)
            elif key == "srcset":
                self.links += [picture.split()[0] for picture in value.split(",")]
            elif key == "id" or (key == "name" and tag == "a"):
                self.places.add(value)


def _pages(site: Path) -> list[Path]:
    # The theme keeps templates among its files.
    return [path for path in site.rglob("*.html") if "_static" not in path.relative_to(site).parts]


def broken(site: Path) -> list[str]:
    """Links of a built site that lead nowhere, each with its page."""
    site = site.resolve()
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in _pages(site)}
    found = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target /= "index.html"
            place = unquote(parts.fragment)
            there = target.is_relative_to(site) and target.exists()
            if there and place and target in pages:
                there = place in pages[target].places
            if not there:
                found.append(f"{path.relative_to(site)}: {link}")
    return sorted(set(found))


def main(site: str) -> int:
    """Print what is broken; a site without pages is."""
    folder = Path(site)
    count = len(_pages(folder))
    found = broken(folder) if count else [f"{site} holds no pages"]
    print("\n".join(found) or f"{count} pages: every link within the site leads somewhere")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
