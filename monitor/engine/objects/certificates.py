"""Mistakes in certificates, told when they are loaded instead of by a connection that fails."""

from __future__ import annotations

import datetime
import functools
from typing import TYPE_CHECKING, Final, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from monitor.engine.errors import Refused, RequestError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T", bound=x509.ExtensionType)

MAX_FILE: Final = 1 << 20
"""Bytes of a file of certificates."""


class NotAList(RequestError):
    template = "Unable to import CA certificate list {path}"
    path: str


class NotACertificate(RequestError):
    template = "Unable to import {side} certificate {path}: Base64 unexpected header error."
    side: str
    path: str


class KeyRefused(RequestError):
    template = "Cannot load certificate '{certificate}' & key '{key}': {reason}"
    certificate: str
    key: str
    reason: str


class NotTrusted(RequestError):
    template = (
        "Our own certificate {path} failed validation against {ca}: "
        "The certificate hasn't got a known issuer"
    )
    path: str
    ca: str


def check(ca_path: str, own_path: str | None, *, server: bool) -> None:
    """Both files, and that the one has signed the other. Raises RequestError."""
    side = "server" if server else "client"
    own = None
    if own_path is not None:
        try:
            own = x509.load_pem_x509_certificate(_contents(own_path))
        except ValueError as error:
            raise NotACertificate(side, own_path) from error
    try:
        authorities = x509.load_pem_x509_certificates(_contents(ca_path))
    except ValueError as error:
        raise NotAList(ca_path) from error
    if own is not None and own_path is not None:
        _check_one(own, own_path, side)
    for authority in authorities:
        _check_one(authority, ca_path, "CA")
    if own is not None and not any(_signed(own, authority) for authority in authorities):
        raise NotTrusted(own_path or "", ca_path)


def check_key(certificate: str, key: str, password: str | None) -> None:
    """The key can be read, and is the certificate's. Raises KeyRefused."""
    refused: Callable[[str], KeyRefused] = functools.partial(KeyRefused, certificate, key)
    data = _contents(key)
    try:
        loaded = load_pem_private_key(data, password.encode() if password else None)
    except TypeError as error:
        if password is None:
            raise refused("Decryption has failed.") from error
        loaded = load_pem_private_key(data, None)  # a password for a key that needs none
    except (ValueError, UnsupportedAlgorithm) as error:
        encrypted = b"ENCRYPTED" in data
        raise refused(
            "Decryption has failed." if encrypted else "The requested data were not available."
        ) from error
    try:
        public = x509.load_pem_x509_certificate(_contents(certificate)).public_key()
    except ValueError as error:
        raise refused("Base64 unexpected header error.") from error
    if loaded.public_key() != public:
        raise refused("The certificate and the given key do not match.")


def _contents(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(MAX_FILE)


def _check_one(certificate: x509.Certificate, path: str, side: str) -> None:
    now = datetime.datetime.now(datetime.UTC)
    if certificate.not_valid_after_utc < now:
        raise Refused(f"The {side} certificate {path} has expired")
    if certificate.not_valid_before_utc > now:
        raise Refused(f"The {side} certificate {path} is not yet active")
    try:
        _check_constraints(certificate, path, side)
        _check_usage(certificate, path, side)
        _check_purpose(certificate, path, side)
    except ValueError as error:  # an extension that is none
        raise Refused(f"Unable to query certificate {path} basic constraints: {error}") from error


def _check_constraints(certificate: x509.Certificate, path: str, side: str) -> None:
    found = _extension(certificate, x509.BasicConstraints)
    if found is None:
        if side == "CA":
            raise Refused(f"The certificate {path} is missing basic constraints for a CA")
    elif found.value.ca and side != "CA":
        raise Refused(
            f"The certificate {path} basic constraints show a CA, but we need one for a {side}"
        )
    elif side == "CA" and not found.value.ca:
        raise Refused(f"The certificate {path} basic constraints do not show a CA")


def _check_usage(certificate: x509.Certificate, path: str, side: str) -> None:
    """Where usages are told, and must be kept to."""
    found = _extension(certificate, x509.KeyUsage)
    if found is None or not found.critical:
        return
    if side == "CA":
        if not found.value.key_cert_sign:
            raise Refused(f"Certificate {path} usage does not permit certificate signing")
    elif not found.value.digital_signature:
        raise Refused(f"Certificate {path} usage does not permit digital signature")


def _check_purpose(certificate: x509.Certificate, path: str, side: str) -> None:
    found = _extension(certificate, x509.ExtendedKeyUsage)
    if found is None or not found.critical or side == "CA":
        return
    wanted = (
        ExtendedKeyUsageOID.SERVER_AUTH if side == "server" else ExtendedKeyUsageOID.CLIENT_AUTH
    )
    if wanted not in found.value and ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE not in found.value:
        raise Refused(f"Certificate {path} purpose does not allow use with a TLS {side}")


def _extension(certificate: x509.Certificate, kind: type[T]) -> x509.Extension[T] | None:
    try:
        return certificate.extensions.get_extension_for_class(kind)
    except x509.ExtensionNotFound:
        return None


def _signed(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True
