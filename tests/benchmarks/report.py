"""Tables of ``docs/performance.md`` from what pytest-benchmark has written.

``python report.py bench.json`` prints them; ``python report.py bench.json performance.md`` puts
each between its marks, ``<!-- bench: name -->`` and ``<!-- end -->``.
"""

from __future__ import annotations

import json
import platform
import re
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("xdemsr", "torch", "dask", "xarray", "zarr", "numpy", "monai", "xbatcher", "torchgeo")
TARGETS = ("", "to be reached", "found", "reached")


def table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    columns = list(columns)
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def machine(data: dict[str, Any]) -> str:
    """Where and when it ran, and with what."""
    info = data["machine_info"]
    cpu = info["cpu"]
    versions = []
    for package in PACKAGES:
        try:
            versions.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    cores = f"{cpu['count']} cores of an {cpu['brand_raw']}" if "brand_raw" in cpu else cpu["count"]
    day = data["datetime"][:10]
    return f"{day}: {cores}, Python {platform.python_version()}, {', '.join(versions)}."


def sections(data: dict[str, Any]) -> dict[str, str]:
    """What stands between the marks, by name. Tables of the same title become one."""
    tables: dict[str, tuple[list[str], list[list[str]]]] = {}
    targets: list[list[str]] = []
    for benchmark in data["benchmarks"]:
        said = benchmark["extra_info"]
        if "table" in said:
            found = said["table"]
            tables.setdefault(found["title"], (found["columns"], []))[1].extend(found["rows"])
        targets += said.get("targets", [])
    made = {"machine": machine(data)}
    if targets:
        made["targets"] = table(TARGETS, targets)
    return made | {name: table(*found) for name, found in tables.items()}


def put(text: str, made: dict[str, str]) -> str:
    """The document with what was made between its marks; what was not made stays."""
    for name, content in made.items():
        mark = f"<!-- bench: {name} -->"
        if mark not in text:
            raise SystemExit(f"the document has no mark {mark!r}")
        pattern = re.escape(mark) + r".*?<!-- end -->"
        text = re.sub(pattern, lambda _: f"{mark}\n{content}\n<!-- end -->", text, flags=re.S)  # noqa: B023
    return text


def main(source: str, target: str | None = None) -> None:
    """Print, or put into a document."""
    made = sections(json.loads(Path(source).read_text()))
    if target is None:
        print("\n\n".join(f"## {name}\n\n{content}" for name, content in made.items()))
        return
    path = Path(target)
    path.write_text(put(path.read_text(), made))


if __name__ == "__main__":
    main(*sys.argv[1:])
