"""Outlines of masks, as the script of the canvas draws them."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from alapp.ui.annotate import canvas

HARNESS = """
class Path2D {
  constructor() { this.lines = []; this.moves = 0; }
  moveTo(x, y) { this.first = this.at = [x, y]; this.moves++; }
  lineTo(x, y) { this.lines.push([...this.at, x, y]); this.at = [x, y]; }
  closePath() { this.lines.push([...this.at, ...this.first]); this.at = this.first; }
}
const found = JSON.parse(require("fs").readFileSync(0)).map(({ pixels, height, width, within }) => {
  const path = tracePixels(Uint8Array.from(pixels), 10, 20, height, width, new Path2D(), within ?? undefined);
  return [path.lines, path.moves];
});
console.log(JSON.stringify(found));
"""


def traced(cases):
    """(edges, pieces) of each case: the unit edges (y0, x0, y1, x1) of its outline, sorted, offset taken away."""
    source = (Path(canvas.__file__).parent / "masks.js").read_text(encoding="utf-8")
    done = subprocess.run(["node", "-e", source + HARNESS], input=json.dumps(cases), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [
        (sorted(edge for line in lines for edge in unit_edges(*line)), moves)
        for lines, moves in json.loads(done.stdout)
    ]


def unit_edges(x0, y0, x1, y1):
    (x0, x1), (y0, y1) = sorted((x0 - 20, x1 - 20)), sorted((y0 - 10, y1 - 10))
    assert (x0 == x1) != (y0 == y1)
    if y0 == y1:
        return [(y0, x, y0, x + 1) for x in range(x0, x1)]
    return [(y, x0, y + 1, x0) for y in range(y0, y1)]


def borders(mask, within):
    """The same by comparing neighbours."""
    y0, x0, y1, x1 = within
    wide = np.pad(mask, 1)
    across = [
        (y, x, y, x + 1) for y in range(y0, y1 + 1) for x in range(x0, x1) if wide[y + 1, x + 1] != wide[y, x + 1]
    ]
    down = [(y, x, y + 1, x) for y in range(y0, y1) for x in range(x0, x1 + 1) if wide[y + 1, x + 1] != wide[y + 1, x]]
    return sorted(across + down)


@pytest.mark.skipif(shutil.which("node") is None, reason="no node")
def test_an_outline_holds_every_edge_once_and_few_pieces():
    rng = np.random.default_rng(0)
    cases, expected = [], []
    for density in (0.0, 0.2, 0.5, 0.8, 1.0):
        for within in (None, (1, 2, 5, 6), (0, 3, 4, 9)):
            mask = rng.random((7, 9)) < density
            cases.append({"pixels": mask.ravel().astype(int).tolist(), "height": 7, "width": 9, "within": within})
            expected.append(borders(mask, within or (0, 0, 7, 9)))
    yy, xx = np.mgrid[:21, :21]
    ring = (np.hypot(yy - 10, xx - 10) < 9) & (np.hypot(yy - 10, xx - 10) > 4)
    cases.append({"pixels": ring.ravel().astype(int).tolist(), "height": 21, "width": 21, "within": None})
    expected.append(borders(ring, (0, 0, 21, 21)))
    found = traced(cases)
    assert [edges for edges, _ in found] == expected
    assert found[-1][1] == 2
