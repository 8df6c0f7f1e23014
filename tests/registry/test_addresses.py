"""Which hosts are connected to: public ones, and those that the operator allows by name."""

import socket
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagestream_es.registry.addresses import Addresses, is_public, normal_host
from imagestream_es.registry.errors import Blocked, Unreachable

PUBLIC = "93.184.216.34"


def addresses(*found, allowed=()):
    """A look-up that finds these addresses for every name."""
    return Addresses(allowed, lambda _, port, **__: [(0, 0, 0, "", (address, port)) for address in found])


@pytest.mark.parametrize(
    "address", [PUBLIC, "8.8.8.8", "172.15.0.1", "172.32.0.1", "192.167.1.1", "2606:4700::1111", "64:ff9b::808:808"]
)
def test_an_address_of_the_internet_is_public(address):
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.255.255.254",
        "0.0.0.0",
        "10.1.2.3",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "100.64.0.1",
        "100.100.100.200",
        "169.254.169.254",
        "168.63.129.16",
        "192.0.0.192",
        "192.0.2.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.1.1.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:8.8.8.8",
        "::127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
        "2002:7f00:1::",
        "2001:0:7f00:1::",
        "2001:db8::1",
        "fe80::1",
        "fe80::1%lo",
        "fec0::1",
        "fc00::1",
        "fd00:ec2::254",
        "ff02::1",
        "100::1",
        "3fff::1",
        "",
        "registry.example.com",
    ],
)
def test_every_other_address_is_not_public(address):
    assert not is_public(address)


@given(st.ip_addresses())
def test_nothing_is_public_that_the_standard_library_knows_as_private(address):
    if is_public(str(address)):
        assert address.is_global
        assert not address.is_multicast


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_in_ipv6_clothes_is_never_public(address):
    assert not is_public(str(IPv6Address(f"::ffff:{address}")))


@given(st.ip_addresses(v=4))
def test_an_address_behind_a_translator_is_as_public_as_itself(address):
    translated = IPv6Address(int(IPv6Address("64:ff9b::")) | int(address))
    assert is_public(str(translated)) == is_public(str(address))


@given(st.sampled_from(["127.0.0.0", "10.0.0.0", "169.254.0.0", "192.168.0.0"]), st.integers(0, 2**16 - 1))
def test_no_address_of_a_private_network_is_public(network, offset):
    assert not is_public(str(IPv4Address(int(ip_address(network)) + offset)))


def test_a_host_is_found_at_its_addresses_in_order_and_each_once():
    assert addresses(PUBLIC, "8.8.8.8", PUBLIC).of("registry.test", 443) == [PUBLIC, "8.8.8.8"]


@pytest.mark.parametrize("found", [["127.0.0.1"], [PUBLIC, "127.0.0.1"], ["10.0.0.1", PUBLIC], ["::ffff:10.0.0.1"]])
def test_one_address_that_is_not_public_blocks_a_host(found):
    with pytest.raises(Blocked, match=r"registry registry\.test blocked"):
        addresses(*found).of("registry.test", 443)


@pytest.mark.parametrize("host", ["registry.test", "REGISTRY.test", "registry.test."])
def test_an_allowed_host_may_be_anywhere(host):
    assert addresses("10.0.0.1", allowed=["Registry.Test"]).of(host, 5000) == ["10.0.0.1"]


@pytest.mark.parametrize("host", ["other.test", "a.registry.test", "registry.test.evil.test", "10.0.0.1"])
def test_only_the_allowed_host_itself_is_allowed(host):
    with pytest.raises(Blocked):
        addresses("10.0.0.1", allowed=["registry.test"]).of(host, 5000)


@pytest.mark.parametrize("host", ["2130706433", "0177.0.0.1", "0x7f.1", "127.1", "0", "localhost", "::1", "127.0.0.1"])
def test_no_spelling_of_a_loopback_address_gets_through(host):
    with pytest.raises(Blocked):
        Addresses().of(host, 80)


@pytest.mark.parametrize("error", [socket.gaierror(-2, "Name or service not known"), UnicodeError("label too long")])
def test_a_name_that_cannot_be_resolved_is_unreachable(error):
    def look_up(*_, **__):
        raise error

    with pytest.raises(Unreachable, match=r"registry\.test cannot be resolved"):
        Addresses((), look_up).of("registry.test", 443)


def test_a_name_without_addresses_is_unreachable():
    with pytest.raises(Unreachable):
        addresses().of("registry.test", 443)


@pytest.mark.parametrize(("host", "normal"), [("[::1]", "::1"), ("A.b.", "a.b"), ("10.0.0.1", "10.0.0.1")])
def test_hosts_are_compared_in_one_spelling(host, normal):
    assert normal_host(host) == normal
