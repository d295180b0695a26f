"""An S3 server (moto) in a process of its own that counts what is read and may be slow to answer.

    with CountedS3() as s3:
        s3.delay(0.1)
        ...
        s3.counts()   # {"latent": (GETs, bytes), "text": ...} by the folder in the cache

The environment of the process points at it inside the block.
"""

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections import Counter

BUCKET = "benchmark"
CONTROL = "/-control-"


class CountedS3:
    """Starts the server, and ends it."""

    def __enter__(self) -> "CountedS3":
        command = [sys.executable, "-m", "tests.benchmarks.counted_s3"]
        self._server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.endpoint = self._server.stdout.readline().strip()
        os.environ.update(
            AWS_ENDPOINT_URL=self.endpoint,
            AWS_ACCESS_KEY_ID="testing",
            AWS_SECRET_ACCESS_KEY="testing",
            AWS_DEFAULT_REGION="us-east-1",
            AWS_EC2_METADATA_DISABLED="true",
        )
        import s3fs

        s3fs.S3FileSystem(skip_instance_cache=True).mkdir(BUCKET)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.terminate()
        self._server.wait()

    def delay(self, seconds: float) -> None:
        """Let every answer to a GET take longer."""
        self._ask(f"delay={seconds}")

    def counts(self) -> dict[str, tuple[int, int]]:
        """Return GETs and bytes since the last time, by folder."""
        return {name: tuple(pair) for name, pair in self._ask("counts").items()}

    def _ask(self, what: str) -> dict:
        with urllib.request.urlopen(f"{self.endpoint}{CONTROL}?{what}") as answer:
            return json.load(answer)


class Counting:
    """WSGI in front of moto."""

    def __init__(self, application) -> None:
        self._application = application
        self._gets, self._bytes, self._delay = Counter(), Counter(), 0.0

    def __call__(self, environment, start_response):
        path, query = environment["PATH_INFO"], environment.get("QUERY_STRING", "")
        if path == CONTROL:
            return self._control(query, start_response)
        get = environment["REQUEST_METHOD"] == "GET" and path.count("/") > 1 and "list" not in query
        if not get:
            return self._application(environment, start_response)
        time.sleep(self._delay)
        folder = path.split("/")[3] if path.count("/") > 2 else "?"
        body = b"".join(self._application(environment, start_response))
        self._gets[folder] += 1
        self._bytes[folder] += len(body)
        return [body]

    def _control(self, query, start_response):
        answer = {}
        if query == "counts":
            answer = {name: (self._gets[name], self._bytes[name]) for name in self._gets}
            self._gets, self._bytes = Counter(), Counter()
        else:
            self._delay = float(query.partition("=")[2])
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(answer).encode()]


def serve() -> None:
    """Print where the server listens, and serve."""
    import logging

    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    application = Counting(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, application, threaded=True)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    serve()
