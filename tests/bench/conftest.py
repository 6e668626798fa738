"""Benchmarks are collected with `--benchmark-only` alone, so that ordinary test runs pass them by."""

from __future__ import annotations

from pathlib import Path

import pytest


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Ignores everything here unless benchmarks were asked for."""
    return None if config.getoption("benchmark_only", False) else True
