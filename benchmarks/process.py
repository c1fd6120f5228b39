"""CPU time and memory of a process and all its descendants, read from /proc."""

from __future__ import annotations

import os
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def tree(root: int) -> list[int]:
    """The process ids of `root` and its descendants that live now."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # the process ended while we looked
                continue
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, queue = [], [root]
    while queue:
        pid = queue.pop()
        found.append(pid)
        queue.extend(children.get(pid, ()))
    return found


def cpu_seconds(*roots: int) -> float:
    """User and system time of the trees, with that of their children that ended and were waited for."""
    total = 0
    for pid in [pid for root in roots for pid in tree(root)]:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += sum(int(fields[k]) for k in (11, 12, 13, 14))
    return total / _TICKS


def memory_mib(*roots: int) -> float:
    """Proportional set size of the trees in MiB (shared pages count once)."""
    total = 0
    for pid in [pid for root in roots for pid in tree(root)]:
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return total / 1024
