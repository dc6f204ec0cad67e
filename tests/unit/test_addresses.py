"""Which addresses are pushed to."""

from __future__ import annotations

import socket

import pytest

from headgate.handlers.addresses import AddressRefusedError, AllowedNetworks

PRIVATE = {
    "10.0.0.1": "private",
    "172.16.5.4": "private",
    "192.168.1.1": "private",
    "127.0.0.1": "loopback",
    "127.8.9.1": "loopback",
    "169.254.169.254": "link-local",
    "0.0.0.0": "unspecified",  # noqa: S104 - refused
    "0.1.2.3": "not public",
    "100.64.0.1": "not public",
    "192.0.0.8": "not public",
    "192.88.99.1": "not public",
    "198.18.0.1": "not public",
    "192.0.2.1": "private",
    "224.0.0.1": "multicast",
    "255.255.255.255": "not public",
    "240.0.0.1": "not public",
    "::": "unspecified",
    "::1": "loopback",
    "::127.0.0.1": "not public",
    "::ffff:10.0.0.1": "private",
    "::ffff:169.254.169.254": "link-local",
    "::ffff:7f00:1": "loopback",
    "64:ff9b::10.0.0.1": "private",
    "64:ff9b::7f00:1": "loopback",
    "64:ff9b:1::1": "not public",
    "2002:7f00:1::": "not public",
    "2002:808:808::1": "not public",
    "2001:0:4136:e378::1": "not public",
    "2001:db8::1": "private",
    "fe80::1": "link-local",
    "fe80::1%eth0": "link-local",
    "fec0::1": "not public",
    "fc00::1": "private",
    "fd00:ec2::254": "private",
    "ff02::1": "multicast",
}


@pytest.mark.parametrize(("address", "what"), PRIVATE.items())
def test_what_is_not_public_is_refused_and_the_error_says_how_to_allow_it(address: str, what: str) -> None:
    with pytest.raises(AddressRefusedError) as refused:
        AllowedNetworks().check(address)
    said = str(refused.value)
    assert f"address {address} is {what}" in said
    assert "add its network to handler.http.allowNetworks" in said


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8"]
)
def test_what_is_public_is_not(address: str) -> None:
    AllowedNetworks().check(address)


@pytest.mark.parametrize(
    "address", ["2130706433", "0x7f.1", "127.1", "localhost", "", "127.0.0.1.", "017700000001"]
)
def test_an_address_spelt_in_another_way_is_refused(address: str) -> None:
    with pytest.raises(AddressRefusedError, match="no IP address"):
        AllowedNetworks(["127.0.0.0/8"]).check(address)


def test_an_allowed_network_allows_its_own_addresses_and_no_others() -> None:
    networks = AllowedNetworks(["10.1.0.0/16", "fd00::/8"])
    for address in ("10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::10.1.2.3", "fd00::7"):
        networks.check(address)
    for address in ("10.2.0.1", "::ffff:10.2.0.1", "fc00::1", "127.0.0.1"):
        with pytest.raises(AddressRefusedError):
            networks.check(address)


def test_a_public_network_need_not_be_allowed_when_a_private_one_is() -> None:
    AllowedNetworks(["10.0.0.0/8"]).check("8.8.8.8")


@pytest.mark.parametrize("network", ["10.0.0.1/8", "10.0.0/8", "nowhere", ""])
def test_what_is_no_network_is_named(network: str) -> None:
    with pytest.raises(ValueError, match=r"handler\.http.allowNetworks") as raised:
        AllowedNetworks([network])
    assert repr(network) in str(raised.value)


def test_no_socket_is_made_for_a_refused_address() -> None:
    info = (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 80))
    with pytest.raises(AddressRefusedError):
        AllowedNetworks().socket(info)
    AllowedNetworks(["127.0.0.0/8"]).socket(info).close()
