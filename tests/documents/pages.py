"""What a page takes for granted: written here, so that it need not be written there."""

from dataclasses import dataclass, field

_SUBMIT_FRUIT = """
edict submit edit lemons.jpg --from 'a photo of lemons' --to 'blue lemons' --batch fruit \
    --steps 4 --wait
"""
_APPROVE = """
python - <<'END'
from jobs.filters import JobFilter
from jobs.marks import Verdict
from jobs.settings import load_settings
from producer.client import Client

with Client(load_settings()) as client:
    for job in client.jobs(JobFilter(batch=client.batch("fruit").id)):
        client.store.mark(job.id, Verdict.APPROVED, "a reader")
END
"""
_SUBMIT_AND_LOSE = """
python - <<'END'
import time
from jobs.settings import load_settings
from jobs.specs import EditSpec, SamplerOptions
from jobs.states import State
from producer.client import Client

with Client(load_settings()) as client:
    client.store.open_batch("fruit")
    client.pause("fruit")
    source = client.sources.upload(open("photographs/apples.jpg", "rb").read(), "apples")
    spec = EditSpec(
        source=source, model=client.model(), base_prompt="apples", edit_prompt="blue lemons",
        sampler=SamplerOptions(steps=4),
    )
    [made] = client.submit([spec], batch="fruit", force=True)
    client.objects.delete(source.uri.split("/", 3)[3])
    client.resume("fruit")
    for [job] in client.follow([made.job_id]):
        pass
    assert job.state is State.FAILED, job
    open("variables.sh", "w").write(f"JOB={job.id}\\n")
END
"""
_UPLOAD = """
python - <<'END'
from pathlib import Path
from jobs.objects import ObjectStore
from jobs.settings import load_settings

store = ObjectStore.from_settings(load_settings())
for folder in ("photos/2026/", "photos/inbox/"):
    for name, kind in (("cat.jpg", "image/jpeg"), ("cat.txt", "text/plain")):
        store.put(folder + name, Path(name).read_bytes(), kind)
END
"""
_SIGNED = """
from datetime import UTC, datetime

from standardwebhooks import Webhook

secret, body, now = "whsec_" + "A" * 32, '{"type": "job.succeeded"}', datetime.now(UTC)
headers = {
    "webhook-id": "1",
    "webhook-timestamp": str(int(now.timestamp())),
    "webhook-signature": Webhook(secret).sign("1", now, body),
}
"""


@dataclass(frozen=True)
class Ground:
    """`before`: a script; `texts`: what stands there and what is meant; `prelude`: of Python."""

    before: str = ""
    texts: dict[str, str] = field(default_factory=dict)
    prelude: str = ""


GROUNDS = {
    # The tiny model reads 16 tokens, and has few words.
    "README.md": Ground(
        texts={"a pencil sketch of a cat": "a sketch", "a photo of a cat at night": "a night"}
    ),
    "api.md": Ground(
        before="echo export KEY=$(edict keys create docs --scope admin) > variables.sh"
    ),
    "bulk.md": Ground(
        before=_UPLOAD + 'printf "file_path,caption\\ncat.jpg,a photo of a cat\\n" > captions.csv'
    ),
    "dashboard.md": Ground(before=_SUBMIT_FRUIT + _APPROVE),
    "results.md": Ground(
        texts={"edited/0001-blue-lemons-3f6f1f1f.webp": "$(ls edited/*.webp | head -1)"}
    ),
    "schedules.md": Ground(before=_UPLOAD + _SUBMIT_FRUIT),
    "steering.md": Ground(
        before=_SUBMIT_AND_LOSE, texts={"0199e0c4-5b1e-7c3a-9d2f-3f6f1f1f2a10": "$JOB"}
    ),
    "webhooks.md": Ground(prelude=_SIGNED),
}
