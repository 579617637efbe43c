"""The page in a browser: what it shows, how it reacts to mouse and keyboard, and that it makes no request."""

import json
import shutil

import pytest
from PIL import Image

from lorun.evaluation.kept import image_path

SHOWN = "#scores .part:not([hidden]) table"


def wait_until(page, condition):
    """Wait for a condition in the page. Playwright's own function needs `eval`, which the page forbids."""
    for _ in range(1200):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    pytest.fail(f"never true: {condition}")


def column(page, heading):
    """The texts of a column of the scores, row by row."""
    return page.evaluate(
        """([selector, heading]) => {
            const table = document.querySelector(selector);
            const at = [...table.tHead.rows[0].cells].findIndex((cell) => cell.innerText.trim().startsWith(heading));
            return [...table.tBodies[0].rows].map((row) => row.cells[at].innerText.trim());
        }""",
        [SHOWN, heading],
    )


def expect_column(page, heading, texts):
    """Assert the texts of a column, after DataTables had time to sort it."""
    for _ in range(100):
        if column(page, heading) == texts:
            return
        page.wait_for_timeout(50)
    assert column(page, heading) == texts


def header(page, heading):
    return page.locator(f"{SHOWN} th").filter(has_text=heading)


def images(page, kind="image"):
    """Method -> red, green, blue of every eighth pixel of every eighth row of its canvas, for those that have one."""
    text = page.evaluate(
        """(kind) => {
            const canvases = [...document.querySelectorAll(`#panels canvas.${kind}`)];
            return JSON.stringify(Object.fromEntries(canvases.map((canvas) => {
            const copy = document.createElement("canvas");
            [copy.width, copy.height] = [canvas.width, canvas.height];
            const context = copy.getContext("2d", { willReadFrequently: true });
            context.drawImage(canvas, 0, 0);
            const { data, width, height } = context.getImageData(0, 0, copy.width, copy.height);
            const pixels = [];
            for (let row = 4; row < height; row += 8)
                for (let column = 4; column < width; column += 8)
                    pixels.push([...data.slice(4 * (row * width + column), 4 * (row * width + column) + 3)]);
            return [canvas.closest("figure").dataset.method, pixels];
            })));
        }""",
        kind,
    )
    return json.loads(text)  # much faster than having Playwright convert every number


def colours(page, selector):
    """Red, green, blue of the text of an element and of the ground behind it."""
    return page.evaluate(
        """(selector) => {
            const numbers = (text) => text.match(/[\\d.]+/g).map(Number);
            const element = document.querySelector(selector);
            const transparent = (element) => numbers(getComputedStyle(element).backgroundColor)[3] === 0;
            let behind = element;
            while (behind.parentElement && transparent(behind)) behind = behind.parentElement;
            const [text, ground] = [getComputedStyle(element).color, getComputedStyle(behind).backgroundColor];
            return [numbers(text).slice(0, 3), numbers(ground).slice(0, 3)];
        }""",
        selector,
    )


def luminance(colour):
    """Relative luminance by WCAG 2."""
    red, green, blue = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in colour))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(page, selector):
    light, dark = sorted(map(luminance, colours(page, selector)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_errors_are_noticed_and_requests_are_forbidden(browser, page_file, watch):
    context = browser.new_context()
    page = context.new_page()
    problems = watch(page)
    page.goto(page_file.as_uri())
    assert problems.errors == problems.requests == []
    fetched = page.evaluate("fetch('http://127.0.0.1:9/').then(() => 'sent', (error) => error.message)")
    loaded = page.evaluate(
        """new Promise((resolve) => {
            document.addEventListener("securitypolicyviolation", (event) => resolve(event.effectiveDirective));
            const image = new Image();
            image.src = "http://127.0.0.1:9/image.png";
        })"""
    )
    assert (fetched, loaded) == ("Failed to fetch", "img-src")
    page.evaluate("console.error('planted')")
    page.evaluate("setTimeout(() => { throw new Error('thrown'); })")
    page.wait_for_timeout(200)
    context.close()
    assert any("planted" in error for error in problems.errors)
    assert any("thrown" in error for error in problems.errors)


def test_without_scripts_the_tables_are_there(browser, page_file):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(page_file.as_uri())
    methods = page.locator("#scores table tbody th").all_inner_texts()
    context.close()
    assert methods == ["block1", "block_k", "lorun", "linear_mmse"] * 2


def assert_fits(page, width):
    assert page.evaluate("document.documentElement.scrollWidth") == width
    page.locator(f"{SHOWN} .score").first.click()
    box = page.locator("dialog[open]").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= width
    assert page.evaluate("document.querySelector('dialog').scrollWidth <= document.querySelector('dialog').clientWidth")


TOPS_OF_PLOTS = """[...document.querySelectorAll('#costs-plot :is(.xtitle, .x2title, .x3title)')].map(
    (title) => Math.round(title.getBoundingClientRect().top))"""


def test_on_a_phone_the_page_fits_and_plots_are_stacked(visit):
    page = visit(width=390)
    assert len(set(page.evaluate(TOPS_OF_PLOTS))) == 3
    assert_fits(page, 390)


@pytest.mark.parametrize("width", [320, 768, 1280])
def test_the_page_is_as_wide_as_the_window(page, width):
    page.set_viewport_size({"width": width, "height": 900})
    wait_until(page, f"document.querySelector('#costs-plot .main-svg').clientWidth < {width}")
    assert_fits(page, width)


def test_plots_keep_their_height_when_the_window_changes(page):
    heights = "[...document.querySelectorAll('.plot:not([hidden]) .main-svg')].map((plot) => plot.clientHeight)"
    wait_until(page, "document.querySelector('#costs-plot .main-svg').clientWidth > 1100")
    before = page.evaluate(heights)
    titles = page.evaluate(TOPS_OF_PLOTS)
    assert len(titles) == 3
    assert len(set(titles)) == 1
    page.set_viewport_size({"width": 1100, "height": 2000})
    wait_until(page, "document.querySelector('#costs-plot .main-svg').clientWidth < 1100")
    assert page.evaluate(heights) == before
    assert min(before) == 400


def test_a_click_sorts_by_number(page):
    header(page, "network").locator(".dt-column-order").click()
    expect_column(page, "network", ["0", "9 000", "50 380", "128 132"])
    assert header(page, "network").get_attribute("aria-sort") == "ascending"
    header(page, "network").locator(".dt-column-order").click()
    expect_column(page, "network", ["128 132", "50 380", "9 000", "0"])
    assert header(page, "network").get_attribute("aria-sort") == "descending"


def test_the_keyboard_sorts(page):
    header(page, "PSNR (dB)").locator(".dt-column-order").focus()
    page.keyboard.press("Enter")
    expect_column(page, "PSNR", ["25.25", "26.00", "27.62", "29.75"])
    page.keyboard.press("Enter")
    expect_column(page, "method", ["block_k", "lorun", "block1", "linear_mmse"])


def test_a_missing_value_can_be_sorted(page):
    header(page, "step (MB)").locator(".dt-column-order").click()
    expect_column(page, "step (MB)", ["–", "1.1", "1.5", "2.3"])


def test_the_filter_leaves_what_matches(page):
    page.locator("#scores .part:not([hidden]) input[type=search]").fill("lorun")
    expect_column(page, "method", ["lorun"])
    page.locator("#scores .part:not([hidden]) input[type=search]").fill("nonsense")
    assert page.locator(SHOWN).get_by_text("No row matches the filter.").is_visible()


def test_the_leading_protocol_comes_first_and_another_can_be_chosen(page):
    choice = page.locator("#scores .part:not([hidden]) .protocol")
    assert choice.input_value() == "cs_float_y"
    assert set(column(page, "PSNR")) == {"26.00", "29.75", "27.62", "25.25"}
    choice.select_option("cs_round_y")
    assert set(column(page, "PSNR")) == {"25.90", "29.65", "27.52", "25.15"}
    choice.select_option("")
    assert sorted(column(page, "protocol")) == ["cs_float_y"] * 4 + ["cs_round_y"] * 4


def test_a_score_opens_its_provenance(page, project):
    page.locator(f"{SHOWN} tr").filter(has_text="lorun").locator(".score").first.click()
    text = page.locator("dialog[open]").inner_text()
    experiment = project.profile.experiment("cs", "r25", "lorun", 0)
    for known in ("0123456789abcdef0123456789abcdef01234567", f"tiny={'d' * 32}.dir", experiment.key, "torch="):
        assert known in text
    assert experiment.config_hash in text
    command = f"--config {project.config} --task cs --setting r25 --method"
    assert f".venv/bin/lorun train {command} pretrain --seed 0\n.venv/bin/lorun train {command} lorun --seed 0" in text
    assert f".venv/bin/lorun evaluate {command} lorun --seed 0" in text
    assert "27.125000" in text  # the score of an image, as in rows.csv
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").count() == 0


def test_the_keyboard_opens_and_closes_provenance(page):
    score = page.locator(f"{SHOWN} .score").first
    score.focus()
    page.keyboard.press("Enter")
    assert page.locator("dialog[open]").is_visible()
    page.keyboard.press("Enter")  # the close button has the focus
    assert page.locator("dialog[open]").count() == 0
    assert score.evaluate("(button) => button === document.activeElement")


def test_a_missing_image_is_a_message(page):
    panel = page.locator("#panels figure[data-method=linear_mmse]")
    assert "not kept" in panel.locator(".absent").inner_text()
    assert panel.locator("canvas").count() == 0
    assert set(images(page)) == {"truth", "block1", "block_k", "lorun"}
    assert page.evaluate("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")


def test_a_damaged_image_and_missing_data_are_messages(visit, project, tmp_path):
    runs = shutil.copytree(project.runs, tmp_path / "runs")
    path = image_path(runs / project.profile.experiment("cs", "r25", "block1", 0).folder, "tiny", "checks")
    path.write_bytes(path.read_bytes()[:40])
    page = visit(project.write(tmp_path / "report.html", runs=runs, data=tmp_path / "none"))
    page.wait_for_selector("#panels canvas")
    assert str(path) in page.locator("#panels figure[data-method=block1] .absent").inner_text()
    assert f"no {tmp_path / 'none'}" in page.locator("#panels figure[data-method=truth] .absent").inner_text()
    assert set(images(page)) == {"block_k", "lorun"}
    page.get_by_label("error", exact=True).check()
    assert page.locator("#panels").get_by_text("no error map").count() == 2


def test_without_runs_the_page_shows_the_strip(visit, project, tmp_path):
    folder = shutil.copytree(project.folder, tmp_path / "tiny")
    Image.new("RGB", (90, 30), "red").save(folder / "strip_cs_tiny_r25.png")
    page = visit(project.write(tmp_path / "report.html", folder=folder, runs=tmp_path / "none"))
    assert page.get_by_text("No reconstructions were found").is_visible()
    assert not page.locator("#viewer").is_visible()
    strip = page.get_by_alt_text("The same crop of a test image by every method, cs, tiny, r25")
    assert strip.evaluate("(image) => image.naturalWidth") == 90


def test_zoom_and_position_are_the_same_in_all_panels(page):
    whole = images(page)
    assert whole["lorun"] == whole["truth"]
    assert whole["block1"] != whole["truth"]
    page.get_by_label("Zoom in").click()
    page.get_by_label("Zoom in").click()
    zoomed = images(page)
    canvas = page.locator("#panels figure[data-method=block1] canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + 100, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + 60, box["y"] + 70, steps=3)
    page.mouse.up()
    moved = images(page)
    for before, after in ((whole, zoomed), (zoomed, moved)):
        assert all(before[method] != after[method] for method in before)
    for seen in (zoomed, moved):
        assert seen["lorun"] == seen["truth"]  # the same pixels, so the same position
        assert [[255 - level for level in pixel] for pixel in seen["block1"]] == seen["truth"]
    page.get_by_role("button", name="Whole").click()
    assert images(page) == whole


def test_the_keyboard_zooms_and_moves(page):
    page.locator("#panels").focus()
    whole = images(page)
    page.keyboard.press("+")
    zoomed = images(page)
    page.keyboard.press("ArrowRight")
    moved = images(page)
    assert whole["truth"] != zoomed["truth"] != moved["truth"]
    assert moved["truth"] == moved["lorun"]
    page.keyboard.press("0")
    assert images(page) == whole


def test_the_wheel_scrolls_the_page_and_zooms_with_control(page):
    page.locator("#panels figure[data-method=block1] canvas").hover()
    top = page.evaluate("scrollY")
    page.mouse.wheel(0, 120)
    wait_until(page, f"scrollY > {top}")
    assert page.locator("#zoom-value").inner_text() == "1.0×"
    page.locator("#panels figure[data-method=block1] canvas").hover()
    page.keyboard.down("Control")
    page.mouse.wheel(0, -200)
    page.keyboard.up("Control")
    wait_until(page, "document.getElementById('zoom-value').innerText === '2.7×'")


def test_error_maps_show_the_distance_to_the_truth(page):
    page.get_by_label("both", exact=True).check()
    page.locator("#gain").fill("10")
    errors = images(page, "error")
    assert set(errors) == {"block1", "block_k", "lorun"}
    assert all(pixel == [0, 0, 4] for pixel in errors["lorun"])  # the lowest colour
    off_by_seven = errors["block_k"][0]
    assert all(pixel == off_by_seven for pixel in errors["block_k"])
    assert off_by_seven == [97, 20, 107]  # level 70, between the stops at 63.75 and 127.5
    page.locator("#gain").fill("20")
    assert images(page, "error")["block_k"][0] == [200, 72, 69]  # level 140
    assert page.locator("#scale-top").inner_text() == "13 or more"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_follow_the_system_and_are_readable(page, scheme):
    page.emulate_media(color_scheme=scheme)
    wait_until(page, f"document.documentElement.dataset.theme === '{scheme}'")
    _, ground = colours(page, "body")
    assert luminance(ground) < 0.05 if scheme == "dark" else luminance(ground) > 0.9
    readable = ("body", ".lead", ".hint", ".links a", ".brand p", "thead th", "tr.ours > th", ".score", ".badge")
    for selector in (*readable, ".panel figcaption span:last-child", ".panel .absent", "#licences-table a"):
        assert contrast(page, selector) >= 4.5, selector


def test_the_button_changes_the_colours(page):
    _, light = colours(page, "body")
    page.get_by_role("button", name="Colours").click()
    page.get_by_role("button", name="Colours: light").click()
    _, dark = colours(page, "body")
    assert luminance(dark) < 0.05 < luminance(light)
    ink = page.evaluate("getComputedStyle(document.querySelector('#costs-plot .xtick text')).fill")
    assert luminance([int(part) for part in ink.removeprefix("rgb(").removesuffix(")").split(", ")]) > 0.5
    page.get_by_role("button", name="Colours: dark").click()
    assert colours(page, "body")[1] == light


def test_every_control_has_a_name(page):
    nameless = page.evaluate(
        """[...document.querySelectorAll("input, select, button, [tabindex], canvas, img")].filter((control) => {
            const name = control.getAttribute("aria-label") || control.getAttribute("alt");
            const texts = [control, ...(control.labels ?? [])].map((element) => element.textContent.trim());
            return !name && texts.every((text) => !text);
        }).map((control) => control.outerHTML)"""
    )
    assert nameless == []


def test_curves_and_points_are_drawn(page):
    names = "(id) => document.getElementById(id).data.map((trace) => trace.name)"
    assert set(page.evaluate(names, "curves-plot")) == {"block1", "block_k", "lorun"}
    first = "document.getElementById('costs-plot').data.filter((trace) => trace.xaxis === 'x' && trace.name)"
    parameters = page.evaluate(f"{first}.map((trace) => [trace.name, trace.x[0]])")
    assert dict(parameters) == {"block1": 9000, "block_k": 128132, "lorun": 50380}
    assert page.get_by_text("there is no bench/scaling.csv").is_visible()


def test_a_point_opens_its_provenance(page):
    point = page.locator("#costs-plot .point").first
    point.scroll_into_view_if_needed()
    box = point.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.up()
    page.locator("dialog[open]").wait_for()
    assert page.locator("#line-title").inner_text().startswith("block1:")
