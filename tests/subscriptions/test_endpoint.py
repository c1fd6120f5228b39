"""Which addresses outgoing calls may reach. interfaces.md (FHIR_SERVER_ENDPOINT_ALLOW), conformance.md K23."""

from __future__ import annotations

import ipaddress

import pytest

from subscriptions.delivery.endpoint import EndpointPolicy, EndpointRefused

STRICT = EndpointPolicy()
LOCAL = EndpointPolicy(loopback=True)

PRIVATE = [
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",
    "224.0.0.1",
    "255.255.255.255",
    "fe80::1",
    "fc00::1",
    "::",
    "ff02::1",
    "::ffff:10.0.0.1",
    "2002:0a00:0001::1",
    "64:ff9b::a00:1",
    "::a00:1",
    "fec0::1",
    "64:ff9b:1::a00:1",
    "::ffff:0:10.0.0.1",
    "2001:4860::5efe:a00:1",
    "3fff::1",
    "5f00::1",
    "192.88.99.1",
    "168.63.129.16",
]


@pytest.mark.parametrize("address", [*PRIVATE, "127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
def test_private_loopback_and_link_local_addresses_are_refused(address: str) -> None:
    assert not STRICT.allows(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", PRIVATE)
def test_loopback_mode_opens_nothing_but_this_machine(address: str) -> None:
    assert not LOCAL.allows(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "::ffff:127.0.0.1"])
def test_loopback_mode_opens_this_machine(address: str) -> None:
    assert LOCAL.allows(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111"])
def test_public_addresses_are_open(address: str) -> None:
    assert STRICT.allows(ipaddress.ip_address(address))


def test_the_allow_list_names_networks_addresses_and_hosts() -> None:
    policy = EndpointPolicy.of("10.0.0.0/8, 192.168.7.7,hooks.internal", loopback=False)
    assert policy.allows(ipaddress.ip_address("10.200.1.1"))
    assert policy.allows(ipaddress.ip_address("192.168.7.7"))
    assert not policy.allows(ipaddress.ip_address("192.168.7.8"))
    assert policy.choose("hooks.internal", ["172.16.0.9"]) == ["172.16.0.9"]
    with pytest.raises(EndpointRefused):
        policy.choose("other.internal", ["172.16.0.9"])
    with pytest.raises(ValueError, match=r"10\.0\.0\.0/99"):
        EndpointPolicy.of("10.0.0.0/99", loopback=False)


def test_a_name_with_one_private_answer_among_public_ones_is_refused() -> None:
    with pytest.raises(EndpointRefused) as told:
        STRICT.choose("evil.example", ["8.8.8.8", "10.0.0.1"])
    assert "evil.example" in str(told.value) and "10.0.0.1" not in str(told.value), "what a name stands for inside is not told"


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("ftp://example.org/x", "http or https"),
        ("example.org/hook", "http or https"),
        ("http:///hook", "http or https"),
        ("http://user:secret@example.org/", "user name"),
        ("http://example.org/#a", "fragment"),
        ("http://example.org/a b", "blanks"),
        ("http://example.org/\r\nX: y", "blanks"),
        ("http://example.org:99999/", "not a URL"),
        ("http://[::1/", "not a URL"),
        ("http://127.0.0.1:9/", "127.0.0.1"),
        ("http://[::1]/", "::1"),
        ("http://169.254.169.254/latest", "169.254.169.254"),
        ("http://localhost/", "this machine"),
        ("http://example.org/随访", "percent-encode"),
        ("http://example.org/a\n", "control characters"),
        ("https://hooks.example.org/x?token=1", None),
    ],
)
def test_an_endpoint_is_judged_as_it_is_written(url: str, complaint: str | None) -> None:
    found = STRICT.complaint(url)
    assert (found is None) if complaint is None else (found is not None and complaint in found)


def test_loopback_endpoints_are_fine_where_loopback_is() -> None:
    assert LOCAL.complaint("http://127.0.0.1:8123/x") is LOCAL.complaint("http://localhost:8123/x") is None
