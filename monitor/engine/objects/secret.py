"""``secret``: a password, which may be encrypted with another one (AES-256-CBC, PKCS#7)."""

from __future__ import annotations

import base64
import os
from typing import ClassVar, Final

from monitor.engine.errors import Refused, RequestError
from monitor.engine.objects.base import READ_ONLY_BOOL, STRING, Objects, UserObject, choice
from monitor.engine.schema.objects import SecretFormat

MAX_FILE: Final = 1 << 20
"""Bytes of a file that may be a secret."""
KEY: Final = 32
IV: Final = 16


class NothingGiven(RequestError):
    template = "Either 'file' or 'data' must be provided"


class BothGiven(RequestError):
    template = "'file' and 'data' are mutually exclusive"


class Unreadable(RequestError):
    """The words are GLib's, its quotation marks included."""

    template = "Unable to read {path}: {what} file “{path}”: {reason}"
    path: str
    what: str
    reason: str


class TooLong(RequestError):
    template = "Secret {path} is larger than {limit} bytes"
    path: str
    limit: int


class NotBase64(RequestError):
    template = "Base64 data contains invalid characters"


class NotText(RequestError):
    template = "Data from secret {id} is not valid UTF-8"
    id: str


class NoSuchSecret(RequestError):
    template = "No secret with id '{id}'"
    id: str


class NotASecret(RequestError):
    template = "Object with id '{id}' is not a secret"
    id: str


class Secret(UserObject):
    type = "secret"
    parents = ("secret_common", "user-creatable", "object")
    properties: ClassVar = {
        "iv": STRING,
        "keyid": STRING,
        "loaded": READ_ONLY_BOOL,
        "format": choice("QCryptoSecretFormat", SecretFormat),
        "file": STRING,
        "data": STRING,
    }

    iv = ""
    keyid = ""
    loaded = False
    format: str = "raw"
    file: str | None = None
    data: str | None = None
    value = b""
    """The secret itself, once it is complete."""

    def complete(self, objects: Objects) -> None:
        value = self._given()
        if self.keyid:
            value = self._decrypted(value, secret_bytes(objects, self.keyid))
        elif self.format == "base64":
            value = _decoded(value)
        self.value, self.loaded = value, True

    def _given(self) -> bytes:
        if self.file is not None:
            if self.data is not None:
                raise BothGiven()
            return _contents(self.file)
        if self.data is None:
            raise NothingGiven()
        return self.data.encode(errors="surrogateescape")

    def _decrypted(self, value: bytes, key: bytes) -> bytes:
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
        from cryptography.hazmat.primitives.padding import PKCS7

        if len(key) != KEY:
            raise Refused(f"Key should be {KEY} bytes in length")
        if not self.iv:
            raise Refused("IV is required to decrypt secret")
        iv = _decoded(self.iv.encode())
        if len(iv) != IV:
            raise Refused(f"IV should be {IV} bytes in length not {len(iv)}")
        if self.format == "base64":
            value = _decoded(value)
        if len(value) % IV or not value:
            raise Refused(f"Length {len(value)} must be a multiple of block size {IV}")
        cipher = Cipher(algorithms.AES256(key), modes.CBC(iv)).decryptor()
        plain = cipher.update(value) + cipher.finalize()
        unpadder = PKCS7(IV * 8).unpadder()
        try:
            return unpadder.update(plain) + unpadder.finalize()
        except ValueError as error:
            raise Refused(
                f"Incorrect number of padding bytes ({plain[-1]}) found on decrypted data"
            ) from error


def secret_bytes(objects: Objects, id_: str) -> bytes:
    """What the secret ``id_`` holds. Raises RequestError."""
    found = objects.by_id.get(id_)
    if found is None:
        raise NoSuchSecret(id_)
    if not isinstance(found, Secret):
        raise NotASecret(id_)
    return found.value


def secret_text(objects: Objects, id_: str) -> str:
    """The same as text. Raises RequestError."""
    try:
        return secret_bytes(objects, id_).decode()
    except UnicodeDecodeError:
        raise NotText(id_) from None


def _contents(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            found = file.read(MAX_FILE + 1)
    except OSError as error:
        what = "Error reading" if isinstance(error, IsADirectoryError) else "Failed to open"
        raise Unreadable(path, what, os.strerror(error.errno or 0)) from error
    if len(found) > MAX_FILE:
        raise TooLong(path, MAX_FILE)
    return found


def _decoded(text: bytes) -> bytes:
    """Base64 as GLib takes it: up to the padding, whatever there is of it. Raises NotBase64."""
    if text.translate(None, _BASE64):
        raise NotBase64()
    digits = text.replace(b"\n", b"").partition(b"=")[0]
    digits = digits[: len(digits) - (len(digits) % 4 == 1)]
    return base64.b64decode(digits + b"=" * (-len(digits) % 4))


_BASE64: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=\n"

made = Secret
