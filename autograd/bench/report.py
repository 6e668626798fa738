"""Reports as files: JSON, which can be read again and compared, and CSV for spreadsheets."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import os
import tempfile
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .rows import SCHEMA, Measurement, PoolRow, Report, Row, TrainRow

ROW_TYPES: Mapping[str, type[Measurement]] = {"conv": Row, "pool": PoolRow, "train": TrainRow}


class ReportError(ValueError):
    """A file is not a report, or not one that can be used here."""


def check_output(path: Path) -> None:
    """Raises OSError if no file can be written to this path; called before what takes long."""
    if path.is_dir():
        raise IsADirectoryError(f"an output needs the name of a file, and {str(path)!r} is a folder")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"the folder of {str(path)!r} does not exist")
    if not os.access(path.parent, os.W_OK):
        raise PermissionError(f"the folder of {str(path)!r} cannot be written to")


def write_file(path: Path, content: bytes) -> None:
    """Writes all of the file or, if that fails, nothing: what stood there before then stays."""
    check_output(path)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            file.write(content)
            file.close()
            os.chmod(file.name, path.stat().st_mode if path.exists() else 0o644)
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise


# ---- JSON ----


def write_json(report: Report, path: Path) -> None:
    """Writes a report that `read_json` brings back; a number that is not finite becomes null."""
    text = json.dumps(_plain(dataclasses.asdict(report)), indent=1, allow_nan=False)
    write_file(path, (text + "\n").encode())


def read_json(path: Path) -> Report:
    """Reads what `write_json` wrote. Raises OSError, or ReportError if the file is anything else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ReportError(f"{str(path)!r} is not a report: {error}") from None
    try:
        if not isinstance(content, dict) or "schema" not in content:
            raise ReportError("it has no schema")
        if content["schema"] != SCHEMA:
            raise ReportError(f"its schema is {content['schema']!r}, and this version reads {SCHEMA}")
        if content.get("benchmark") not in ROW_TYPES:
            raise ReportError(f"benchmark must be one of {', '.join(ROW_TYPES)}, got {content.get('benchmark')!r}")
        if not isinstance(content.get("rows"), list):
            raise ReportError("rows must be a list")
        rows = tuple(_read(ROW_TYPES[content["benchmark"]], row, f"rows[{i}]") for i, row in enumerate(content["rows"]))
        report: Report = _read(Report, content | {"rows": []}, "report")
    except ReportError as error:
        raise ReportError(f"{str(path)!r} is not a report: {error}") from None
    return dataclasses.replace(report, rows=rows)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _read(kind: Any, value: Any, name: str) -> Any:
    """The value as the type that a field is declared with; ReportError names the field if it is of another."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if origin is types.UnionType:  # of a type and None
        return None if value is None else _read(arguments[0], value, name)
    if kind is float:
        if value is None:
            return math.nan
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    elif dataclasses.is_dataclass(kind):
        if isinstance(value, dict):
            return _read_fields(kind, value, name)
    elif origin is Mapping:
        if isinstance(value, dict):
            return {key: _read(arguments[1], item, f"{name}[{key!r}]") for key, item in value.items()}
    elif origin is tuple:
        if isinstance(value, list):
            return tuple(_read(arguments[0], item, f"{name}[{i}]") for i, item in enumerate(value))
    elif type(value) is kind:
        return value
    raise ReportError(f"{name} must be {getattr(kind, '__name__', kind)}, got {value!r:.60}")


def _read_fields(kind: Any, value: dict[str, Any], name: str) -> Any:
    hints = typing.get_type_hints(kind)
    optional = {
        field.name
        for field in dataclasses.fields(kind)
        if (field.default, field.default_factory) != (dataclasses.MISSING, dataclasses.MISSING)
    }
    for problem, names in (("lacks", hints.keys() - value - optional), ("has the unknown", value.keys() - hints)):
        if names:
            raise ReportError(f"{name} {problem} {', '.join(sorted(names))}")
    return kind(**{key: _read(hints[key], item, f"{name}.{key}") for key, item in value.items()})


# ---- CSV ----


def write_csv(report: Report, path: Path) -> None:
    """Writes a line for each row, its derived figures included, with three columns for each peer."""
    lines = [_flat(row) for row in report.rows]
    columns = dict.fromkeys(column for line in lines for column in line)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(columns))
    writer.writeheader()
    writer.writerows(lines)
    write_file(path, text.getvalue().encode())


def _flat(row: Measurement) -> dict[str, Any]:
    simple = {
        field.name: getattr(row, field.name)
        for field in dataclasses.fields(row)
        if isinstance(getattr(row, field.name), str | int | float)
    }
    if row.timing:
        simple |= dataclasses.asdict(row.timing)
    derived = ("gflops", "intensity", "roof_gflops", "fraction_of_roof", "fraction_of_copy")
    simple |= {name: getattr(row, name) for name in derived if hasattr(row, name)}
    for name, peer in row.peers.items():
        simple |= {f"{name} {column}": getattr(peer, column) for column in ("version", "variant", "speedup")}
        simple[f"{name} seconds"] = peer.timing.seconds
    return simple | {"notes": "; ".join(row.notes)}
