"""The gallery's page as a browser lays it out."""

import pytest
from playwright.sync_api import Browser

from producer.gallery import Summary
from producer.gallery.build import Card, Picture, render

pytestmark = pytest.mark.slow

PIXEL = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"


@pytest.mark.parametrize("width", [1280, 1440, 1920])
def test_six_pictures_of_an_image_stand_side_by_side_and_a_seventh_below(
    browser: Browser, width: int
) -> None:
    pictures = [Picture(str(number), [], uri=PIXEL) for number in range(7)]
    card = Card("a cat", "a photo", "", "", exact=True, psnr=30.0, pictures=pictures)
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.set_content(render([card], Summary("the demo", [])))

    boxes = [figure.bounding_box() for figure in page.locator("figure").all()]
    page.close()

    tops = [box["y"] for box in boxes if box is not None]
    assert len(tops) == 7
    assert len(set(tops[:6])) == 1
    assert tops[6] > tops[0]
