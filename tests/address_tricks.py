"""Ways to write an address of a machine so that a check of its text would not know it."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

# This machine, its unspecified address, a private network, and where clouds keep what nobody else may read.
TARGETS = ("127.0.0.1", "127.8.9.10", "0.0.0.0", "10.0.0.1", "192.168.1.1", "169.254.169.254", "168.63.129.16")

NAMES = (
    "localhost", "LOCALHOST", "localhost.", "loop.test", "loop6.test", "mapped.test", "zero.test", "private.test",
    "metadata.test", "several.test", "siit.test", "nat64.test", "sixtofour.test", "compatible.test", "site.test",
    "wire.test", "LOOP.TEST", "loop.test.",
)  # fmt: skip

IN_V6 = (
    "::1", "0:0:0:0:0:0:0:1", "0000:0000:0000:0000:0000:0000:0000:0001", "::", "::0", "fe80::1", "fec0::1", "fd00::1",
    "fd00:ec2::254", "ff02::1", "::ffff:127.0.0.1", "::ffff:7f00:1", "::FFFF:7F00:0001", "0:0:0:0:0:ffff:127.0.0.1",
    "::ffff:0:127.0.0.1", "::127.0.0.1", "::7f00:1", "::ffff:10.0.0.1", "::ffff:a9fe:a9fe", "64:ff9b::127.0.0.1",
    "64:ff9b::7f00:1", "64:ff9b:1::7f00:1", "2002:7f00:1::", "2002:7f00:0001::1", "2002:a9fe:a9fe::", "2001:0:7f00:1::",
    "2001:db8::1", "100::1", "::ffff:168.63.129.16", "fe80::1%25lo", "::ffff:0.0.0.0",
)  # fmt: skip


def numerals(address: str) -> Iterator[str]:
    """An IPv4 address in the numerals that resolvers take for one, and in some that they do not."""
    a, b, c, d = (int(part) for part in address.split("."))
    whole = int(ipaddress.IPv4Address(address))
    yield address
    yield f"{whole}"
    yield f"{whole:#x}"
    yield f"{whole:#X}"
    yield f"0x{whole:016x}"
    yield f"0{whole:o}"
    yield f"00000{whole:o}"
    yield f"{a}.{whole & 0xFFFFFF}"
    yield f"{a}.{b}.{whole & 0xFFFF}"
    yield f"{a:#x}.{b:#x}.{c:#x}.{d:#x}"
    yield f"0{a:o}.0{b:o}.0{c:o}.0{d:o}"
    yield f"000{a:o}.{b}.{c:#x}.{d}"
    yield f"{a:03}.{b:03}.{c:03}.{d:03}"
    yield f"{a:#x}.{whole & 0xFFFFFF}"
    yield f"{address}."
    yield f"{whole + 2**32}"
    yield f"{a}。{b}．{c}｡{d}"
    yield "".join(chr(ord("０") + int(each)) if each.isdigit() else each for each in address)
    yield "".join(f"%{ord(each):02x}" for each in address)


def urls(port: int) -> list[str]:
    """Some two hundred URLs, all of which lead to no public address, or to nowhere."""
    hosts = [*NAMES, *(f"[{each}]" for each in IN_V6), *(each for target in TARGETS for each in numerals(target))]
    found = [f"http://{each}:{port}/" for each in hosts]
    found += [f"https://{each}/" for each in (*NAMES[:8], *TARGETS)]
    found += [f"http://{each}/" for each in ("127.0.0.1", "[::1]", "127.1", "loop.test", "2130706433")]
    here = f"127.0.0.1:{port}"
    found += [
        f"http://8.8.8.8@{here}/", f"http://8.8.8.8:80@{here}/", f"http://user:pass@{here}/", f"http://a@b@{here}/",
        f"http://10.0.0.1\\@{here}/", f"http://{here}#@8.8.8.8/", f"http://{here}?@8.8.8.8/",
        f"http://{here}\\@10.0.0.1/",
        f"HTTP://{here}", f"hTTp://{here}/a/../b", f"http:///{here}/", f"http:{here}/", f"http:\\\\{here}/",
        f"//{here}/",
        f"http://{here} /", f" http://{here}/", f"http://\t{here}/", f"http://{here}\r\nX: y/", f"http://[{here}]/",
        f"http://%31%32%37.1:{port}/", f"http://loc%61lhost:{port}/", f"http://①②⑦.⓪.⓪.①:{port}/",
        f"http://127.0.0.1%00:{port}/",
        f"http://127.0.0.1%2f:{port}/", f"http://127.0.0.1%23@{here}/", f"ftp://{here}/", f"file://{here}/etc/hosts",
        f"gopher://{here}/", f"ws://{here}/", f"unix://{here}/", f"http+unix://{here}/", f"data:text/plain,{here}",
        f"javascript:{here}", f"http://[::1%25lo]:{port}/", f"http://[::ffff:127.1]:{port}/", "http://", "",
        f"http://127.0.0.1.:0{port}/", f"http://127.0.0.1:{port + 65536}/", f"http://localhost%20:{port}/",
    ]  # fmt: skip
    return found
