"""The page: one HTML file that shows a training run and needs nothing else, neither a network nor another file.

`story.py` computes what is shown and `write_page` puts it into `template/`: prose with numbers in `page.html`, looks in
`page.css`, what all views share in `page.js`, the views in `sections.js`. Arrays travel as compressed JSON inside the
page; charts are drawn by Plotly.js, which is embedded whole. The page's own policy forbids the browser to load anything
or to run any script but these, which it knows by their hashes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["SECTIONS", "check_page", "render", "write_page"]

TEMPLATE = Path(__file__).parent / "template"
SECTIONS = {
    "ledger": "Where one weight's gradient comes from",
    "dense": "Exactly as dense weights learn",
    "numeric": "Worked out, not found by adding a bit",
    "slice": "The loss along one weight",
    "film": "The film: every step of every filter",
    "activation": "Activation is a step of its own",
    "lockstep": "Other activations, step by step",
    "saturation": "Dead, sparse, saturated",
    "specialisation": "What a filter becomes good at",
    "controls": "Controls: equal filters, frozen filters",
    "pooling": "Where pooling sends the gradient",
    "chain": "The chain rule, node by node",
}


def check_page(path: Path) -> None:
    """Raises ValueError or OSError if no page can be written to this path; makes its folder."""
    if path.suffix not in (".html", ".htm"):
        raise ValueError(f"the page's name must end in .html, got {str(path)!r}")
    if path.is_dir():
        raise ValueError(f"the page needs the name of a file, and {str(path)!r} is a folder")
    path.parent.mkdir(parents=True, exist_ok=True)


def write_page(story: dict[str, Any], path: Path) -> None:
    """Writes the page of a run, `story.tell(...)`, to a file."""
    check_page(path)
    path.write_text(render(story), encoding="utf-8", newline="\n")


def render(story: dict[str, Any]) -> str:
    """The page of a run as HTML."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    names = ("page.js", "sections.js")
    scripts = [get_plotlyjs(), *((TEMPLATE / name).read_text(encoding="utf-8") for name in names)]
    assert not any("</script" in script.lower() for script in scripts)
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE), autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True
    )
    environment.filters.update(
        count=_count, percent=_percent, sci=_sci, signed=_signed, seconds=_seconds, yesno=_yes_or_no
    )
    return environment.get_template("page.html").render(
        story=story,
        sections=SECTIONS,
        css=Markup((TEMPLATE / "page.css").read_text(encoding="utf-8")),
        scripts=[Markup(script) for script in scripts],
        script_hashes=Markup(" ".join(f"'sha256-{_hash(script)}'" for script in scripts)),
        payload=base64.b64encode(zlib.compress(json.dumps(story, default=_pack).encode(), 9)).decode(),
    )


def _pack(array: Any) -> dict[str, Any]:
    """An array as JSON: its bytes, little-endian and in C order, as base64."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"a page holds numbers, text and arrays, got {type(array).__name__}")
    kind = {"b": "u1", "u": "u1", "i": "i4"}.get(array.dtype.kind, f"f{array.dtype.itemsize}")
    return {
        "dtype": kind,
        "shape": array.shape,
        "data": base64.b64encode(np.ascontiguousarray(array, f"<{kind}").tobytes()).decode(),
    }


def _hash(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _count(number: float) -> str:
    return f"{number:,.0f}"


def _percent(share: float) -> str:
    return f"{share:.1%}"


def _sci(number: float) -> str:
    return f"{number:.1e}".replace("e-0", "e-").replace("e+0", "e+")


def _signed(number: float) -> str:
    return f"{number:+.4f}".replace("-", "\N{MINUS SIGN}")


def _seconds(seconds: float) -> str:
    return f"{seconds:,.0f} s" if seconds >= 10 else f"{seconds:.1f} s" if seconds >= 1 else f"{1000 * seconds:.1f} ms"


def _yes_or_no(value: Any) -> str:
    return "yes" if value else "no"
