"""Looking at a patch in headless Chromium: windows, channels, surroundings, minimap, ruler, touch and pen."""

from __future__ import annotations

from contextlib import ExitStack

import numpy as np
import pytest

from alapp.domain import PatchRole, VoxelSize
from alapp.rounds import importing
from alapp.rounds.annotate import annotation
from alapp.storage import annotations, catalogue
from alapp.storage import rounds as round_rows
from alapp.ui.annotate import annotate
from tests.ui import annotating
from tests.ui.annotating import drag, kinds, mask_of

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture
def opened(store, chromium):
    """`opened(pixels, patch_size, which, **options)`: a visitor on a patch of an image, and the patch."""
    with ExitStack() as closing:

        def open_(pixels, patch_size, which=0, voxel_size=None, **options):
            made = catalogue.create_project(store, "looks", patch_size=patch_size, patch_depth=4)
            importing.add_array(store, made.id, "image", pixels, voxel_size=voxel_size or VoxelSize())
            patch = catalogue.patches(store, made.id)[which]
            round_rows.add(store, made.id, "random", 1, 0, [(patch.id, PatchRole.TRAIN, {})])
            return closing.enter_context(annotating.opened(chromium, store, made.id, **options)), patch

        yield open_


def colour(visitor, y, x):
    """Red, green, blue of the canvas in the middle of pixel (y, x) of the patch."""
    return visitor.page.evaluate(
        """([y, x]) => {
            const canvas = document.querySelector('.ann canvas');
            const { scale, left, top } = document.querySelector('.ann').viewTransform();
            const at = [left + (x + 0.5) * scale, top + (y + 0.5) * scale].map((n) => n * devicePixelRatio);
            return [...canvas.getContext('2d').getImageData(...at, 1, 1).data].slice(0, 3);
        }""",
        [y, x],
    )


def wait_for_colour(visitor, y, x, expected):
    visitor.page.wait_for_function(
        """([y, x, expected]) => {
            const canvas = document.querySelector('.ann canvas');
            const { scale, left, top } = document.querySelector('.ann').viewTransform();
            const at = [left + (x + 0.5) * scale, top + (y + 0.5) * scale].map((n) => n * devicePixelRatio);
            const found = canvas.getContext('2d').getImageData(...at, 1, 1).data;
            return expected.every((part, i) => Math.abs(part - found[i]) <= 2);
        }""",
        arg=[y, x, list(expected)],
    )


def set_window(visitor, end, value):
    field = visitor.page.locator(f'[data-channel="0"] [data-field="window-{end}"]')
    field.fill(str(value))
    field.press("Tab")


def transform(visitor):
    return visitor.page.evaluate("document.querySelector('.ann').viewTransform()")


def zoom_in(visitor, y, x, times=6):
    visitor.page.mouse.move(*visitor.where(y, x))
    before = transform(visitor)["scale"]
    for _ in range(times):
        visitor.page.mouse.wheel(0, -240)
    visitor.page.wait_for_function(
        "(least) => document.querySelector('.ann').viewTransform().scale > least", arg=before * 1.4 ** (times - 1)
    )
    visitor.frame()


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_a_window_shows_detail_that_was_clipped_and_is_remembered(opened, dtype):
    pixels = np.full((64, 64, 1), 1000, dtype)
    pixels[32:] = 3000
    pixels[10, 10:13, 0] = [40_000, 41_000, 42_000]
    visitor, _ = opened(pixels, 64)
    page = visitor.page
    assert [colour(visitor, 10, x)[0] for x in (10, 11, 12)] == [255, 255, 255]
    page.mouse.move(*visitor.where(10, 11))
    page.get_by_text("y 10, x 11: 41000").wait_for()

    page.get_by_role("button", name="View").click()
    set_window(visitor, 1, 42_000)
    set_window(visitor, 0, 40_000)
    wait_for_colour(visitor, 10, 11, (128, 128, 128))
    assert colour(visitor, 10, 10) == [0, 0, 0]
    assert colour(visitor, 40, 40) == [0, 0, 0]
    # Black may not pass white.
    set_window(visitor, 0, 50_000)
    page.get_by_text("Black must be a smaller intensity").wait_for()
    assert page.input_value('[data-field="window-0"]') == "40000"

    page.reload()
    visitor.ready()
    wait_for_colour(visitor, 10, 11, (128, 128, 128))
    page.get_by_role("button", name="View").click()
    page.get_by_role("button", name="Reset", exact=True).click()
    wait_for_colour(visitor, 10, 11, (255, 255, 255))
    assert page.evaluate("JSON.parse(localStorage.getItem(Object.keys(localStorage)[0])).channels") == {}


def test_nonsense_that_was_remembered_is_left_out(opened):
    visitor, patch = opened(np.full((64, 64, 1), 90, np.uint16), 64)
    page = visitor.page
    page.evaluate(
        """(id) => localStorage.setItem(`alapp-look-${id}`, JSON.stringify({
            gamma: "x", opacity: 1e9, filled: 3,
            channels: {0: {window: [5, 1], colour: "red", shown: "no"}, x: null, 9: {shown: true}},
        }))""",
        patch.project_id,
    )
    page.reload()
    visitor.ready()
    page.keyboard.press("v")
    assert page.inner_text('.ann-slide:has([data-look="gamma"]) output') == "1.00"
    assert page.is_checked('[data-look="filled"]')


def test_channels_are_chosen_and_coloured(opened):
    pixels = np.zeros((64, 64, 3), np.uint16)
    for channel in range(3):
        pixels[20 * channel : 20 * channel + 20, :, channel] = 500
    visitor, _ = opened(pixels, 64)
    page = visitor.page
    assert colour(visitor, 5, 5) == [255, 0, 0]
    assert colour(visitor, 25, 5) == [0, 255, 0]
    page.keyboard.press("v")
    page.get_by_label("Show Channel 1").uncheck()
    wait_for_colour(visitor, 5, 60, (0, 0, 0))
    page.get_by_label("Colour of Channel 2").fill("#ff8000")
    wait_for_colour(visitor, 25, 60, (255, 128, 0))
    assert colour(visitor, 45, 60) == [0, 0, 255]


def test_light_and_the_panel_by_keys(opened):
    pixels = np.full((64, 64, 1), 64, np.uint8)
    pixels[:2], pixels[2:4] = 0, 255
    visitor, _ = opened(pixels, 64)
    page = visitor.page
    panel = page.get_by_role("dialog", name="View")
    assert not panel.is_visible()
    page.keyboard.press("v")
    assert panel.is_visible()
    gamma = page.locator('[data-look="gamma"]')
    gamma.focus()
    page.keyboard.press("End")
    wait_for_colour(visitor, 32, 60, [round(255 * (64 / 255) ** 0.25)] * 3)
    page.keyboard.press("o")
    page.wait_for_function("!document.querySelector('[data-look=filled]').checked")
    page.keyboard.press("Escape")
    assert not panel.is_visible()
    assert page.evaluate("document.activeElement.dataset.part") == "stage"
    # A click beside the panel closes it and sets no point.
    page.keyboard.press("v")
    visitor.click(32, 60)
    assert not panel.is_visible()
    assert page.locator('[data-part="save"][data-saved="true"]').is_visible()
    visitor.press("Control+z")
    assert page.locator('.ann[data-revision="1"], .ann[data-revision="0"]').count() == 1


def test_hidden_objects_come_back_under_the_pointer(opened):
    visitor, _ = opened(np.full((96, 96, 1), 90, np.uint8), 96)
    visitor.press("b")
    drag(visitor, (20, 20), (20, 40))
    visitor.press("Escape")
    drag(visitor, (70, 20), (70, 40))
    visitor.press("Escape", "Escape")
    visitor.page.mouse.move(*visitor.where(90, 90))
    plain = colour(visitor, 90, 60)
    tinted = colour(visitor, 20, 30)
    assert tinted != plain
    visitor.press("Shift+O")
    wait_for_colour(visitor, 20, 30, plain)
    wait_for_colour(visitor, 70, 30, plain)
    visitor.page.mouse.move(*visitor.where(20, 30))
    wait_for_colour(visitor, 20, 33, tinted)
    assert colour(visitor, 70, 30) == plain
    visitor.press("Shift+O", "o")
    wait_for_colour(visitor, 20, 33, plain)


def test_surroundings_are_seen_and_clicks_stay_exact(store, opened):
    pixels = np.full((192, 192, 1), 200, np.uint8)
    pixels[64:128, 64:128] = 100
    pixels[0] = 0
    visitor, patch = opened(pixels, 64, which=4, device_scale_factor=2)
    page = visitor.page
    assert (patch.box.y, patch.box.x) == (64, 64)
    inside = colour(visitor, 32, 32)
    dimmed = [round(0.45 * 255 + 0.55 * 0x6F)] * 3
    wait_for_colour(visitor, 32, -10, dimmed)
    wait_for_colour(visitor, 32, 70, dimmed)
    assert colour(visitor, 32, 32) == inside

    for y, x in [(0, 0), (63, 63), (31, 40)]:
        visitor.click(y, x)
        assert annotations.events(store, patch.id)[-1].payload["positive"] == [[y, x]]
        visitor.press("Escape")
    before = kinds(store, patch)
    visitor.click(32, -5)
    visitor.click(10, 64)
    visitor.press("b")
    drag(visitor, (20, -20), (30, -10))
    assert kinds(store, patch) == before

    page.keyboard.press("w")
    wait_for_colour(visitor, 32, -10, [0x6F] * 3)
    page.reload()
    visitor.ready()
    assert colour(visitor, 32, -10) == [0x6F] * 3
    page.keyboard.press("w")
    wait_for_colour(visitor, 32, -10, dimmed)


def test_the_minimap_shows_and_moves_what_is_seen(store, opened):
    visitor, patch = opened(np.full((256, 256, 1), 90, np.uint8), 256)
    page = visitor.page
    minimap = page.locator("[data-part=minimap]")
    assert not minimap.is_visible()
    zoom_in(visitor, 128, 128)
    assert minimap.is_visible()
    box = minimap.bounding_box()
    assert box["width"] == pytest.approx(132, abs=1)

    def go(y, x):
        page.mouse.move(box["x"] + x / 256 * box["width"], box["y"] + y / 256 * box["height"], steps=4)

    def middle():
        return page.evaluate(
            """() => {
                const { clientWidth: w, clientHeight: h } = document.querySelector('.ann canvas');
                const { scale, left, top } = document.querySelector('.ann').viewTransform();
                return [(h / 2 - top) / scale, (w / 2 - left) / scale];
            }"""
        )

    go(60, 200)
    page.mouse.down()
    assert middle() == pytest.approx([60, 200], abs=3)
    go(180, 90)
    page.mouse.up()
    assert middle() == pytest.approx([180, 90], abs=3)
    visitor.click(180, 90)
    assert annotations.events(store, patch.id)[-1].payload["positive"] == [[180, 90]]
    visitor.press("f")
    assert not minimap.is_visible()


@pytest.mark.parametrize(
    ("voxel_size", "length", "bar"),
    [(VoxelSize(None, 0.5, 0.25), "25 µm (50.0 px)", "5 µm"), (None, "50.0 px", "20 px")],
)
def test_ruler_and_scale_bar(store, opened, voxel_size, length, bar):
    visitor, patch = opened(np.full((100, 100, 1), 90, np.uint8), 100, voxel_size=voxel_size)
    page = visitor.page
    assert page.inner_text("[data-part=scale-text]") == bar
    width = page.locator("[data-part=scale-bar]").bounding_box()["width"]
    assert width == pytest.approx(20 * transform(visitor)["scale"], rel=0.02)
    visitor.press("q")
    drag(visitor, (20, 30), (70, 30))
    label = page.locator("[data-part=ruler]")
    assert label.inner_text() == length
    at = label.bounding_box()
    page.mouse.wheel(0, -400)
    page.wait_for_function("document.querySelector('.ann').viewTransform().scale > 5")
    visitor.frame()
    assert label.inner_text() == length
    assert label.bounding_box() != at
    visitor.press("Escape")
    assert not label.is_visible()
    assert kinds(store, patch) == ["open"]
    visitor.click(50, 50)
    assert kinds(store, patch) == ["open", "click"]


class Hand:
    """Fingers on the canvas, by the browser's own touch events."""

    def __init__(self, visitor):
        self.visitor = visitor
        self.devtools = visitor.context.new_cdp_session(visitor.page)

    def send(self, kind, *places):
        points = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(places)]
        self.devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    def down(self, *places):
        self.send("touchStart", *places)

    def move(self, *places):
        self.send("touchMove", *places)

    def up(self, *left):
        self.send("touchEnd", *left)


def test_fingers_tap_draw_pinch_and_hold(store, opened):
    visitor, patch = opened(np.full((96, 96, 1), 90, np.uint8), 96, has_touch=True)
    page, hand = visitor.page, Hand(visitor)
    hand.down(visitor.where(30, 40))
    hand.up()
    visitor.page.wait_for_selector('.ann[data-revision="2"]')
    assert annotations.events(store, patch.id)[-1].payload["positive"] == [[30, 40]]
    visitor.press("Escape")

    # With the click tool a finger scribbles; a second one takes the scribble back.
    hand.down(visitor.where(48, 20))
    for x in (30, 40, 50):
        hand.move(visitor.where(48, x))
    hand.up()
    visitor.page.wait_for_function("document.querySelector('.ann').dataset.revision >= 5")
    visitor.saved()
    assert len(annotations.events(store, patch.id)[-1].payload["positive"]) > 1
    visitor.press("Escape")
    hand.down(visitor.where(48, 20))
    hand.move(visitor.where(48, 26))
    hand.down(visitor.where(48, 26), visitor.where(80, 80))
    hand.move(visitor.where(48, 26), visitor.where(84, 84))
    hand.up()
    visitor.saved()
    assert annotation.state(store, patch.id).draft is None
    visitor.press("f", "b")

    # A pinch with the brush paints nothing; the place between the fingers stays between them.
    before = transform(visitor)
    x, y = visitor.where(48, 48)
    events = kinds(store, patch)
    hand.down((x - 40, y))
    hand.down((x - 40, y), (x + 40, y))
    for step in range(1, 9):
        hand.move((x - 40 - 10 * step, y + 5 * step), (x + 40 + 10 * step, y + 5 * step))
    hand.up((x + 120, y + 40))
    hand.move((x + 150, y + 90))
    hand.up()
    after = transform(visitor)
    assert after["scale"] == pytest.approx(3 * before["scale"], rel=0.02)
    assert visitor.where(48, 48) == pytest.approx([x, y + 40], abs=2 * after["scale"])
    visitor.saved()
    assert kinds(store, patch) == events
    page.keyboard.press("f")

    # One finger uses the tool; a second one that comes late changes nothing.
    hand.down(visitor.where(20, 20))
    hand.move(visitor.where(20, 40))
    page.wait_for_timeout(500)
    hand.down(visitor.where(20, 40), visitor.where(80, 80))
    hand.move(visitor.where(20, 60), visitor.where(80, 60))
    hand.up()
    visitor.page.wait_for_function("document.querySelectorAll('.ann [data-part=objects] [data-object]').length === 1")
    visitor.saved()
    painted = mask_of(store, patch, 1)
    assert painted[20, 20:60].all()
    assert not painted[50:].any()

    # A finger that is held acts as a right click: the brush erases.
    revision = page.get_attribute(".ann", "data-revision")
    hand.down(visitor.where(20, 40))
    page.wait_for_timeout(800)
    hand.move(visitor.where(20, 50))
    hand.up()
    page.wait_for_function("(old) => document.querySelector('.ann').dataset.revision !== old", arg=revision)
    visitor.saved()
    assert not mask_of(store, patch, 1)[20, 40:51].any()


POINTER = """([kind, options, y, x]) => {
    const canvas = document.querySelector('.ann canvas');
    const rect = canvas.getBoundingClientRect();
    const { scale, left, top } = document.querySelector('.ann').viewTransform();
    canvas.setPointerCapture = () => {}; // there is no such pointer
    canvas.dispatchEvent(new PointerEvent(kind, {
        bubbles: true, cancelable: true, isPrimary: true, ...options,
        clientX: rect.left + left + (x + 0.5) * scale, clientY: rect.top + top + (y + 0.5) * scale,
    }));
}"""


def stroke(visitor, options, *points):
    kinds_ = ["pointerdown", *["pointermove"] * (len(points) - 2), "pointerup"]
    for kind, (y, x) in zip(kinds_, points, strict=True):
        up = {"buttons": 0} if kind == "pointerup" else {}
        visitor.page.evaluate(POINTER, [kind, {**options, **up}, y, x])


@pytest.mark.parametrize("eraser", [{"button": 5, "buttons": 32}, {"button": 2, "buttons": 2}])
def test_a_pen_paints_erases_and_is_not_disturbed_by_the_palm(store, opened, eraser):
    visitor, patch = opened(np.full((96, 96, 1), 90, np.uint8), 96)
    visitor.press("b")
    pen = {"pointerId": 7, "pointerType": "pen"}
    palm = {"pointerId": 8, "pointerType": "touch", "button": 0, "buttons": 1}
    # The palm lands first, and again while the pen draws.
    visitor.page.evaluate(POINTER, ["pointerdown", palm, 80, 80])
    visitor.page.evaluate(POINTER, ["pointerdown", {**pen, "button": 0, "buttons": 1}, 20, 20])
    visitor.page.evaluate(POINTER, ["pointermove", palm, 60, 60])
    visitor.page.evaluate(POINTER, ["pointerdown", {**palm, "pointerId": 9}, 60, 30])
    visitor.page.evaluate(POINTER, ["pointermove", {**pen, "button": -1, "buttons": 1}, 20, 60])
    visitor.page.evaluate(POINTER, ["pointerup", {**palm, "buttons": 0}, 60, 60])
    visitor.page.evaluate(POINTER, ["pointerup", {**palm, "pointerId": 9, "buttons": 0}, 60, 30])
    visitor.page.evaluate(POINTER, ["pointerup", {**pen, "button": 0, "buttons": 0}, 20, 60])
    visitor.saved()
    painted = mask_of(store, patch, 1)
    assert painted[20, 20:61].all()
    assert not painted[40:].any()
    assert list(annotation.state(store, patch.id).objects) == [1]
    stroke(visitor, {**pen, **eraser}, (20, 30), (20, 40), (20, 40))
    visitor.saved()
    assert not mask_of(store, patch, 1)[20, 30:41].any()


class TestServer:
    """What the page may ask for in order to look, asked for as a browser should not."""

    @pytest.fixture
    def call(self, world):
        store, made, (first, _), _ = world
        functions = {function.__name__: function for function in annotate.server_functions(store)}
        base = {"project": made.id, "patch": first.id, "z": 0}
        return lambda name, **message: functions[name]({**base, **message})

    @pytest.mark.parametrize(
        "channels",
        [
            "x",
            [1],
            [{}],
            [{"index": -1}],
            [{"index": 0, "shown": 1}],
            [{"index": 0, "colour": "red"}],
            [{"index": 0, "colour": "#12345"}],
            [{"index": 0, "window": [1]}],
            [{"index": 0, "window": [3, 3]}],
            [{"index": 0, "window": [float("nan"), 3]}],
            [{"index": 0, "window": [0, 1e300]}],
            [{"index": 0}] * 65,
        ],
    )
    def test_channels_that_are_none(self, call, channels):
        for name in ("load_slice", "load_surroundings"):
            assert call(name, channels=channels)["error"]

    def test_places_that_are_none(self, call):
        assert "error" in call("load_intensities", y=0)
        assert "error" in call("load_intensities", y=0, x=1000)
        assert "error" in call("load_intensities", y=0, x=0.5)
        assert "error" in call("load_surroundings", z=3)
        assert "error" in call("load_surroundings", project=10**6)

    def test_a_channel_that_the_image_does_not_have_is_left_out(self, call):
        answer = call("load_slice", channels=[{"index": 5, "shown": True}])
        assert [each["shown"] for each in answer["channels"]] == [True]
