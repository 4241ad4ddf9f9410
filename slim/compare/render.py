"""A comparison for people and for a CI's own pages: text, Markdown, JUnit XML."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from xml.etree import ElementTree

from slim.compare.pairs import Changed
from slim.compare.reports import shown
from slim.compare.rows import Comparison, Row
from slim.report import markdown_table, text_table
from slim.report.escaping import markdown_safe, visible

HEADERS = ("model", "metric", "reference", "tolerance", "value", "verdict", "why")
CHANGED_HEADERS = ("change", "image", "expected", "reference text", "text now")
SHOWN = 20
# What XML 1.0 cannot hold, not even escaped: control characters and lone surrogates.
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def text(comparison: Comparison, *, limit: int = SHOWN) -> str:
    """Table of rows, then per model its pairs and the images whose text changed, at most ``limit``."""
    parts = [text_table(HEADERS, [_cells(row) for row in comparison.rows])]
    for model, pairs in comparison.pairs.items():
        parts += ["", f"{visible(model)}: {pairs.line()}"]
        if pairs.changed[:limit]:
            parts.append(text_table(CHANGED_HEADERS, [_changed(c) for c in pairs.changed[:limit]]))
        parts += _more(pairs.changed, limit)
    parts += [f"note: {visible(note)}" for note in comparison.notes]
    return "\n".join(parts)


def _cells(row: Row) -> tuple[str, ...]:
    verdict = row.verdict.upper() if row.failed else row.verdict
    numbers = (shown(row.reference), shown(row.tolerance), shown(row.value))
    return visible(row.model), visible(row.metric), *numbers, verdict, visible(row.note)


def _changed(found: Changed) -> tuple[str, ...]:
    texts = (found.expected, found.reference, found.text)
    return found.kind, visible(found.ref), *[f"'{visible(t)}'" for t in texts]


def _more(changed: Sequence[Changed], limit: int) -> list[str]:
    left = len(changed) - limit
    return [f"and {left:,} more; --json lists all"] if left > 0 else []


def markdown(comparison: Comparison, failed: Sequence[Row], *, limit: int = SHOWN) -> str:
    """The comparison for a pull request: the outcome, the table, changed images folded away."""
    parts = [f"## slim compare: {summary(comparison, failed)}", ""]
    parts.append(markdown_table(HEADERS, [tuple(map(markdown_safe, _cells(row))) for row in comparison.rows]))
    for model, pairs in comparison.pairs.items():
        parts += ["", f"**{markdown_safe(model)}**: {markdown_safe(pairs.line())}"]
        if pairs.changed[:limit]:
            rows = [tuple(map(markdown_safe, _changed(c))) for c in pairs.changed[:limit]]
            title = f"<details><summary>{len(pairs.changed):,} images changed</summary>"
            parts += ["", title, "", markdown_table(CHANGED_HEADERS, rows)]
            parts += ["", *_more(pairs.changed, limit), "</details>"]
    if comparison.notes:
        parts += ["", *[f"- {markdown_safe(note)}" for note in comparison.notes]]
    return "\n".join(parts) + "\n"


def summary(comparison: Comparison, failed: Sequence[Row]) -> str:
    """Counts of what came out, in words.

    >>> summary(Comparison((), {}, ()), [])
    'passed, 0 comparisons'
    """
    counts = {kind: sum(row.verdict == kind for row in comparison.rows) for kind in ("noise", "gain", "new")}
    words = {"noise": "within chance", "gain": "unexplained gains", "new": "without references"}
    parts = [f"{count} {words[kind]}" for kind, count in counts.items() if count]
    head = f"{len(failed)} of {len(comparison.rows)} comparisons failed"
    if not failed:
        head = f"passed, {len(comparison.rows)} comparisons"
    return ", ".join([head, *parts])


def junit(comparison: Comparison, failed: Sequence[Row]) -> str:
    """JUnit XML: a suite per model, a case per metric."""
    counts = _counts(comparison.rows, failed)
    root = ElementTree.Element("testsuites", {"name": "slim compare", **counts})
    for model in dict.fromkeys(row.model for row in comparison.rows):
        rows = [row for row in comparison.rows if row.model == model]
        counts = _counts(rows, [row for row in failed if row.model == model])
        suite = ElementTree.SubElement(root, "testsuite", {"name": _xml(model), **counts})
        for row in rows:
            case = ElementTree.SubElement(suite, "testcase", classname=_xml(model), name=_xml(row.metric))
            _outcome(case, row, row in failed, list(_lines(comparison, row)))
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, "unicode") + "\n"


def _counts(rows: Sequence[Row], failed: Sequence[Row]) -> dict[str, str]:
    skipped = sum(row.verdict == "new" for row in rows)
    return {"tests": str(len(rows)), "failures": str(len(failed)), "errors": "0", "skipped": str(skipped)}


def _outcome(case: ElementTree.Element, row: Row, failed: bool, lines: Sequence[str]) -> None:
    said = _xml(explain(row))
    if failed:
        found = ElementTree.SubElement(case, "failure", type=row.verdict, message=said)
        found.text = _xml("\n".join(lines))
    elif row.verdict == "new":
        ElementTree.SubElement(case, "skipped", message=said)
    else:
        ElementTree.SubElement(case, "system-out").text = said


def _lines(comparison: Comparison, row: Row) -> Iterator[str]:
    """The changed images of a row that came from pairs."""
    pairs = comparison.pairs.get(row.model)
    if pairs is None:
        return
    yield pairs.line()
    for changed in pairs.changed[:SHOWN]:
        yield "  ".join(_changed(changed))
    yield from _more(pairs.changed, SHOWN)


def explain(row: Row) -> str:
    """One row in a line."""
    head = f"{row.verdict}: {visible(row.model)} {visible(row.metric)}"
    if row.reference is not None:
        head += f" is {shown(row.value)}, reference {shown(row.reference)} +- {shown(row.tolerance)}"
    return head + (f" ({visible(row.note)})" if row.note else "")


def _xml(value: str) -> str:
    return _NO_XML.sub("\ufffd", value)
