"""Objects: secrets, iothreads, the tree that they are in. TLS: tests/interop/test_tls.py."""

from __future__ import annotations

import base64
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from tests.support.qmp_cases import Never
from tests.support.qmp_cases.words import Requests, do

KEY = bytes(range(32))
IV = bytes(range(16))


def made(kind: str, identity: str, **options: Any) -> dict[str, Any]:
    return do("object-add", qom_type=kind, id=identity, **options)


def secret(identity: str, **options: Any) -> dict[str, Any]:
    return made("secret", identity, **options)


def listed(path: str) -> dict[str, Any]:
    return do("qom-list", path=path)


def got(path: str, name: str) -> dict[str, Any]:
    return do("qom-get", path=path, property=name)


def given(path: str, name: str, value: Any) -> dict[str, Any]:
    return do("qom-set", path=path, property=name, value=value)


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def encrypted(data: bytes) -> str:
    cipher = Cipher(algorithms.AES256(KEY), modes.CBC(IV)).encryptor()
    padding = 16 - len(data) % 16
    return encoded(cipher.update(data + bytes([padding]) * padding) + cipher.finalize())


def moved(node: str, iothread: str | None, **options: bool) -> dict[str, Any]:
    return do("x-blockdev-set-iothread", node_name=node, iothread=iothread, **options)


def exported(name: str, node: str, **options: Any) -> dict[str, Any]:
    return do("block-export-add", type="nbd", id=name, node_name=node, **options)


CASES: dict[str, Requests] = {
    "nodes are moved to iothreads": [
        made("iothread", "io"),
        made("iothread", "other"),
        secret("s", data="x"),
        do("blockdev-add", driver="null-co", node_name="n", size=1048576),
        moved("nowhere", "io"),
        moved("n", "nothing"),
        moved("n", "s"),
        moved("n", "io"),
        moved("n", "other"),
        moved("n", ""),
        moved("n", None),
        do("x-blockdev-set-iothread", node_name="n"),
        do("x-blockdev-set-iothread", node_name="n", iothread=5),
        do("nbd-server-start", addr={"type": "unix", "data": {"path": "s"}}),
        exported("e", "n"),
        moved("n", "io"),
        moved("n", "nothing"),
        moved("n", "nothing", force=True),
        moved("n", "io", force=True),
        exported("f", "n", iothread="io", **{"fixed-iothread": True}),
        moved("n", "io", force=True),
        moved("n", "other", force=True),
        moved("n", None, force=True),
        exported("g", "n", iothread="other"),
        exported("h", "n", iothread="other", **{"fixed-iothread": True}),
        exported("h", "n", iothread="nothing"),
        do("block-export-del", id="f"),
        moved("n", "other", force=True),
        exported("h", "n", iothread="other", **{"fixed-iothread": True}),
    ],
    "all that is connected is moved": [
        made("iothread", "io"),
        do("blockdev-add", driver="file", node_name="file", filename="a.img"),
        do("blockdev-add", driver="raw", node_name="one", file="file"),
        do("blockdev-add", driver="raw", node_name="two", file="file", read_only=True),
        do("nbd-server-start", addr={"type": "unix", "data": {"path": "s"}}),
        exported("e", "two", **{"fixed-iothread": True}),
        moved("file", "io"),
        moved("one", "io"),
        do("block-export-del", id="e"),
        moved("one", "io"),
        exported("e", "two", **{"fixed-iothread": True}),
        moved("one", "io"),
        moved("one", None),
    ],
    "objects come and go": [
        listed("/objects"),
        made("iothread", "io"),
        made("iothread", "io"),
        made("iothread", "1io"),
        do("object-add", qom_type="iothread"),
        made("nothing", "x"),
        made("iothread", "x", nothing=1),
        listed("/objects"),
        do("object-del", id="nothing"),
        do("object-del", id="io"),
        do("object-del", id="io"),
        listed("/objects"),
    ],
    "iothreads": [
        made("iothread", "a", **{"poll-max-ns": 5, "poll-grow": 4, "poll-shrink": 3}),
        made("iothread", "b", **{"thread-pool-min": 9, "thread-pool-max": 3}),
        made("iothread", "b", **{"thread-pool-max": 0}),
        made("iothread", "b", **{"thread-pool-min": 65}),
        *(
            made("iothread", "b", **{name: -1})
            for name in ("poll-max-ns", "poll-grow", "aio-max-batch", "thread-pool-min")
        ),
        made("iothread", "b", **{"aio-max-batch": 7, "thread-pool-max": 3}),
        listed("/objects/a"),
        *(
            got(f"/objects/{name}", f"{of}")
            for name in "ab"
            for of in ("poll-max-ns", "poll-grow", "aio-max-batch", "thread-pool-max", "type")
        ),
        given("/objects/a", "poll-max-ns", 77),
        got("a", "poll-max-ns"),
        given("/objects/a", "poll-max-ns", -1),
        given("/objects/a", "poll-max-ns", "x"),
        given("/objects/a", "poll-max-ns", True),
        given("/objects/a", "thread-pool-max", 0),
        given("/objects/a", "type", "x"),
        given("/objects/a", "nothing", 1),
        got("/objects/a", "poll-max-ns"),
    ],
    "secrets": [
        secret("s"),
        secret("s", data="letmein"),
        secret("b", data="YWJj", format="base64"),
        secret("x", data="a", file="a.img"),
        secret("x", file="nowhere"),
        secret("x", file="."),
        secret("x", data="Y!", format="base64"),
        secret("x", data="YWJj", format="weird"),
        secret("x", data="a", loaded=True),
        secret("odd", data="Y=Q=", format="base64"),
        listed("/objects/s"),
        *(got("/objects/s", name) for name in ("data", "file", "format", "iv", "keyid", "loaded")),
        got("/objects/b", "format"),
        given("/objects/s", "format", "weird"),
        given("/objects/s", "format", "base64"),
        given("/objects/s", "data", 1),
        given("/objects/s", "data", "other"),
        given("/objects/s", "loaded", False),
        got("/objects/s", "data"),
    ],
    "encrypted secrets": [
        secret("key", data=encoded(KEY), format="base64"),
        secret("short", data="short"),
        secret("text", data="x" * 32),
        made("iothread", "io"),
        secret("a", data=encrypted(b"hello"), format="base64", keyid="key", iv=encoded(IV)),
        secret("x", data=encrypted(b"hello"), format="base64", keyid="text", iv=encoded(IV)),
        secret("x", data=encrypted(b"hello"), format="base64", keyid="short", iv=encoded(IV)),
        secret("x", data=encrypted(b"hello"), format="base64", keyid="nothing", iv=encoded(IV)),
        secret("x", data=encrypted(b"hello"), format="base64", keyid="io", iv=encoded(IV)),
        secret("x", data=encrypted(b"hello"), format="base64", keyid="key"),
        secret("x", data=encrypted(b"hello"), format="base64", keyid="key", iv="AAAA"),
        secret("x", data=encrypted(b"hello"), format="base64", keyid="key", iv="!"),
        secret("x", data="AAAA", format="base64", keyid="key", iv=encoded(IV)),
        secret("x", data="!", format="base64", keyid="key", iv=encoded(IV)),
        secret("x", data="abc", keyid="key", iv=encoded(IV)),
    ],
    "paths of objects": [
        made("iothread", "io"),
        secret("s", data="x"),
        got("/objects", "s"),
        got("/objects", "type"),
        got("/", "objects"),
        got("/", "nothing"),
        given("/objects", "s", "x"),
        listed("/objects/"),
        listed("//objects"),
        listed("objects/s"),
        listed("s"),
        listed("/nothing"),
        listed("nothing"),
        listed("/objects/s/x"),
        listed(""),
        do("qom-list-types", implements="secret"),
        do("qom-list-types", implements="iothread", abstract=False),
        do("qom-list-types", implements="container", abstract=True),
        do("qom-list-types", implements="nothing"),
    ],
}

SUCCEEDS: dict[str, str | Never] = {
    "object-add": "objects come and go",
    "object-del": "objects come and go",
    "qom-list": "objects come and go",
    "qom-get": "iothreads",
    "qom-set": "iothreads",
    "qom-list-types": "paths of objects",
    "query-chardev": Never("theirs shows the channel that its tests talk through"),
    "x-blockdev-set-iothread": "nodes are moved to iothreads",
}

REFUSALS: dict[str, dict[str, str | Never]] = {
    "x-blockdev-set-iothread": {
        "Failed to find node with node-name='%'": "nodes are moved to iothreads",
        "Node % is associated with a BlockBackend and could be in use "
        "(use force=true to override this check)": "nodes are moved to iothreads",
        "Cannot find iothread %": "nodes are moved to iothreads",
    },
}
