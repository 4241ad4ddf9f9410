"""report.html: well-formed, closed to the outside, and every label shown as text."""

from __future__ import annotations

import re
from itertools import groupby
from typing import Any
from xml.etree import ElementTree

import pytest

from slim.report import report_markdown
from slim.report.escaping import visible
from slim.report.page import POLICY, report_html

from .conftest import HOSTILE

PIXEL = "data:image/png;base64,iVBORw0KGgo="


def faults(page: str) -> list[str]:
    """What a page must not have; the page is XML, so a stray < or & is found as well."""
    try:
        root = ElementTree.fromstring(page)
    except ElementTree.ParseError as error:
        return [f"not well-formed: {error}"]
    found = []
    for element in root.iter():
        if element.tag in ("script", "iframe", "object", "embed", "link", "base", "form", "a"):
            found.append(f"element {element.tag}")
        for name, value in element.attrib.items():
            if name.startswith("on"):
                found.append(f"handler {name}")
            if name in ("src", "href", "srcset", "action") and not value.startswith("data:image/png;base64,"):
                found.append(f"address {value[:40]}")
            if name == "style" and "url" in value:
                found.append(f"style {value[:40]}")
        if element.tag == "style" and re.search(r"url\(|@import|http", element.text or ""):
            found.append("the style sheet loads something")
    policies = [m.get("content") for m in root.iter("meta") if m.get("http-equiv")]
    return found if policies == [POLICY] else [*found, "no policy"]


def test_the_page_is_closed_and_well_formed(report: dict[str, Any]) -> None:
    assert faults(report_html(report, {0: PIXEL, 1: PIXEL})) == []


def test_hostile_labels_are_text(report: dict[str, Any]) -> None:
    page = report_html(report)
    root = ElementTree.fromstring(page)
    shown = ["".join(cell.itertext()) for cell in root.iter("dd")]
    assert shown.count(visible(HOSTILE)) == 48  # 24 images, expected and original
    assert "\x00" not in page and "\x1b" not in page and "\u202e" not in page
    assert page.count("http") == page.count("http://evil.example") + page.count("http-equiv")


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (lambda page: page.replace("</body>", "<script>1</script></body>"), "element script"),
        (lambda page: page.replace("<body>", '<body onload="x()">'), "handler onload"),
        (lambda page: page.replace("<body>", '<body><img src="http://x/y.png"/>'), "address"),
        (lambda page: page.replace("<body>", "<body>a & b"), "not well-formed"),
        (lambda page: page.replace("<style>", "<style>@import 'x';"), "loads something"),
        (lambda page: page.replace(POLICY, "default-src *"), "no policy"),
    ],
)
def test_the_static_check_can_fail(report: dict[str, Any], break_it: Any, said: str) -> None:
    found = faults(break_it(report_html(report)))
    assert any(said in fault for fault in found)


def test_it_says_what_the_report_says(report: dict[str, Any]) -> None:
    text = "".join(ElementTree.fromstring(report_html(report, {0: PIXEL})).itertext())
    for part in (
        "2 of 3 checks missed",
        "30.0% of the original's 500,000",
        "1 float arm nb: 500.0 KB, 94.00%",
        "94.00% [90.0, 96.0] of 200",
        "+1.00 [-0.50, +2.50]",
        "25.0% less than 16.00M",
        "947 changed: 900 lost, 40 gained, 7 another text, right or wrong as before.",
        "The first 30 are listed.",
        "Sensitivity of 9 groups",
        "The other 5 layers",
        "6 more",
        "on one thread",
    ):
        assert part in text, part
    assert "1111111111" not in text


def test_a_file_that_is_wholly_wrong_is_the_one_the_tiles_show(report: dict[str, Any]) -> None:
    """Accuracy 0 is an accuracy: no other file may stand in for the one that ships."""
    ran = {"latency_ms": 2.0, "latency_p90_ms": 3.0}
    drop = {"points": 94.0, "low": 90.0, "high": 96.0, "n": 200, "lost": 188, "gained": 0}
    wrong = {"accuracy": 0.0, "accuracy_low": 0.0, "accuracy_high": 0.02, "images": 200, "drop": drop}
    arm, fine = report["stages"][-1], {**report["stages"][-1], "stage": "x86 nb", "x86_bytes": 5}
    report["stages"] = [report["stages"][0], {**arm, **wrong, **ran}, fine]
    root = ElementTree.fromstring(report_html(report))
    tiles = ["".join(e.itertext()) for e in root.iter("div") if e.get("class") == "tile"]
    assert "accuracy0.00%arm nb, 200 images" in tiles
    assert "lost against the original+94.00points, 95% [+90.00, +96.00]" in tiles


def test_a_detectors_page_speaks_of_pages(report: dict[str, Any]) -> None:
    report |= {"kind": "det", "steps": [{"stage": "prune", "pages": [[8, 9, 7]] * 50}]}
    page = report_html(report, {2: PIXEL})
    assert faults(page) == []
    assert "intervals (bootstrap over pages)" in page and "Wilson" not in page
    assert "7 other regions, as good as before. A page is lost where its own hmean fell." in page
    assert "outlined in blue" in page and "another text" not in page
    assert '"stage": "prune"' in page.replace("&quot;", '"') and "pages&quot;" not in page
    assert "No page has other regions" in report_html(report | {"differing": []})
    assert "as good as before. A page is lost" in report_markdown(report)


def test_pictures_stand_at_their_images(report: dict[str, Any]) -> None:
    root = ElementTree.fromstring(report_html(report, {2: PIXEL}))
    cards = [e for e in root.iter("div") if e.get("class") == "image"]
    assert [card.find("img") is not None for card in cards[:4]] == [False, False, True, False]


def test_a_check_on_tensors_alone_has_a_page_too(report: dict[str, Any]) -> None:
    """A detector: nothing scored, nothing pruned here, no layers."""
    for key in ("sensitivity", "layers", "tensors"):
        del report[key]
    ran = {"latency_ms": 1.0, "latency_p90_ms": 1.0}
    report |= {"differing": [], "stages": [{"stage": "arm nb", "arm_bytes": 5, **ran}]}
    page = report_html(report)
    assert faults(page) == []
    assert "Plots" not in page and "Changed images" not in page and "Loss by layer" not in page


def test_no_changed_image_is_said(report: dict[str, Any]) -> None:
    assert "No text differs" in report_html(report | {"differing": []})


def test_markdown_lists_changed_images_as_text(report: dict[str, Any]) -> None:
    part = report_markdown(report).split("## Changed images")[1].split("## ")[0]
    rows = [line for line in part.splitlines() if line.startswith("|")]
    assert {row.count("|") for row in rows} == {6} and len(rows) == 26
    assert "<script" not in part and "and 6 more" in part


def test_markdown_shows_everything_as_text(report: dict[str, Any]) -> None:
    """Model, stage, checks, tensors, notes, layers: no tag, no broken table, nobody is called by name."""
    report["model"] = "a|b <img src=x> @me" + HOSTILE
    report["stages"][1]["stage"] = HOSTILE
    page = report_markdown(report)
    assert not re.search(r"<[a-z/]", page) and "@me" not in page and "`" not in page
    assert "\x00" not in page and "\x1b" not in page and "\u202e" not in page
    tables = [list(rows) for row, rows in groupby(page.splitlines(), lambda line: line[:1] == "|") if row]
    assert len(tables) == 3 and all(len({row.count("|") for row in table}) == 1 for table in tables)
    # Each list stays a list, and what was escaped is still there to be read.
    lists = page.split("## Checks")[1].split("## Changed images")[0]
    assert all(line.startswith(("- ", "## ")) for line in lists.splitlines() if line)
    assert page.count("onerror=alert(2)") > 60
