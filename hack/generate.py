"""Writes every generated file from its source; with --check it writes none and fails when one is stale.

A generated file is a line in FILES: its path and the function that returns its text.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dashboard import dashboard
from externalscaler import compiled
from headgate_operator.crd import crd_yaml
from metrics import metrics
from reference import reference

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[1]

FILES: tuple[tuple[str, Callable[[], str]], ...] = (
    ("crds/fanoutpipelines.headgate.dev.yaml", crd_yaml),
    ("charts/headgate/files/fanoutpipelines.headgate.dev.yaml", crd_yaml),
    ("charts/headgate/dashboards/headgate.json", dashboard),
    ("operator/headgate_operator/engines/compiled.py", compiled),
    ("docs/reference/fanoutpipeline.md", reference),
    ("docs/reference/metrics.md", metrics),
)


def main() -> int:
    """Exit status: 1 when --check found a stale file."""
    check = sys.argv[1:] == ["--check"]
    if sys.argv[1:] and not check:
        print(f"usage: {sys.argv[0]} [--check]", file=sys.stderr)
        return 2
    stale = []
    for name, make in FILES:
        path, text = ROOT / name, make()
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(f"wrote {name}")
    if check and stale:
        print(f"stale: {', '.join(stale)}: run `make generate`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
