"""What every test stands on: one thread, no telemetry, no network, and an S3 server of its own.

    def test_something(s3_url):          # a fresh, empty prefix, through the real S3 protocol
        open_store(s3_url).put("a", b"1")

`store_url` runs a test twice, on a local folder and on S3.
"""

import atexit
import os
import shutil
import sys
import tempfile
import uuid

# Set before any test file imports the libraries that read them.
os.environ.update(
    OMP_NUM_THREADS="1",
    RAY_USAGE_STATS_ENABLED="0",
    MLFLOW_DISABLE_TELEMETRY="true",
    DO_NOT_TRACK="true",
    HF_HUB_OFFLINE="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    TRANSFORMERS_OFFLINE="1",
    TOKENIZERS_PARALLELISM="false",
)

import pytest
from hypothesis import settings

settings.register_profile("vdp", deadline=None)  # a busy machine is no failure
settings.load_profile("vdp")

pytest.register_assert_rewrite("tests.conformance")

# Ray reads its token once a process: all tests share one, and none is left in the home folder.
os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="vdp-test-state-")
atexit.register(shutil.rmtree, os.environ["XDG_STATE_HOME"], ignore_errors=True)
for _name in ("RAY_AUTH_TOKEN_PATH", "RAY_AUTH_TOKEN", "RAY_AUTH_MODE", "RAY_ADDRESS"):
    os.environ.pop(_name, None)

UNSET = ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_MAX_ATTEMPTS", "AWS_ENDPOINT_URL_S3")
"""What the environment of a developer may hold and a test must not see."""


@pytest.fixture(autouse=True)
def one_thread():
    """Keep torch to one thread, wherever it has been imported."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(scope="session")
def s3_server():
    """Give the URL of an S3 server on a free loopback port, and point the environment at it."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name in UNSET:
            patch.delenv(name, raising=False)
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("AWS_CONFIG_FILE", os.devnull)
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
        yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="session")
def s3(s3_server):
    """Give the URL of a bucket on the S3 server."""
    import s3fs

    bucket = f"test-{uuid.uuid4().hex}"
    s3fs.S3FileSystem(skip_instance_cache=True).mkdir(bucket)
    return f"s3://{bucket}"


@pytest.fixture
def s3_url(s3):
    """Give an S3 prefix that nothing else uses."""
    return f"{s3}/{uuid.uuid4().hex}"


@pytest.fixture(params=["disk", "s3"])
def store_url(request, tmp_path):
    """Give the URL of an empty store, on a local disk and then on S3."""
    return str(tmp_path / "store") if request.param == "disk" else request.getfixturevalue("s3_url")
