"""NBD over TLS, both ways, with other people's programs; credentials as QEMU judges them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import certificates, tools
from tests.support.certificates import CLIENT, SERVER, make
from tests.support.qmp_cases.words import Requests, do
from tests.support.served import Served
from tests.support.side_by_side import compare


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders: ``good`` for both sides, ``stranger`` signed by somebody else, ``nobody`` without
    a certificate of its own, ``elsewhere`` for a server of another name."""
    top = tmp_path_factory.mktemp("keys")
    ca, other = certificates.authority(), certificates.authority("other")
    mine, you = certificates.server(ca), certificates.client(ca)
    certificates.folder(top / "good", ca, server=mine, client=you)
    certificates.folder(top / "stranger", other, client=certificates.client(other))
    certificates.folder(top / "nobody", ca)
    elsewhere = certificates.server(ca, "elsewhere.example")
    certificates.folder(top / "elsewhere", ca, server=elsewhere, client=you)
    (top / "mixed").mkdir()  # trusts ours, and shows a certificate that ours does not trust
    for file in ("good/ca-cert.pem", "stranger/client-cert.pem", "stranger/client-key.pem"):
        shutil.copy(top / file, top / "mixed")
    return top


@pytest.fixture
def served(tmp_path: Path, keys: Path) -> Iterator[Served]:
    tools.need("qemu-img", "qemu-io", "nbdinfo", "nbdcopy")
    tools.run("qemu-img", "create", "-q", "-f", "raw", tmp_path / "plain.img", "8M")
    tools.run("qemu-io", "-f", "raw", "-c", "write -q -P 3 1M 3M", tmp_path / "plain.img")
    served = Served(
        tmp_path,
        ("--object", f"tls-creds-x509,id=tls0,dir={keys / 'good'},endpoint=server"),
        ("--blockdev", "raw,node-name=plain,file.driver=file,file.filename=plain.img"),
        ("--nbd-server", f"addr.type=unix,addr.path={tmp_path / 's'},tls-creds=tls0"),
        ("--export", "nbd,id=plain,node-name=plain,writable=on"),
    )
    yield served
    served.close()


def uri(served: Served, folder: Path, scheme: str = "nbds+unix") -> str:
    keys = f"&tls-certificates={folder}" if scheme == "nbds+unix" else ""
    return f"{scheme}:///plain?socket={served.folder / 's'}{keys}"


def test_libnbd_gets_in_encrypted(served: Served, keys: Path, tmp_path: Path) -> None:
    told = tools.run("nbdinfo", uri(served, keys / "good"))
    assert "using TLS" in told or "with TLS" in told
    tools.run("nbdcopy", uri(served, keys / "good"), tmp_path / "copy.raw")
    served.do("nbd-server-stop")
    served.do("blockdev-del", **{"node-name": "plain"})
    tools.run("qemu-img", "compare", "-F", "raw", tmp_path / "plain.img", tmp_path / "copy.raw")


def test_nobody_gets_in_otherwise(served: Served, keys: Path) -> None:
    """Unencrypted, with a certificate of somebody else's, or without one; then others still do."""
    assert "TLS" in tools.fails("nbdinfo", uri(served, keys, "nbd+unix"))
    tools.fails("nbdinfo", uri(served, keys / "mixed"))
    tools.fails("nbdinfo", uri(served, keys / "nobody"))
    tools.run("nbdinfo", uri(served, keys / "good"))


def test_qemu_reads_and_writes_encrypted(served: Served, keys: Path) -> None:
    options = f"driver=nbd,server.type=unix,server.path={served.folder / 's'},export=plain"
    said = tools.run(
        *("qemu-io", "--object", f"tls-creds-x509,id=c,dir={keys / 'good'},endpoint=client"),
        *("--image-opts", f"{options},tls-creds=c,tls-hostname=localhost"),
        *("-c", "read -P 3 1M 3M", "-c", "write -P 7 511 2M", "-c", "flush"),
        *("-c", "read -P 7 511 2M", "-c", "write -z 6M 1M", "-c", "discard 4M 1M"),
    )
    assert "failed" not in said


def test_who_need_not_show_a_certificate(tmp_path: Path, keys: Path) -> None:
    tools.need("qemu-img", "nbdinfo")
    tools.run("qemu-img", "create", "-q", "-f", "raw", tmp_path / "plain.img", "1M")
    served = Served(
        tmp_path,
        ("--object", f"tls-creds-x509,id=t,dir={keys / 'good'},endpoint=server,verify-peer=off"),
        ("--blockdev", "raw,node-name=plain,file.driver=file,file.filename=plain.img"),
        ("--nbd-server", f"addr.type=unix,addr.path={tmp_path / 's'},tls-creds=t"),
        ("--export", "nbd,id=plain,node-name=plain"),
    )
    tools.run("nbdinfo", uri(served, keys / "nobody"))
    served.close()


# -- ours as the client ------------------------------------------------------------------------


@pytest.fixture
def theirs(tmp_path: Path, keys: Path) -> Iterator[Path]:
    """A folder with qemu-nbd at ``s``, encrypted."""
    tools.need("qemu-nbd", "qemu-img", "qemu-io")
    tools.run("qemu-img", "create", "-q", "-f", "raw", tmp_path / "disk.img", "16M")
    tools.run("qemu-io", "-f", "raw", "-c", "write -q -P 2 2M 4M", tmp_path / "disk.img")
    tools.run(
        *("qemu-nbd", "--fork", "-t", "-e", "8", "-x", "disk", "-f", "raw", "-k", tmp_path / "s"),
        *(f"--pid-file={tmp_path / 'pid'}", "--tls-creds", "t"),
        *("--object", f"tls-creds-x509,id=t,dir={keys / 'good'},endpoint=server"),
        tmp_path / "disk.img",
    )
    yield tmp_path
    subprocess.run(["kill", (tmp_path / "pid").read_text().strip()], check=True)


def opened(folder: Path, keys: Path, *, host: str = "localhost", more: str = "") -> tuple[str, str]:
    """The commands that open the export."""
    server = f"server.type=unix server.path={folder / 's'} export=disk"
    return (
        f"object-add qom-type=tls-creds-x509 id=c dir={keys} endpoint=client{more}",
        f"blockdev-add driver=nbd node-name=d {server} tls-creds=c tls-hostname={host}",
    )


def test_reading_and_writing_through_qemus_server(theirs: Path, keys: Path) -> None:
    said = tools.blkmon(
        *opened(theirs, keys / "good"),
        'qemu-io d "read -P 2 2M 4M"',
        *(f'qemu-io d "write -P {n} {n}M 1000k"' for n in range(8, 14)),
        *(f'qemu-io d "read -P {n} {n}M 1000k"' for n in range(8, 14)),
        'qemu-io d "flush"',
        'qemu-io d "map"',
    )
    assert "failed" not in said


@pytest.mark.parametrize(
    ("folder", "host", "more", "reason"),
    [
        ("good", "elsewhere.example", "", "Hostname mismatch"),
        ("stranger", "localhost", "", "unable to get local issuer certificate"),
    ],
)
def test_a_server_that_is_not_the_one(
    theirs: Path, keys: Path, folder: str, host: str, more: str, reason: str
) -> None:
    words = [w for c in opened(theirs, keys / folder, host=host, more=more) for w in ("-c", c)]
    said = tools.fails(sys.executable, "-m", "monitor", *words)
    assert reason in said


def test_a_server_whose_name_does_not_matter(theirs: Path, keys: Path) -> None:
    tools.blkmon(*opened(theirs, keys / "good", host="x.example", more=" verify-peer=off"))


def test_a_job_over_tls(theirs: Path, keys: Path, tmp_path: Path) -> None:
    """Several threads read and write at once on one encrypted connection."""
    tools.run("qemu-img", "create", "-q", "-f", "raw", tmp_path / "copy.raw", "16M")
    tools.blkmon(
        *opened(theirs, keys / "good"),
        f"blockdev-add driver=raw node-name=t file.driver=file file.filename={tmp_path}/copy.raw",
        "blockdev-backup job-id=j device=d target=t sync=full",
        "wait j",
    )
    tools.run(
        "qemu-img", "compare", "-f", "raw", "-F", "raw", "-U",
        tmp_path / "disk.img", tmp_path / "copy.raw",
    )  # fmt: skip


# -- credentials -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mistaken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of credentials with one mistake each."""
    top = tmp_path_factory.mktemp("mistaken")
    ca, other = certificates.authority(), certificates.authority("other")
    good, you = certificates.server(ca), certificates.client(ca)
    old = (-10, -2)
    for name, authority, server in (
        ("good", ca, good),
        ("no-server", ca, None),
        ("expired", ca, make("s", ca, days=old)),
        ("early", ca, make("s", ca, days=(2, 10))),
        ("ca-expired", make("ca", ca=True, usages=("key_cert_sign",), days=old), good),
        ("is-ca", ca, make("s", ca, ca=True)),
        ("ca-is-none", make("ca", usages=("key_cert_sign",)), good),
        ("ca-silent", make("ca", ca=None), good),
        ("ca-signs-not", make("ca", ca=True, usages=("digital_signature",)), good),
        ("signs-not", ca, make("s", ca, usages=("key_encipherment",))),
        ("purpose", ca, make("s", ca, purpose=CLIENT, critical=True)),
        ("purpose-hint", ca, make("s", ca, purpose=CLIENT)),
        ("untrusted", other, good),
    ):
        certificates.folder(top / name, authority, server=server, client=you)
    certificates.folder(top / "locked", ca, server=good, password=b"letmein")
    wrong = make("c", ca, purpose=SERVER, critical=True)
    certificates.folder(top / "client-purpose", ca, client=wrong)
    for name, file, text in (
        ("ca-garbage", "ca-cert.pem", b"hello\n"),
        ("garbage", "server-cert.pem", b"hello\n"),
        ("key-garbage", "server-key.pem", b"hello\n"),
        ("other-key", "server-key.pem", you.key_pem()),
        ("no-key", "server-key.pem", None),
    ):
        made = certificates.folder(top / name, ca, server=good)
        (made / file).unlink()
        if text is not None:
            (made / file).write_bytes(text)
    return top


def creds(identity: str, folder: str, endpoint: str = "server", **options: Any) -> dict[str, Any]:
    return do(
        "object-add", qom_type="tls-creds-x509", id=identity, dir=folder, endpoint=endpoint,
        **options,
    )  # fmt: skip


def test_mistakes_in_certificates_are_told_as_qemu_tells_them(
    tmp_path: Path, mistaken: Path
) -> None:
    folders = sorted(path.name for path in mistaken.iterdir())
    requests: Requests = [creds(f"s{n}", folder) for n, folder in enumerate(folders)]
    requests += [creds(f"c{n}", f, "client") for n, f in enumerate(folders) if f != "locked"]
    requests += [
        do("object-add", qom_type="secret", id="pw", data="letmein"),
        do("object-add", qom_type="secret", id="wrong", data="open"),
        creds("l0", "locked", passwordid="pw"),
        creds("l1", "locked", passwordid="wrong"),
        creds("l2", "locked", passwordid="nothing"),
        creds("l3", "purpose", **{"sanity-check": False}),
        creds("l4", "nowhere"),
        do("object-add", qom_type="tls-creds-x509", id="l5"),
        creds("l6", "good", "weird"),
        do("qom-list", path="/objects/l0"),
        *(do("qom-get", path="l0", property=p) for p in ("endpoint", "priority", "verify-peer")),
        do("qom-set", path="l0", property="verify-peer", value="x"),
        do("qom-set", path="l0", property="endpoint", value="weird"),
    ]
    compare(tmp_path, mistaken, requests, state=())


def test_what_needs_credentials_refuses_others(tmp_path: Path, mistaken: Path) -> None:
    def start(tls: str) -> dict[str, Any]:
        address = {"type": "unix", "data": {"path": "s"}}
        return do("nbd-server-start", addr=address, **{"tls-creds": tls})

    def connect(tls: str) -> dict[str, Any]:
        server = {"type": "unix", "path": "nowhere"}
        return do("blockdev-add", driver="nbd", server=server, node_name="n", tls_creds=tls)

    requests = [
        do("object-add", qom_type="iothread", id="io"),
        creds("s", "good"),
        creds("c", "good", "client"),
        *(start(name) for name in ("nothing", "io", "c")),
        *(connect(name) for name in ("nothing", "io", "s", "c")),
        start("s"),
        do("object-del", id="s"),
        do("nbd-server-stop"),
    ]
    compare(tmp_path, mistaken, requests, state=())
