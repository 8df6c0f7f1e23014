"""What a run was measured on."""

from __future__ import annotations

import os
import platform
import sqlite3
import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


def machine() -> dict[str, Any]:
    """Processor, memory, software, how long the disk takes to keep a page, and how busy it all was before."""
    processor = next(
        (
            line.partition(":")[2].strip()
            for line in _read("/proc/cpuinfo").splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory = int(_read("/proc/meminfo").partition("MemTotal:")[2].split()[0]) / 1e6
    return {
        "processor": processor,
        "cores": len(os.sched_getaffinity(0)),
        "memory GB": round(memory),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "fdatasync ms, median": round(1000 * _sync(), 3),
        "load before": os.getloadavg()[0],
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _read(path: str) -> str:
    return Path(path).read_text()


def _sync() -> float:
    """Seconds that one page written to the end of a file takes to be on disk."""
    spent = []
    with tempfile.TemporaryFile() as file:
        for _ in range(100):
            file.write(b"x" * 4096)
            file.flush()
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            spent.append(time.perf_counter() - began)
    return statistics.median(spent)
