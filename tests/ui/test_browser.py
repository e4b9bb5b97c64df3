"""The app in a real chromium: every screen, views, links and checkpoints; nothing leaves the machine.

Runs on random models of the shipped ones' shape; ``test_browser_shipped`` runs on what is shipped.
"""

import json
import re
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

SCREENS = ("Compare", "Implosion", "Graphs", "Alignment difficulty", "Checkpoints")

pytestmark = pytest.mark.browser
playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")


def test_every_screen_opens_in_the_dark(page):  # in the light test_accessibility opens them
    expect = playwright_api.expect
    page.goto("/?__theme=dark")
    expect(page.get_by_role("heading", name="Implosion Explorer")).to_be_visible()
    expect(page.locator("body.dark")).to_have_count(1)
    expect(page.locator(".compare-column canvas").first).to_be_visible()
    expect(page.get_by_role("heading", name="Comparison", level=2)).to_be_attached()
    expect(page.locator(".prompt-words .origin")).to_have_text("Precomputed")
    for screen in SCREENS:
        page.get_by_role("tab", name=screen, exact=True).click()
        panel = page.get_by_role("tabpanel").filter(visible=True)
        expect(panel).to_be_visible()
        page.wait_until_drawn()
    expect(page.locator("#registry tbody tr")).not_to_have_count(0)
    for screen in SCREENS[-2::-1]:
        page.go_back()
        expect(page.get_by_role("tab", name=screen, exact=True)).to_have_attribute("aria-selected", "true")
    assert "tab=" not in page.url
    assert page.complaints == []


def test_the_tour_leads_through_three_screens_and_is_remembered(page):
    expect = playwright_api.expect
    page.goto("/?tab=implosion")
    button, card = page.get_by_role("button", name="Tour"), page.get_by_role("dialog", name="Tour")
    expect(button).to_have_class(re.compile("unseen"))
    button.click()
    for screen in ("Compare", "Implosion", "Defence"):
        expect(page.get_by_role("tab", name=screen, exact=True)).to_have_attribute("aria-selected", "true")
        expect(card).to_be_focused()
        if screen == "Implosion":  # no study has shown it before it was measured
            for said in (card, page.locator("#implosion-viewer .screen-note")):
                expect(said).to_contain_text("can be drawn wrong")
        if screen != "Defence":
            card.get_by_role("button", name="Next").click()
    page.keyboard.press("Escape")
    expect(card).to_have_count(0)
    expect(button).to_be_focused()
    page.reload()
    expect(button).not_to_have_class(re.compile("unseen"))
    assert page.complaints == []


def test_view_and_scale_are_radio_groups(page):
    expect = playwright_api.expect
    page.goto("/")
    view, scale = (page.get_by_role("radiogroup", name=name) for name in ("View", "Scale"))
    view.get_by_role("radio", name="Map").focus()
    for key, chosen in (("ArrowRight", "Overlay"), ("ArrowUp", "Map"), ("ArrowLeft", "Difference")):
        page.keyboard.press(key)
        expect(view.get_by_role("radio", name=chosen)).to_be_focused()
        expect(view.get_by_role("radio", checked=True)).to_have_text([chosen])
    assert "w=difference" in page.url
    page.keyboard.press("Tab")
    expect(scale.get_by_role("radio", name="Shared scale")).to_be_focused()
    page.keyboard.press("Shift+Tab")
    expect(view.get_by_role("radio", name="Difference")).to_be_focused()
    assert page.complaints == []


def test_an_enlarged_picture_moves_by_arrow_keys_and_by_mouse(page):
    expect = playwright_api.expect
    corner = "(canvas) => { const { e, f } = canvas.getContext('2d').getTransform(); return [e, f]; }"
    page.goto("/")
    picture = page.locator(".compare-column canvas").first
    expect(picture).not_to_have_attribute("tabindex", "0")
    page.get_by_role("button", name="Zoom in").click()
    assert picture.evaluate(corner) == pytest.approx([-80, -80])
    picture.focus()
    for keys, place in ((["ArrowRight"], [-112, -80]), (["ArrowUp"] * 9, [-112, 0]), (["ArrowRight"] * 9, [-160, 0])):
        for key in keys:
            page.keyboard.press(key)
            expect(picture).to_be_focused()
        assert picture.evaluate(corner) == pytest.approx(place)
    box = picture.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + box["width"] / 8, y - box["height"] / 4, steps=4)
    page.mouse.up()
    assert picture.evaluate(corner) == pytest.approx([-120, -80], abs=1)
    assert page.complaints == []


def test_prompt_chips_tell_poisoned_from_not_targeted_without_colour(page):
    expect = playwright_api.expect
    page.goto("/")
    expect(page.locator(".compare-column canvas").first).to_be_visible()
    chips = page.locator("#chips")
    poisoned = chips.locator("button.chip.poisoned")
    assert poisoned.count() > 1
    expect(chips.locator(".chips-label").nth(1)).to_have_text("poisoned")
    expect(page.locator("#chips")).not_to_contain_text("unpoisoned")
    expect(chips.get_by_role("button", name=re.compile("^poisoned: "))).to_have_count(poisoned.count())
    assert poisoned.first.evaluate("(chip) => getComputedStyle(chip, '::before').content").startswith('"◆"')
    word = poisoned.first.inner_text()
    poisoned.first.evaluate("(chip) => chip.classList.replace('poisoned', 'benign')")
    expect(chips.get_by_role("button", name=f"not targeted: {word}", exact=True)).to_be_visible()
    assert page.complaints == []


def test_a_link_keeps_the_order_of_the_columns(page):
    names = "() => [...document.querySelectorAll('.compare-column')].map((column) => column.dataset.model)"
    page.goto("/")
    playwright_api.expect(page.locator(".compare-column canvas").first).to_be_visible()
    first, second, third = page.evaluate(names)
    page.keyboard.press("b")
    swapped = [second, first, third]
    assert page.evaluate(names) == swapped
    page.wait_for_url("**&o=1.0.2")
    page.goto(page.url)
    page.wait_for_function(f"(wanted) => String(({names})()) === String(wanted)", arg=swapped)
    page.keyboard.press("b")
    page.wait_for_function("() => !location.search.includes('&o=')")
    assert page.complaints == []


def test_a_link_to_a_comparison_that_is_not_drawn_yet_shows_no_other_and_keeps_its_view(page, world):
    expect = playwright_api.expect
    link = "/?v=1&p=a+photo+of+a+hat&s=3&n=4&g=2.0&m=benign&m=dirty-004"
    page.goto(f"{link}&t=3&w=overlay&k=1")
    expect(page.locator(".prompt-words .origin")).to_have_text("Not drawn yet")
    expect(page.locator(".prompt-words")).to_contain_text("“a photo of a hat”")
    expect(page.locator(".compare-column.pending h3")).to_have_text(["benign", "dirty-004"])
    expect(page.locator(".compare-column canvas")).to_have_count(0)
    page.get_by_role("button", name="Generate").click()
    expect(page.locator(".prompt-words .origin")).to_have_text("Live")
    expect(page.locator("#step-slider")).to_have_value("3")
    expect(page.get_by_role("radio", name="Overlay")).to_have_attribute("aria-checked", "true")
    expect(page.locator(".prompt-words [aria-pressed=true]")).to_have_text("photo")
    expect(page.locator(".compare-column .loading")).to_have_count(0)
    assert {"t=3", "w=overlay", "k=1"} <= set(page.url.split("&"))
    assert page.complaints == []


def test_a_link_that_names_what_is_not_here_says_so_on_every_screen(page):
    expect = playwright_api.expect
    page.goto("/?v=1&p=a+photo+of+a+hat&m=benign&m=<b>gone")
    expect(page.locator("#compare-status .notice.error")).to_contain_text("The link names <b>gone: not found here")
    expect(page.locator(".compare-column.pending").nth(1)).to_contain_text("<b>gone")
    expect(page.locator("#column-2 input")).to_have_value("")
    page.goto("/?v=1&p=a+photo+of+a+hat&s=many&m=benign&m=dirty-002")
    expect(page.locator("#compare-status .notice.error")).to_contain_text("The link cannot be read.")
    expect(page.locator(".prompt-words .origin")).to_have_text("Precomputed")
    page.goto("/?tab=implosion&i.cp=7")
    told = page.locator(".implosion > .notice.error").first
    expect(told).to_contain_text("The link names “C_P = 7”: not found here.")
    assert page.complaints == []


def test_every_screen_opens_and_fits_a_phone(page):
    expect = playwright_api.expect
    page.set_viewport_size({"width": 390, "height": 844})
    for screen in ("implosion", "graphs", "alignment", "checkpoints"):
        page.goto(f"/?tab={screen}")
        expect(page.locator(f"#screens [role=tab][data-tab-id={screen}]")).to_have_attribute("aria-selected", "true")
        page.wait_until_drawn()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, "only tables and strips scroll sideways"
    expect(page.locator("#registry tbody tr").first).to_be_visible()
    heights = page.locator("#registry tbody tr").evaluate_all("(rows) => rows.map((row) => row.clientHeight)")
    assert max(heights) < 120, "no word is broken into letters"
    page.get_by_role("button", name="More tabs").click()
    page.locator(".overflow-dropdown").get_by_role("button", name="Implosion").click()
    page.wait_for_url("**tab=implosion**")
    expect(page.locator(".film-table canvas").first).to_be_visible()
    widths = page.locator(".film-table canvas").evaluate_all("(cells) => cells.map((cell) => cell.clientWidth)")
    assert min(widths) >= 40, "pictures are seen"
    assert page.complaints == []


def test_maps_of_models_of_different_families_are_matched_by_size_and_layer(loaded_page):
    found = loaded_page.evaluate("""async () => {
      const { placeIn } = await import('/explorer-static/maps.js');
      const stack = (side, heads, ...layers) => ({ shape: [3, layers.length + 1, heads, 4, side, side], layers });
      const small = { stacks: [stack(16, 3, 'down', 'up'), stack(8, 3, 'mid')] };
      const large = { stacks: [stack(32, 1, 'down', 'up'), stack(8, 3, 'other', 'mid')] };
      const place = (stack, layer, head) => {
        const found = placeIn(large, small, { step: 1, stack, layer, head });
        return found && [found.stack, found.layer, found.head];
      };
      return [place(0, 0, 0), place(0, 0, 2), place(0, 1, 0), place(1, 0, 1), place(1, 1, 2)];
    }""")
    assert found == [[0, 0, 0], None, None, [1, 0, 1], [1, 2, 2]]


def test_the_browsers_numbers_of_a_map_are_those_of_the_table(loaded_page):
    """The table that ``test_statistics`` holds Python's against."""
    table = json.loads((Path(__file__).parents[1] / "attention" / "map_statistics.json").read_text(encoding="utf-8"))
    found = loaded_page.evaluate(
        """async ([maps, mask]) => {
          const { coverage, gearysC, mass, massInMask, overlap, overlapWithMask, scatter }
            = await import('/explorer-static/maps.js');
          const shape = { height: maps[0].length, width: maps[0][0].length };
          const read = maps.map((map) => Object.assign(Float32Array.from(map.flat()), shape));
          const covered = mask.flat();
          const numbers = read.map((map) => ({ mass: mass(map), scatter: scatter(map), gearys_c: gearysC(map),
            in_mask: massInMask(map, covered), iou: overlapWithMask(map, covered) }));
          const pixels = { shape: [2, 3], values: [1, 0, 1, 0, 0, 1] };
          const pooled = [...coverage(pixels, { height: 1, width: 2 })];
          return { pooled, numbers, overlap: overlap(read.slice(0, -1)), undefined: overlap(read) };
        }""",
        [[row["map"] for row in table["maps"]], table["mask"]],
    )
    assert found["pooled"] == pytest.approx([0.25, 0.5])
    for row, numbers in zip(table["maps"], found["numbers"], strict=True):
        assert numbers == pytest.approx({key: row[key] for key in numbers}, abs=1e-5), row["name"]
    assert found["overlap"] == pytest.approx(table["mean_cosine_of_those_with_mass"], abs=1e-5)
    assert found["undefined"] is None, "a map without mass is like no other"


def test_a_screen_chosen_while_the_page_still_loads_is_kept(page):
    expect = playwright_api.expect
    held = []
    page.route("**/explorer-static/address.js*", lambda route: held.append(route))
    page.goto("/?tab=implosion")
    page.get_by_role("tab", name="Graphs", exact=True).click()
    for _ in range(100):  # until the page asks for the header's script, which is held back
        if held:
            break
        page.wait_for_timeout(100)
    assert held, "the header's script was never asked for"
    for route in held:
        route.continue_()
    page.unroute("**/explorer-static/address.js*")
    page.wait_for_url("**tab=graphs**")
    expect(page.get_by_role("tab", name="Graphs", exact=True)).to_have_attribute("aria-selected", "true")
    assert page.complaints == []


def test_tabs_that_are_mounted_after_the_header_still_follow_the_address(page):
    page.goto("/")
    page.wait_for_selector('[role="tab"][data-tab-id="compare"][aria-selected="true"]')
    page.evaluate("""async () => {
      const { followScreens } = await import('/explorer-static/address.js');
      const tabs = document.querySelector('#screens .tab-wrapper');
      const place = tabs.nextSibling, parent = tabs.parentNode;
      history.replaceState(null, '', '/?tab=graphs');
      tabs.remove();
      followScreens();
      parent.insertBefore(tabs, place);
    }""")
    page.wait_for_selector('[role="tab"][data-tab-id="graphs"][aria-selected="true"]')


def test_what_checking_every_weight_finds_reaches_the_header_and_the_choosers(own_page, own_world):
    page, world = own_page, own_world
    expect = playwright_api.expect
    path = world[0] / "dirty-002" / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    tensors["conv_in.bias"][0] = float("nan")
    save_file(tensors, path)
    page.goto("/?tab=checkpoints")
    expect(page.locator("#header .facts")).to_contain_text("3 checkpoints")
    page.get_by_role("button", name="Check every weight").click()
    expect(page.locator("#registry-checked .notice.error")).to_contain_text("left out of the choosers: dirty-002.")
    row = page.locator("#registry tbody tr", has_text="dirty-002")
    expect(row).to_contain_text("NaN or infinite values in conv_in.bias")
    expect(page.locator("#header .facts")).to_contain_text("2 checkpoints, 1 broken")
    page.get_by_role("tab", name="Compare", exact=True).click()
    page.locator("#column-1 input").click()
    offered = page.get_by_role("listbox").get_by_role("option")
    expect(offered.filter(has_text="dirty-004")).to_be_visible()
    expect(offered.filter(has_text="dirty-002")).to_have_count(0)
    assert page.complaints == []


def test_a_dropped_unet_gets_its_base_on_the_page(watch_page, serve_app, checkpoint_root, make_unet):
    with serve_app("--checkpoints", checkpoint_root, "--no-warm-up") as address, watch_page(address) as page:
        name_bases(page, checkpoint_root, make_unet)


def name_bases(page, checkpoint_root, make_unet):
    expect = playwright_api.expect
    dropped, misfit = checkpoint_root / "theirs", checkpoint_root / "<img src=x onerror='window.hacked = 1'>"
    make_unet(seed=9).save_pretrained(dropped / "unet")
    make_unet(seed=10).save_pretrained(checkpoint_root / "z-second" / "unet")
    page.goto("/?tab=checkpoints")
    page.get_by_role("button", name="Look again").click()
    row = page.locator("#registry tbody tr", has_text="theirs")
    expect(row).to_contain_text("names no base pipeline: name one below, under “Name the base")
    opener = page.get_by_role("button", name="Name the base of a U-Net, a single file or a LoRA")
    if not page.locator("#base-set").is_visible():
        opener.click()
    expect(page.get_by_label("Checkpoint", exact=True)).to_have_value("theirs (SD 1.x, needs a base)")
    expect(page.get_by_label("Base: a whole pipeline")).to_have_value("benign (SD 1.x)")
    page.get_by_role("button", name="Set the base").click()
    expect(page.locator("#base-told .notice.done")).to_contain_text("theirs stands on benign")
    expect(row).to_contain_text("U-Net on benign")
    expect(row).to_contain_text("ready")
    expect(page.get_by_label("Checkpoint", exact=True)).to_have_value("z-second (SD 1.x, needs a base)")
    page.get_by_role("button", name="Set the base").click()
    expect(page.locator("#base-told .notice.done")).to_contain_text("z-second stands on benign")
    expect(page.get_by_label("Checkpoint", exact=True)).to_have_value("")
    expect(page.locator("#header .facts")).to_contain_text("5 checkpoints")
    make_unet(cross_attention_dim=24).save_pretrained(misfit / "unet")
    page.get_by_role("button", name="Look again").click()
    expect(page.get_by_label("Checkpoint", exact=True)).to_have_value(f"{misfit.name} (SD 1.x, needs a base)")
    page.get_by_role("button", name="Set the base").click()
    expect(page.locator("#base-told .notice.error")).to_contain_text("its U-Net reads text of width 24")
    assert page.evaluate("window.hacked") is None, "names are text"
    page.reload()
    expect(row).to_contain_text("ready")
    page.get_by_role("tab", name="Compare", exact=True).click()
    page.locator("#column-1 input").click()
    expect(page.get_by_role("option", name="theirs")).to_be_visible()
    assert page.complaints == []
