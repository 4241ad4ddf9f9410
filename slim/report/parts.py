"""Pieces of the page: a section, a table that stacks on a phone."""

from __future__ import annotations

from collections.abc import Sequence

from slim.report.escaping import html_safe


def section(title: str, body: str) -> str:
    """A heading and what follows; ``body`` is HTML."""
    return f"<section><h2>{html_safe(title)}</h2>{body}</section>"


def table(
    headers: Sequence[str], rows: Sequence[Sequence[str]], *, kind: str = "", stack: bool = False
) -> str:
    """Cells are text and are escaped here; ``stack``: on a narrow screen each row becomes a block."""
    classes = f"{kind} num{' stack' if stack else ''}".strip()
    head = "".join(f"<th>{html_safe(header)}</th>" for header in headers)
    lines = []
    for row in rows:
        cells = [
            f'<td{_none(cell)} data-name="{html_safe(header)}">{html_safe(cell)}</td>'
            for header, cell in zip(headers, row, strict=True)
        ]
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return f'<table class="{classes}"><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table>'


def _none(cell: str) -> str:
    return ' class="none"' if cell == "-" else ""
