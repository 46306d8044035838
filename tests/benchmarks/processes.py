"""Jobs in a process of their own, and how much memory it took."""

from __future__ import annotations

import subprocess
import sys

# Not getrusage: a process inherits that peak from the one that started it.
SAYS_ITS_PEAK = r"""
import re
from pathlib import Path
print(1024 * int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]))
"""


def peak(code: str, *arguments: object) -> tuple[int, list[str]]:
    """Bytes at the peak of a process that runs some code, and the lines that it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code + SAYS_ITS_PEAK, *map(str, arguments)],
        check=True,
        capture_output=True,
        text=True,
    )
    *lines, last = done.stdout.splitlines()
    return int(last), lines
