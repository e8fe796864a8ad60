"""What a page tells and hears of the others on its patch, as the script of the canvas does it."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from alapp.ui.annotate import canvas

HARNESS = """
globalThis.document = { hidden: false, addEventListener() {} };
globalThis.setTimeout = () => 0; // polls happen when the test says so
(async () => {
  const found = [];
  for (const { busy, ends, head } of JSON.parse(require("fs").readFileSync(0))) {
    const link = { busy, asked: [], async ask(name, message) {
      this.asked.push([name, message.patch]);
      if (ends) this.busy = false; // the act's answer comes before this one
      return head;
    } };
    const patch = { id: 7, revision: 3, status: "started" };
    const page = { patch, turn: 1, looking: false, link, root: { getClientRects: () => [{}] }, opened: 0, told: 0 };
    Object.defineProperties(page, Object.getOwnPropertyDescriptors(presence));
    page.takenOver = () => { page.told++; };
    page.openPatch = async () => { page.opened++; };
    await page.poll();
    found.push([link.asked, page.told, page.opened]);
  }
  console.log(JSON.stringify(found));
})();
"""


def polled(*cases):
    """Times that a page with revision 3 of patch 7 is taken over, after one poll for each case."""
    source = (Path(canvas.__file__).parent / "presence.js").read_text(encoding="utf-8")
    given = [{"ends": False, **case} for case in cases]
    done = subprocess.run(["node", "-e", source + HARNESS], input=json.dumps(given), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    # Each poll told the server that the page is there, and none opened the patch anew.
    assert [(asked, opened) for asked, _, opened in found] == [([["head", 7]], 0)] * len(cases)
    return [told for _, told, _ in found]


def head(revision, mine, elsewhere):
    return {"revision": revision, "mine": mine, "elsewhere": elsewhere, "seconds_ago": 1}


@pytest.mark.skipif(shutil.which("node") is None, reason="no node")
def test_a_page_tells_that_it_is_there_while_it_waits_for_a_long_act():
    nothing_new, own_act = head(3, True, False), head(4, True, False)
    other_act, claimed = head(4, False, False), head(4, False, True)
    heads = (nothing_new, own_act, other_act, claimed)
    assert polled(*({"busy": False, "head": each} for each in heads)) == [0, 0, 1, 1]
    # During an act only who holds the patch counts: the revision that the page knows is about to change.
    assert polled(*({"busy": True, "head": each} for each in heads)) == [0, 0, 0, 1]
    # Somebody only looked while this page slept; its act is written all the same.
    assert polled({"busy": True, "head": head(3, True, True)}) == [0]
    # The act came to its end meanwhile, so what the page knows can be compared again.
    assert polled({"busy": True, "ends": True, "head": other_act}) == [1]
