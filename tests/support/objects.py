"""An S3 of one's own: a process that answers as Amazon's would, and forgets all when it ends.

``with ObjectServer() as s3: s3.make_bucket("dems")``, and then with ``storage_options=s3.options``.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from typing import Any, Self

KEY, SECRET = "who-goes-there", "a-very-secret-key"


@dataclass
class ObjectServer:
    """moto's server on a port of its own."""

    port: int = 0

    def __enter__(self) -> Self:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.port = found.getsockname()[1]
        command = [sys.executable, "-W", "ignore", "-c", "from moto.server import main; main()"]
        self._process = subprocess.Popen(
            [*command, "-H", "127.0.0.1", "-p", str(self.port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # Its own credentials are of no matter; those of the machine are not to be looked for.
            env={**os.environ, "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET},
        )
        for _ in range(300):
            try:
                with urllib.request.urlopen(f"{self.url}/moto-api/", timeout=1):
                    return self
            except OSError:
                time.sleep(0.1)
        self.__exit__()
        raise TimeoutError("moto's server does not answer")

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def options(self) -> dict[str, Any]:
        """Options of s3fs."""
        return {"key": KEY, "secret": SECRET, "endpoint_url": self.url}

    @property
    def environment(self) -> dict[str, str]:
        """Variables by which botocore and GDAL find it, and are let in."""
        return {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.url,
            "AWS_S3_ENDPOINT": self.url.removeprefix("http://"),
            "AWS_HTTPS": "NO",
            "AWS_VIRTUAL_HOSTING": "FALSE",
        }

    def files(self) -> Any:
        """A file system of s3fs."""
        import s3fs

        return s3fs.S3FileSystem(**self.options, skip_instance_cache=True)

    def make_bucket(self, name: str) -> None:
        """Make a bucket to put objects into."""
        self.files().mkdir(name)
