"""An S3 server with an identity for each process, which has just what its shipped policy says."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.compose.prepare import bucket_policy
from producer.embedded.files import write_private
from producer.embedded.seaweedfs import SeaweedFS

POLICIES = {
    path.stem: path for path in sorted((Path(__file__).parents[2] / "deploy" / "s3").glob("*.json"))
}
BUCKET = "edict"
"""As the shipped policies call it."""


class ManyIdentities(SeaweedFS):
    """With one identity for each policy, which may do nothing by itself."""

    def _write_configuration(self) -> None:
        super()._write_configuration()
        file = self.folder / "s3.json"
        configuration = json.loads(file.read_text())
        configuration["identities"] += [
            {
                "name": name,
                "credentials": [{"accessKey": access_key(name), "secretKey": secret_key(name)}],
                "actions": [],
            }
            for name in POLICIES
        ]
        write_private(file, json.dumps(configuration))


def access_key(name: str) -> str:
    return f"KEYOF{name.upper()}"


def secret_key(name: str) -> str:
    return f"the-secret-of-{name}"


@contextmanager
def guarded_bucket(folder: Path) -> Iterator[SeaweedFS]:
    """The bucket of the policies; each is put there for its identity."""
    with ManyIdentities(folder) as server:
        client = server.client()
        client.create_bucket(Bucket=BUCKET)
        client.put_bucket_policy(Bucket=BUCKET, Policy=json.dumps(bucket_policy(BUCKET)))
        client.close()
        yield server
