"""Where `call_http` may go on a host that others can reach."""

import ipaddress

import pytest

from perdure.errors import ForbiddenAddressError
from perdure.host.http_reach import ALLOW_SETTING, EVERYWHERE, Reach, is_public, reach_of


def reach(allowed: str = "") -> Reach:
    found, mistakes = reach_of({ALLOW_SETTING: allowed}, is_exposed=True)
    assert mistakes == []
    return found


def admits(where: Reach, host: str, port: int, address: str) -> bool:
    try:
        where.check(host, port, address)
    except ForbiddenAddressError:
        return False
    return True


@pytest.mark.parametrize(
    "address",
    [
        # this machine, unspecified, private, shared, link-local, multicast, broadcast, reserved, documentation
        "127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "172.16.0.1",
        "172.31.255.255",
        "192.168.0.1", "192.168.255.255", "100.64.0.1", "100.127.255.255", "169.254.0.1", "169.254.169.254",
        "224.0.0.1",
        "239.255.255.255", "240.0.0.1", "255.255.255.255", "192.0.2.1", "198.51.100.1", "203.0.113.1", "198.18.0.1",
        "198.19.255.255",
        # what clouds serve to their own machines
        "192.0.0.192", "168.63.129.16", "100.100.100.200", "fd00:ec2::254",
        # the same in IPv6
        "::", "::1", "fe80::1", "fe80::1%eth0", "febf::1", "fc00::1", "fdff::1", "fec0::1", "ff02::1", "ff0e::1",
        "100::1",
        "2001:db8::1", "3fff::1", "2001:10::1", "4000::1", "1::1", "5f00::1",
        # an IPv4 address inside
        "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:7f00:1", "::ffff:10.0.0.1", "::ffff:169.254.169.254",
        "::ffff:0:127.0.0.1",
        "64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::7f00:1", "2002:7f00:1::", "2002:a00:1::",
        "2002:c0a8:1::1",
        "2001:0:7f00:1::", "2001:0:4136:e378:8000:63bf:f5ff:fffe",
    ],
)  # fmt: skip
def test_what_is_not_the_public_internet_is_not_reached(address: str):
    assert not is_public(ipaddress.ip_address(address))
    for port in (80, 443):
        assert not admits(reach(), "name.test", port, address)


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "1.1.1.1", "93.184.216.34", "2606:4700::1111", "2a00:1450::1", "::ffff:8.8.8.8", "64:ff9b::808:808",
     "2002:808:808::1", "172.15.255.255", "172.32.0.1", "100.128.0.1", "11.0.0.1", "168.63.129.17"],
)  # fmt: skip
def test_the_public_internet_is_reached_at_the_ports_of_the_web(address: str):
    assert admits(reach(), "name.test", 80, address)
    assert admits(reach(), "name.test", 443, address)
    for port in (1, 22, 25, 79, 81, 444, 3306, 6379, 8080, 8443, 65535):
        with pytest.raises(
            ForbiddenAddressError, match=rf"port {port} of .*none of the ports of the web.*{ALLOW_SETTING}"
        ):
            reach().check("name.test", port, address)


def test_a_host_that_nobody_else_reaches_goes_everywhere():
    assert reach_of({ALLOW_SETTING: "nonsense here"}, is_exposed=False) == (EVERYWHERE, [])
    assert admits(EVERYWHERE, "localhost", 22, "127.0.0.1")


@pytest.mark.parametrize(
    ("allowed", "admitted", "refused"),
    [
        ("inner.example", [("inner.example", 8080, "10.0.0.1"), ("INNER.example.", 80, "10.0.0.1")],
         [("inner.example.evil", 80, "10.0.0.1"), ("x.inner.example", 80, "10.0.0.1"), ("10.0.0.1", 80, "10.0.0.1")]),
        ("inner.example:8080", [("inner.example", 8080, "10.0.0.1")], [("inner.example", 80, "10.0.0.1")]),
        ("10.1.0.0/16", [("any.test", 22, "10.1.2.3"), ("167772161", 22, "10.1.2.3")], [("any.test", 80, "10.2.0.1")]),
        ("10.1.0.0/16:8080", [("any.test", 8080, "10.1.2.3")], [("any.test", 80, "10.1.2.3")]),
        ("10.0.0.5", [("10.0.0.5", 9, "10.0.0.5")], [("10.0.0.6", 80, "10.0.0.6")]),
        ("[fd00::1]:8080, [fd01::]/16", [("a", 8080, "fd00::1"), ("a", 9, "fd01:1::")], [("a", 9, "fd00::1")]),
        ("*:8443", [("a.test", 8443, "8.8.8.8")], [("a.test", 8443, "10.0.0.1"), ("a.test", 8444, "8.8.8.8")]),
        (" , a.test:1 ,*:2", [("a.test", 1, "10.0.0.1"), ("b.test", 2, "8.8.8.8")], [("a.test", 2, "10.0.0.1")]),
    ],
)  # fmt: skip
def test_the_owner_may_allow_more(
    allowed: str, admitted: list[tuple[str, int, str]], refused: list[tuple[str, int, str]]
):
    where = reach(allowed)

    assert [each for each in admitted if not admits(where, *each)] == []
    assert [each for each in refused if admits(where, *each)] == []


@pytest.mark.parametrize(
    "entry", ["*", "a b", "http://a", "a/b", "10.0.0.0/33", "a:0", "a:65536", "a:", ":80", "10.0.0.1/8", "[::1",
    "2130706433"]
)  # fmt: skip
def test_an_entry_that_means_nothing_allows_nothing_and_is_told(entry: str):
    where, mistakes = reach_of({ALLOW_SETTING: f"ok.test, {entry}"}, is_exposed=True)

    assert [each.host for each in where.targets] == ["ok.test"]
    assert len(mistakes) == 1
    assert f"'{entry}', which allows nothing" in mistakes[0]
