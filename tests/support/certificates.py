"""Certificates made for tests, in folders as ``tls-creds-x509`` wants them."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

SERVER = ExtendedKeyUsageOID.SERVER_AUTH
CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH

_USAGES = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
    "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
)  # fmt: skip


class Made(NamedTuple):
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def key_pem(self, password: bytes | None = None) -> bytes:
        how: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if password is not None:
            how = serialization.BestAvailableEncryption(password)
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how
        )


def make(
    name: str,
    issuer: Made | None = None,
    *,
    ca: bool | None = False,
    usages: tuple[str, ...] = (),
    purpose: ObjectIdentifier | None = None,
    critical: bool = False,
    days: tuple[int, int] = (-1, 30),
    hosts: tuple[str, ...] = (),
) -> Made:
    """Signed by ``issuer``, or by itself; good from and until so many ``days`` from now. ``ca``
    None: it does not say whether it is one."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_named(name))
        .issuer_name(issuer.certificate.subject if issuer else _named(name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days=days[0]))
        .not_valid_after(now + datetime.timedelta(days=days[1]))
    )
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), True)
    if usages:
        usage = x509.KeyUsage(**{each: each in usages for each in _USAGES})
        builder = builder.add_extension(usage, True)
    if purpose is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical)
    if hosts:
        names = [*map(x509.DNSName, hosts), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), False)
    return Made(builder.sign(issuer.key if issuer else key, hashes.SHA256()), key)


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def authority(name: str = "authority") -> Made:
    return make(name, ca=True, usages=("key_cert_sign",))


def server(issuer: Made, *hosts: str) -> Made:
    """For ``localhost`` where no host is named, and 127.0.0.1."""
    usages = ("digital_signature", "key_encipherment")
    return make("server", issuer, usages=usages, purpose=SERVER, hosts=hosts or ("localhost",))


def client(issuer: Made) -> Made:
    return make("client", issuer, usages=("digital_signature",), purpose=CLIENT)


def folder(
    path: Path,
    ca: Made,
    *,
    server: Made | None = None,
    client: Made | None = None,
    password: bytes | None = None,
) -> Path:
    """A new folder with what is given."""
    path.mkdir()
    (path / "ca-cert.pem").write_bytes(ca.pem)
    for side, made in (("server", server), ("client", client)):
        if made is not None:
            (path / f"{side}-cert.pem").write_bytes(made.pem)
            (path / f"{side}-key.pem").write_bytes(made.key_pem(password))
    return path
