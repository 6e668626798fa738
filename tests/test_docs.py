"""The examples in the documents, run as a reader would type them: what they say that they print, they print."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from autograd import Primitive

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("document", ["README.md", "docs/design.md", "docs/lens.md", "docs/learning.md"])
def test_examples(
    document: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    cells = re.findall(r"^```{code-cell} ipython3\n(.*?)^```", text, re.M | re.S)
    examples = re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
    blocks = cells + [block for block in examples if re.search(r"import |lens\.", block)]  # others quote the source
    assert len(blocks) >= 2
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Primitive, "registry", dict(Primitive.registry))
    namespace: dict[str, object] = {}
    for block in blocks:
        exec(block, namespace)
    expected = re.findall(r"^print\(.*\)  # (?:.*: )?(.*)$", "".join(blocks), re.M)
    assert capsys.readouterr().out.splitlines() == expected
    assert expected


def test_links_lead_somewhere() -> None:
    documents = [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")]
    for document in documents:
        text = re.sub(r"`[^`\n]*`", "", document.read_text(encoding="utf-8"))
        for target in re.findall(r"\]\(([^)#]+)\)", text):
            assert target.startswith("https://") or (document.parent / target).exists(), f"{document.name}: {target}"
