"""The report in a real browser: it draws, in both themes, and no script fails."""

import math
import random

import pytest
from distopt_launch.job_record import JobRecord
from distopt_launch.report_page import page

from tests.launch import browser

pytestmark = [pytest.mark.slow, pytest.mark.launches, pytest.mark.timeout(200)]

NASTY = '<b onclick="x()">&amp;</b>'


def record_of(replicas, steps=2000):
    """A job in which the last replica is late."""
    clock = [0.0]
    record = JobRecord("train.py", f"distoptrun -n {replicas} train.py {NASTY}", replicas, lambda: clock[0])
    record.begin()
    rng = random.Random(0)
    for step in range(1, steps, 20):
        clock[0] += 1
        late = replicas - 1
        totals = [[r, [step * 0.02, 0.1, 0.2, step * 0.01, step * 0.01, 0]] for r in range(replicas)]
        offsets = [[r, rng.uniform(0, 1e-3) + 0.02 * (r == late)] for r in range(replicas)]
        group = {"replicas": replicas, "first": step, "last": step + 19, "counts": 20}
        record.take(0, {"kind": "steps", "totals": totals, "offsets": offsets, **group})
        for rank in range(replicas):
            record.take(rank, {"kind": "usage", "rss": 3e8 + rank * 1e7, "cpu": clock[0] * 0.9})
        if step % 100 == 1:
            record.take(0, {"kind": "metrics", "step": step, "values": {"loss": math.exp(-step / 500)}})
    record.take(0, {"kind": "host", "host": NASTY, "cores": 8, "threads": "4"})
    record.take(0, {"kind": "pipeline", "text": NASTY})
    record.warn(0, NASTY)
    record.end(0, "")
    return record


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    program = browser.find()
    if program is None:
        pytest.skip("no Chromium")
    with browser.Browser(program, tmp_path_factory.mktemp("profile")) as opened:
        yield opened


INK = """(() => {
  const image = document.querySelector("section image");
  if (!image) return null;
  return [document.querySelectorAll("path.curve").length, document.querySelectorAll("svg rect").length,
          image.getAttribute("href").length, document.querySelectorAll("b, img").length,
          document.body.scrollWidth <= window.innerWidth];
})()"""
#: The colours of the heat map's first and last rows, in the middle.
ROWS = """(async () => {
  const image = new Image();
  image.src = document.querySelector("section image").getAttribute("href");
  await image.decode();
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [image.width, image.height];
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  const at = (y) => [...context.getImageData(image.width / 2, y, 1, 1).data];
  return [at(0), at(image.height - 1)];
})()"""


@pytest.mark.parametrize("replicas", [4, 40])
@pytest.mark.parametrize("dark", [False, True])
def test_it_draws(chromium, tmp_path, replicas, dark):
    file = tmp_path / "report.html"
    file.write_text(page(record_of(replicas)))
    chromium.errors.clear()
    chromium.open(file, dark)
    assert not chromium.errors
    curves, bars, image, elements, fits = chromium.value(INK)
    assert curves == (2 + 2 * replicas if replicas <= 8 else 2 + 2)
    assert bars >= 4 * replicas
    assert image > 500
    assert elements == 0  # the program's text made none
    assert fits
    background = chromium.value("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") != dark
    picture = chromium.picture()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 20_000


def test_who_is_late_stands_out(chromium, tmp_path):
    file = tmp_path / "report.html"
    file.write_text(page(record_of(4)))
    chromium.open(file, dark=False)
    result = chromium.call("Runtime.evaluate", expression=ROWS, returnByValue=True, awaitPromise=True)
    first, late = result["result"]["value"]
    assert min(first[:3]) > 200  # hardly any colour
    assert max(late[1:3]) < 80  # deep red


def test_a_page_without_any_step(chromium, tmp_path):
    file = tmp_path / "report.html"
    record = JobRecord("train.py", "distoptrun train.py", 1)
    record.begin()
    record.end(1, "replica 0 raised ImportError")
    file.write_text(page(record))
    chromium.errors.clear()
    chromium.open(file, dark=False)
    assert not chromium.errors
    assert "replica 0 raised ImportError" in chromium.value("document.body.innerText")
