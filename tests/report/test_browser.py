"""report.html in a real browser: a silent console, dark when asked, no wider than a phone.

Needs Chromium (Debian: apt-get install chromium); without it these tests fail and say so.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import cv2
import pytest

from slim.pipeline.pictures import picture
from slim.report.page import POLICY, report_html

pytestmark = pytest.mark.slow
PHONE = 390
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--enable-logging=stderr",
)


@pytest.fixture(scope="module")
def chromium() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.fail("prerequisite missing: chromium (apt-get install chromium)")
    return found


@pytest.fixture
def page(report: dict[str, Any], tmp_path: Path) -> Path:
    import numpy as np

    images = {i: picture(np.full((60, 700, 3), 40 * i, np.uint8)) for i in range(5)}
    path = tmp_path / "a report.html"
    path.write_text(report_html(report, images), encoding="utf-8")
    return path


def _open(chromium: str, page: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    profile = page.parent / "profile"
    command = [chromium, *_FLAGS, f"--user-data-dir={profile}", *arguments, page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    shutil.rmtree(profile, ignore_errors=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done


def _console(said: str) -> list[str]:
    return [line for line in said.splitlines() if "CONSOLE" in line]


def _shot(chromium: str, page: Path, dark: bool) -> Any:
    image = page.parent / "shot.png"
    scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
    done = _open(chromium, page, scheme, "--window-size=1200,2000", f"--screenshot={image}")
    assert _console(done.stderr) == []
    return cv2.imread(str(image))


def test_light_and_dark_with_a_silent_console(chromium: str, page: Path) -> None:
    light, dark = _shot(chromium, page, dark=False), _shot(chromium, page, dark=True)
    assert light.shape == dark.shape == (2000, 1200, 3)
    assert light[0, 0].min() > 240 and dark[0, 0].max() < 40
    # Something is drawn: the page is no blank sheet in either.
    assert light.std() > 10 and dark.std() > 10


def test_what_is_wrong_is_heard(chromium: str, page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for broken in ('<img src="missing.png"/>', "<script>1</script>"):
        page.write_text(text.replace("<body>", f"<body>{broken}"), encoding="utf-8")
        assert _console(_open(chromium, page, "--dump-dom").stderr), broken


def _width(chromium: str, page: Path, text: str) -> int:
    """Width the content needs in a frame of a phone's width; the copy may run the one script that asks."""
    asks = "<script>parent.postMessage(document.documentElement.scrollWidth, '*')</script></body>"
    inner = page.with_name("inner.html")
    opened = text.replace(POLICY, "default-src 'unsafe-inline' data:").replace("</body>", asks)
    inner.write_text(opened.replace("<details>", '<details open="open">'), encoding="utf-8")
    outer = page.with_name("outer.html")
    outer.write_text(
        "<!DOCTYPE html><body><script>onmessage = e => document.body.dataset.width = e.data</script>"
        f'<iframe src="inner.html" style="width:{PHONE}px;height:800px;border:0"></iframe></body>',
        encoding="utf-8",
    )
    dom = _open(chromium, outer, "--dump-dom", "--virtual-time-budget=5000").stdout
    found = re.search(r'data-width="(\d+)"', dom)
    assert found is not None, dom[:500]
    return int(found[1])


def test_it_fits_a_phone(chromium: str, page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert _width(chromium, page, text) <= PHONE
    wide = text.replace("<body>", '<body><div style="width:800px">x</div>')
    assert _width(chromium, page, wide) > PHONE
