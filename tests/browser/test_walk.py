"""A person with a browser: from an uploaded picture to an export of what was approved."""

import os
import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import MADE, Site

pytestmark = pytest.mark.slow

SCREENSHOTS = os.environ.get("EDICT_TEST_SCREENSHOTS")
"""A folder to leave pictures of the pages in, for the documentation."""

ENDS = 120_000
"""Milliseconds until a job must have ended."""


def picture(page: Page, name: str) -> None:
    if SCREENSHOTS:
        page.screenshot(path=Path(SCREENSHOTS) / f"{name}.png")


def wait_for_pictures(page: Page, selector: str) -> None:
    """Until there are such images and all of them have pixels.

    Playwright's own `wait_for_function` evaluates a string in the page, which the
    Content-Security-Policy forbids as soon as the first look does not do.
    """
    images = page.locator(selector)
    expect(images).not_to_have_count(0)
    for image in images.all():
        expect(image).not_to_have_js_property("naturalWidth", 0)


def test_an_uploaded_picture_is_edited_while_one_looks(page: Page):
    page.goto("/")
    page.get_by_role("link", name="Try").click()
    page.get_by_label("Image").set_input_files(MADE / "peppers.png")
    page.get_by_label("What it shows now").fill("a photo")
    page.get_by_label("What it should show").fill("a pencil sketch")
    page.get_by_text("More").click()
    page.get_by_label("Steps").fill("30")
    page.get_by_role("button", name="Edit").click()

    expect(page).to_have_url(re.compile(r"/jobs/"))
    expect(page.get_by_role("progressbar", name="Progress of this job")).to_be_visible(timeout=ENDS)
    expect(page.get_by_role("status")).to_contain_text("succeeded", timeout=ENDS)
    wait_for_pictures(page, ".compare img")
    expect(page.get_by_role("heading", level=1)).to_contain_text("a pencil sketch")


def test_the_slider_shows_more_of_the_one_or_of_the_other(page: Page):
    page.goto("/batches/fruit")
    page.locator(".card a").first.click()
    slider = page.get_by_role("slider")
    after = page.locator(".compare .after")
    cuts = []
    for value in ("10", "90"):
        slider.fill(value)
        cuts.append(after.evaluate("image => getComputedStyle(image).clipPath"))

    assert cuts[0] != cuts[1]
    assert all("inset" in cut or "polygon" in cut for cut in cuts)


def test_what_was_approved_with_the_keyboard_is_exported_and_nothing_else(
    page: Page, site: Site, tmp_path: Path
):
    page.goto("/batches/fruit")
    expect(page.locator(".card")).to_have_count(6)

    page.get_by_label("Prompt").fill("night")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator(".card")).to_have_count(3)
    page.locator(".card a").first.focus()
    page.keyboard.press("a")
    expect(page.locator("[data-verdict]").first).to_have_text("approved")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("r")
    expect(page.locator("[data-verdict]").nth(1)).to_have_text("rejected")

    page.get_by_label("Mark").select_option("approved")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator(".card")).to_have_count(1)
    chosen = page.locator(".card").get_attribute("data-job")
    site.run("export", "fruit", "--to", str(tmp_path / "out"), "--approved")

    edited = [path.name for path in (tmp_path / "out").rglob("*.edited.png")]
    assert edited == [f"{chosen}.edited.png"]


def test_a_result_is_made_again_and_has_the_same_bytes(page: Page):
    page.goto("/batches/fruit")
    page.locator(".card a").first.click()
    page.get_by_role("button", name="Reproduce").click()

    expect(page.get_by_text("A repetition of job")).to_contain_text("the same bytes", timeout=ENDS)


def test_what_is_least_like_its_original_comes_first_when_asked_for(page: Page):
    page.goto("/batches/fruit")
    page.get_by_label("First").select_option("least similar")
    page.get_by_label("Figures").fill("similarity<1")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator(".card")).to_have_count(6)
    first = page.locator(".card").first.get_attribute("data-job")

    page.get_by_label("First").select_option("most similar")
    page.get_by_role("button", name="Filter").click()

    expect(page.locator(".card").last).to_have_attribute("data-job", str(first))


def test_one_can_go_from_job_to_job_and_back_with_the_keyboard(page: Page):
    page.goto("/batches/fruit")
    first = page.locator(".card").first
    first.locator("a").focus()
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(r"/jobs/"))
    here = page.url

    # A page hears keys once its script has run.
    page.wait_for_load_state()
    page.keyboard.press("ArrowRight")
    expect(page).not_to_have_url(here)
    page.wait_for_load_state()
    page.keyboard.press("ArrowLeft")
    expect(page).to_have_url(here)
    page.wait_for_load_state()
    page.keyboard.press("Escape")
    expect(page).to_have_url(re.compile(r"/batches/"))


def test_a_long_gallery_is_read_to_its_end_and_what_is_far_away_weighs_nothing(
    page: Page, site: Site
):
    words = [part for number in range(200) for part in ("--to", f"a photo {number}")]
    submitted = ("edit", str(MADE / "lemons.png"), "--from", "a photo", *words, "--steps", "2")
    site.run("submit", *submitted, "--batch", "many")
    site.run("cancel", "many", "--yes")
    page.goto("/batches/many")
    cards, more = page.locator(".card"), page.locator("[data-more]")

    for read in (120, 180, 200):
        page.keyboard.press("End")
        expect(cards.nth(read - 1)).to_be_attached()
    expect(more).to_have_count(0)
    expect(cards).to_have_count(200)
    expect(cards.first.locator("a")).to_have_count(0)
    expect(cards.last.locator("a")).to_be_visible()

    page.keyboard.press("Home")
    expect(cards.first.locator("a")).to_be_visible()
    expect(cards.last.locator("a")).to_have_count(0)


@pytest.mark.parametrize("path", ["/", "/batches/fruit", "/try", "job"])
def test_on_a_phone_nothing_is_wider_than_the_screen(browser: Browser, site: Site, path: str):
    with browser.new_context(base_url=site.url, viewport={"width": 360, "height": 740}) as context:
        page = context.new_page()
        page.goto("/batches/fruit" if path == "job" else path)
        if path == "job":
            page.locator(".card a").first.click()
            page.wait_for_url("**/jobs/*")
        page.wait_for_load_state("networkidle")

        assert page.evaluate(TOO_WIDE) == []


TOO_WIDE = """() => [...document.querySelectorAll("body *")]
  .filter((e) => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest(".scroll, pre"))
  .map((e) => `${e.tagName}.${e.className} ends at ${e.getBoundingClientRect().right}`)"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(browser: Browser, site: Site, scheme: str):
    with browser.new_context(base_url=site.url, color_scheme=scheme) as context:  # type: ignore[arg-type]
        page = context.new_page()
        for path in ("/", "/batches/fruit", "/try"):
            page.goto(path)
            assert page.evaluate(POOR_CONTRASTS) == []


POOR_CONTRASTS = """() => {
const channels = (color) => color.match(/[\\d.]+/g).map(Number);
const luminance = ([r, g, b]) => [r, g, b]
  .map((c) => c / 255).map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
  .reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
function ground(element) {
  for (let at = element; at; at = at.parentElement) {
    const color = channels(getComputedStyle(at).backgroundColor);
    if (color.length < 4 || color[3] > 0.99) return color;
  }
  return [255, 255, 255];
}
const poor = [];
for (const element of document.querySelectorAll("body *")) {
  const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
  if (!own || !element.checkVisibility()) continue;
  const style = getComputedStyle(element);
  const [a, b] = [luminance(channels(style.color)), luminance(ground(element))];
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (ratio < 4.5) poor.push(`${element.tagName}.${element.className} ${ratio.toFixed(2)}`);
}
return [...new Set(poor)];
}
"""


def test_every_field_has_a_name(page: Page):
    for path in ("/", "/batches/fruit", "/try"):
        page.goto(path)
        unnamed = page.locator("input:not([type=hidden]), select, textarea").evaluate_all(
            "fields => fields.filter(f => !f.labels.length && !f.ariaLabel).map(f => f.name)"
        )
        assert unnamed == []


def test_the_pages_as_the_documentation_shows_them(page: Page):
    page.goto("/")
    expect(page.get_by_role("link", name="fruit")).to_be_visible()
    picture(page, "dashboard")
    page.goto("/batches/fruit")
    wait_for_pictures(page, ".card img")
    picture(page, "gallery")
    page.locator(".card a").first.click()
    page.wait_for_load_state("networkidle")
    picture(page, "job")
