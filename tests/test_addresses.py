"""Addresses of clusters: what is none, where nobody listens, and what Ray's refusals mean."""

from __future__ import annotations

import socket

import pytest

from nas import addresses
from nas.errors import UsageError


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
            "no token of the cluster",
        ),
        (ImportError("Ray Client requires pip package `ray[client]`."), r"pip install 'ray\[client\]'"),
        (RuntimeError("Version mismatch"), "Version mismatch"),
    ],
)
def test_what_ray_says_is_put_into_words(error: BaseException, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        raise UsageError(addresses.said("10.0.0.1:6379", error))
