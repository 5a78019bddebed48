"""The pages, as a browser gets them."""

import io
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from PIL import Image

from jobs.access import Scope
from jobs.lanes import INTERACTIVE_PRIORITY
from jobs.previews import Previews, Stage
from jobs.specs import EditSpec
from producer.client import Client
from producer.dashboard.commands import as_command
from tests.producer.api.test_doors import bearer
from tests.producer.api.test_jobs import batch_of, made, refused
from tests.producer.conftest import Edict, Finish, png

HOSTILE = """</title><script>alert(1)</script>"'><img src=x onerror=alert(1)>{{7*7}}"""
LOOKS = {"Accept": "text/html"}


class Parts(HTMLParser):
    """What a page is made of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str, attribute: str) -> list[str | None]:
        return [attrs.get(attribute) for name, attrs in self.tags if name == tag]


def looked_at(api: httpx.Client, path: str, **options: Any) -> Parts:
    answer = api.get(path, headers=LOOKS, **options)
    assert answer.status_code == 200, answer.text
    assert "script-src 'self';" in answer.headers["Content-Security-Policy"]
    return Parts(answer.text)


@pytest.fixture
def source(client: Client) -> str:
    return client.sources.upload(png((48, 32)), "cat").uri


@pytest.fixture
def fruit(api: httpx.Client, source: str, finish: Finish) -> list[str]:
    """Three edits with their results; their ids, newest first."""
    jobs = batch_of(api, source, 3, name="fruit")["jobs"]
    finish("fruit", png(colour="red"))
    return [job["id"] for job in reversed(jobs)]


def size_of(answer: httpx.Response) -> tuple[int, int]:
    assert answer.headers["content-type"].startswith("image/")
    with Image.open(io.BytesIO(answer.content)) as image:
        return image.size


def test_a_batch_is_found_and_looked_through(api: httpx.Client, fruit: list[str]) -> None:
    assert "fruit" in looked_at(api, "/").text

    page = looked_at(api, "/batches/fruit")
    assert [attrs["data-job"] for tag, attrs in page.tags if "data-job" in attrs] == fruit
    thumbnail = next(src for src in page.all("img", "src") if src)
    assert size_of(api.get(thumbnail)) == (32, 32)
    assert looked_at(api, "/batches/fruit", params={"prompt": "DOG 1"}).text.count("dog") == 1
    assert "No job is like this" in looked_at(api, "/batches/fruit?state=failed").text


def test_a_job_shows_before_and_after_and_how_to_do_it_again(
    api: httpx.Client, fruit: list[str]
) -> None:
    page = looked_at(api, f"/jobs/{fruit[1]}")

    for source in page.all("img", "src"):
        assert size_of(api.get(str(source))) == (32, 32), source
    kinds = {str(src).rpartition("/")[2].partition("?")[0] for src in page.all("img", "src")}
    assert kinds == {"original", "image", "difference"}
    assert "edict submit edit s3://" in page.text
    links = page.all("a", "rel")
    assert "prev" in links
    assert "next" in links


def test_a_job_that_waits_says_for_what(api: httpx.Client, source: str) -> None:
    [job] = batch_of(api, source, 1)["jobs"]
    page = looked_at(api, f"/jobs/{job['id']}")
    assert "no worker is alive" in page.text
    assert ("div", {"id": "live", "data-refresh": "1"}) in page.tags
    answer = api.post(f"/jobs/{job['id']}/cancel", headers=LOOKS, follow_redirects=True)
    assert "cancelled" in answer.text


def test_what_was_approved_is_exported(
    api: httpx.Client, fruit: list[str], edict: Edict, tmp_path: Path
) -> None:
    made(api.post(f"/v1/jobs/{fruit[0]}/mark", json={"verdict": "approved"}))
    api.post(f"/jobs/{fruit[1]}/mark", data={"verdict": "approved"}, headers=LOOKS)
    made(api.post(f"/v1/jobs/{fruit[2]}/mark", json={"verdict": "rejected"}))
    marked = made(api.get("/v1/jobs", params={"mark": "approved"}))["items"]
    assert [job["id"] for job in marked] == fruit[:2]
    export = ["export", "fruit", "--to", "set", "--format", "jsonl", "--approved", "--json"]
    assert json.loads(edict(*export).stdout)["written"] == 2

    made(api.post(f"/v1/jobs/{fruit[1]}/mark", json={"verdict": None}))

    assert json.loads(edict(*export).stdout) == {
        "written": 1, "kept": 0, "left_out": 2, "missing_count": 0, "flagged": 0,
        "closed": 0,
    }  # fmt: skip
    assert edict(*export[:-2]).exit_code == 2
    refused(api.post(f"/v1/jobs/{fruit[0]}/mark", json={"verdict": "nice"}), 422)


def test_an_edit_is_tried_with_a_form(api: httpx.Client, client: Client) -> None:
    files = {"image": ("cat.png", png(), "image/png")}
    given = {"base_prompt": "a cat", "edit_prompt": "a dog", "steps": "9"}

    answer = api.post("/try", data=given, files=files, headers=LOOKS)

    assert answer.status_code == 303
    job = made(api.get(f"/v1{answer.headers['Location']}"))
    assert (job["lane"], job["spec"]["sampler"]["steps"]) == ("interactive", 9)
    again = api.post("/try", data=given | {"edit_prompt": HOSTILE, "steps": "0"}, files=files)
    assert again.status_code == 422
    assert "sampler.steps" in again.text
    assert "<script>alert" not in again.text
    for page in ("/try", f"/jobs/{job['id']}"):
        assert looked_at(api, page).tags


def test_nothing_that_was_typed_is_read_as_a_page(
    api: httpx.Client, source: str, finish: Finish, client: Client
) -> None:
    # Given hostile texts wherever somebody can type one
    rows = [{"source": source, "base_prompt": HOSTILE, "edit_prompt": HOSTILE + "a"}]
    batch = made(api.post("/v1/batches", json={"name": HOSTILE, "rows": rows}))
    failed = made(
        api.post(
            "/v1/jobs",
            files={
                "image": (HOSTILE, png(), "image/png"),
                "job": (None, json.dumps({"edit_prompt": HOSTILE, "negative_prompt": HOSTILE})),
            },
        )
    )
    finish(HOSTILE, png())
    [claim] = client.store.claim([UUID(failed["id"])], "w", lease=30)
    client.store.fail(claim, HOSTILE[:50], HOSTILE)
    # When every page is looked at
    [job] = batch["jobs"]
    paths = ["/", f"/batches/{batch['id']}", f"/jobs/{job['id']}", f"/jobs/{failed['id']}"]
    pages = [looked_at(api, path) for path in paths]
    pages.append(Parts(api.get(f"/batches/{HOSTILE}x", headers=LOOKS).text))
    pages.append(looked_at(api, "/login", params={"next": HOSTILE}))
    # Then it is text, and ours is the only script
    for path, page in zip([*paths, "missing", "login"], pages, strict=True):
        assert set(page.all("script", "src")) == {"/static/app.js"}, path
        assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
        assert "x" not in page.all("img", "src")
    assert HOSTILE in pages[1].text
    assert "{{7*7}}" in pages[2].text


def test_a_browser_logs_in_with_a_key(guarded: httpx.Client, client: Client) -> None:
    key = client.store.make_api_key("one", Scope.ADMIN)
    own = str(guarded.base_url).rstrip("/")
    turned_away = guarded.get("/batches/fruit", headers=LOOKS)
    assert turned_away.headers["Location"] == "/login?next=%2Fbatches%2Ffruit"
    assert guarded.post("/login", data={"key": "edict_wrong"}).status_code == 401
    assert guarded.get("/static/app.css").status_code == 200

    entered = guarded.post("/login", data={"key": key, "next": "//evil.example/"})

    assert entered.headers["Location"] == "/"
    cookie = entered.headers["Set-Cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert guarded.get("/", headers=LOOKS).status_code == 200
    # A page of another site, or one that hides where it is, changes nothing.
    for origin in ({"Origin": "https://evil.example"}, {}):
        assert guarded.post("/v1/batches/x/pause", headers=origin).status_code == 403
    assert guarded.post("/v1/batches/x/pause", headers={"Origin": own}).status_code == 404
    assert guarded.post("/v1/batches/x/pause", headers=bearer(key)).status_code == 404
    refused(
        guarded.post("/login", data={"key": key}, headers={"Origin": "https://evil.example"}), 403
    )
    guarded.post("/logout", headers={"Origin": own})
    assert guarded.get("/", headers=LOOKS).status_code == 303


def test_a_key_that_may_only_look_gets_no_buttons(
    guarded: httpx.Client, client: Client, finish: Finish
) -> None:
    admin = bearer(client.store.make_api_key("a", Scope.ADMIN))
    reader = bearer(client.store.make_api_key("r", Scope.READ))
    row = {"source": client.sources.upload(png(), "cat").uri, "edit_prompt": "a dog"}
    [job] = made(guarded.post("/v1/batches", json={"name": "b", "rows": [row]}, headers=admin))[
        "jobs"
    ]
    finish("b", png())

    pages = {
        who: Parts(guarded.get(f"/jobs/{job['id']}", headers=LOOKS | key).text)
        for who, key in (("admin", admin), ("reader", reader))
    }

    assert f"/jobs/{job['id']}/mark" in pages["admin"].all("form", "action")
    assert f"/jobs/{job['id']}/mark" not in pages["reader"].all("form", "action")
    marking = guarded.post(f"/jobs/{job['id']}/mark", data={"verdict": "approved"}, headers=reader)
    assert marking.status_code == 403


def test_a_command_survives_the_shell(client: Client, api: httpx.Client, source: str) -> None:
    import shlex

    prompt = "a 'dog' $(rm -rf ~) `id` \"x\" \\ 犬"
    rows = [{"source": source, "base_prompt": "-v", "edit_prompt": prompt, "mask": "auto"}]
    rows[0]["keep_pixels"] = True
    [job] = made(api.post("/v1/batches", json={"rows": rows}))["jobs"]

    words = shlex.split(as_command(client.store.job(UUID(job["id"]))))

    assert words[words.index("--to") + 1] == prompt
    assert words[words.index("--mask") + 1] == "auto"
    assert "--keep-pixels" in words


def test_an_edit_that_runs_is_shown_to_whoever_looks(api: httpx.Client, client: Client) -> None:
    image = client.sources.upload(png((48, 32)), "cat")
    spec = EditSpec(source=image, model=client.model(), edit_prompt="a dog")
    job_id = client.submit([spec], priority=INTERACTIVE_PRIORITY)[0].job_id
    previews, address = Previews(client.app), f"/jobs/{job_id}/preview"
    looked_at(api, f"/jobs/{job_id}")
    # It does not run yet: nobody has to make one.
    assert not previews.is_asked(job_id)
    [claim] = client.store.claim([job_id], "w1", lease=30)
    # Made between two looks of a page: in its place the original.
    answer = api.get(address)
    assert answer.status_code == 303
    assert answer.headers["location"] == f"/jobs/{job_id}/pictures/original?size=512"

    before = looked_at(api, f"/jobs/{job_id}").all("img", "src")
    assert previews.is_asked(job_id)
    assert not [src for src in before if "preview" in str(src)]
    previews.put(job_id, small_webp())
    [shown] = [
        str(src)
        for src in looked_at(api, f"/jobs/{job_id}").all("img", "src")
        if "preview" in str(src)
    ]
    answer = api.get(shown)
    assert (answer.content, answer.headers["cache-control"]) == (small_webp(), "no-store")
    client.store.fail(claim, "bad_image", "broken")
    assert address not in str(looked_at(api, f"/jobs/{job_id}").tags)


def test_a_job_that_runs_says_how_far_it_is(api: httpx.Client, client: Client) -> None:
    image = client.sources.upload(png((48, 32)), "cat")
    spec = EditSpec(source=image, model=client.model(), edit_prompt="a dog")
    job_id = client.submit([spec], priority=INTERACTIVE_PRIORITY)[0].job_id
    client.store.claim([job_id], "w1", lease=30)
    previews, address = Previews(client.app), f"/jobs/{job_id}"
    assert "data-stage" not in api.get(address, headers=LOOKS).text

    previews.tell(job_id, Stage("inverting", 7, 40))
    assert "inverting, step 7 of 40" in looked_at(api, address).text

    # Whoever has Redis may write anything into it.
    previews.tell(job_id, Stage("<script>", 7, 40))
    assert "data-stage" not in api.get(address, headers=LOOKS).text


def small_webp() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), "teal").save(buffer, "WEBP")
    return buffer.getvalue()
