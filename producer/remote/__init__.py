"""The Python client over HTTP: as `producer.client.Client`, with a URL and a key in its place.

with RemoteClient("https://edict.example.org", key="edict_…") as client:
    source = client.sources.admit("cat.jpg")
    spec = EditSpec(source=source, model=client.model(), base_prompt="a cat", edit_prompt="a dog")
    [job] = client.submit([spec], batch="cats")
    for jobs in client.follow([job.job_id]): ...

`AsyncRemoteClient` is the same with `await`. Both raise what `Client` raises: `InvalidInput` names
the field, `NotFound`, `AccessDenied`, `ServiceUnavailable`. Needs the `remote` extra.
"""

from producer.remote.asynchronous import AsyncRemoteClient
from producer.remote.calls import ResultFile
from producer.remote.synchronous import RemoteClient

__all__ = ["AsyncRemoteClient", "RemoteClient", "ResultFile"]
