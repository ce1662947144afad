"""Addresses of clusters: what is none, where nobody listens, and what Ray's refusals mean."""

from __future__ import annotations

import socket
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from nas.errors import UsageError
from nas.execution.ray import address as addresses


@pytest.mark.parametrize("address", ["", "nonsense", "host:", ":6379", "host:0", "host:70000", "ray://", "host:six"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="neither auto"):
        addresses.check(address)


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}"])
def test_somebody_listens_or_nobody(form: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = form.format(server.getsockname()[1])
        addresses.check(address)
    with pytest.raises(UsageError, match="nobody listens there"):
        addresses.check(address)
    addresses.check("auto")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionError("Failed to connect to Ray cluster at 10.0.0.1:6379"), "its token is not the one here"),
        (SystemExit(15), "its token is not the one here"),
        (
            RuntimeError("Token authentication is enabled but no authentication token was found."),
            "the cluster's token is missing here",
        ),
        (ImportError("Ray Client requires pip package `ray[client]`."), r"pip install 'nas\[client\]'"),
        (RuntimeError("Version mismatch"), "Version mismatch"),
    ],
)
def test_what_ray_says_is_put_into_words(error: BaseException, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        raise UsageError(addresses.explanation("10.0.0.1:6379", error))


def test_what_is_no_client_server_is_told_from_a_wrong_token() -> None:
    said = addresses.explanation("ray://10.0.0.1:6379", ConnectionError("UNAVAILABLE: Socket closed"))
    assert "does not answer as a client server" in said and "Socket closed" in said and "token" not in said


WITHOUT = """
import sys
sys.modules["grpc"] = None  # as where nobody has installed it
from nas.execution.ray import cluster
from nas.errors import UsageError
try:
    cluster.start("{address}")
except UsageError as error:
    print(error)
"""


def test_ray_s_client_that_is_not_installed_is_said_with_the_extra_that_brings_it(python: Callable[[str], str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"ray://127.0.0.1:{server.getsockname()[1]}"
        said = python(WITHOUT.format(address=address)).strip()
    assert said == (
        f"--address {address}: Ray's client is not installed: pip install 'nas[client]', or give the head node itself, HOST:PORT"
    )
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert any(needed.startswith("ray[client]") for needed in project["optional-dependencies"]["client"])
