"""Keys on the Annotate page and in its menus and sliders."""

from __future__ import annotations

import pytest

from tests.ui.annotating import drag, kinds

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def drawn_by(visitor):
    """The tool in hand."""
    return visitor.page.get_attribute("[data-part=stage]", "data-tool")


def test_keys_mean_the_same_after_the_mouse_used_a_slider_or_a_menu(world, visitor):
    store, _, (first, _), _ = world
    page = visitor.page
    page.locator("[data-part=granularity]").click()
    page.keyboard.press("b")
    assert drawn_by(visitor) == "brush"
    drag(visitor, (10, 20), (10, 40))
    size = page.locator("[data-part=brush-size]")
    size.click()
    before = int(size.input_value())
    page.keyboard.press("ArrowRight")
    assert int(size.input_value()) == before + 1
    visitor.press("Control+z")
    visitor.revision(3)
    assert kinds(store, first) == ["open", "edit", "undo"]
    menu = page.locator("[data-part=overlap]")
    menu.focus()
    page.keyboard.press("ArrowDown")
    assert menu.input_value() == "replace"
    page.keyboard.press("l")
    assert drawn_by(visitor) == "lasso"


def test_the_keys_of_a_menu_that_is_open_are_its_own(visitor):
    page = visitor.page
    menu = page.locator("[data-part=overlap]")
    menu.focus()
    page.keyboard.press("Space")
    page.wait_for_selector("[data-part=overlap]:open")
    for key in ("b", "ArrowDown", "Enter"):
        page.keyboard.press(key)
    page.wait_for_selector("[data-part=overlap]:not(:open)")
    assert drawn_by(visitor) == "point"
    assert menu.input_value() == "replace"


TYPED = """([platform, key, options]) => {
    Object.defineProperty(navigator, "platform", { configurable: true, get: () => platform });
    const event = new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true, ...options });
    document.querySelector(".ann [data-part=stage]").dispatchEvent(event);
    return event.defaultPrevented;
}"""


def test_brackets_count_where_a_keyboard_has_them_behind_another_key(visitor):
    page = visitor.page

    def typed(platform, key, *held):
        return page.evaluate(TYPED, [platform, key, dict.fromkeys(held, True)])

    def size():
        return int(page.locator("[data-part=brush-size]").input_value())

    for platform, *held in (
        ("Win32", "modifierAltGraph"),
        ("Win32", "ctrlKey", "altKey", "modifierAltGraph"),
        ("Win32", "ctrlKey", "altKey"),
        ("MacIntel", "altKey"),
    ):
        before = size()
        assert typed(platform, "[", *held)
        assert size() < before
        assert typed(platform, "]", *held)
        assert size() == before
    # These are shortcuts of the browser or of the system.
    for platform, key, *held in (
        ("Win32", "[", "altKey"),
        ("Win32", "[", "ctrlKey"),
        ("Win32", "d", "ctrlKey", "altKey"),
        ("MacIntel", "[", "ctrlKey", "altKey"),
        ("MacIntel", "[", "metaKey"),
        ("MacIntel", "[", "metaKey", "altKey"),
        ("MacIntel", "d", "altKey"),
    ):
        before = size()
        assert not typed(platform, key, *held)
        assert size() == before
