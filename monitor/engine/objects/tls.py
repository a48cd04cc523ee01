"""``tls-creds-x509``: certificates and keys for TLS, from the files that QEMU reads too.

ca-cert.pem                      who may sign the other side's certificate
ca-crl.pem                       whom they take it back from, where it is there
server-cert.pem, server-key.pem  a server's own
client-cert.pem, client-key.pem  a client's own, where they are there
dh-params.pem                    a server's parameters, where they are there
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, ClassVar, Final

from monitor.engine.errors import RequestError
from monitor.engine.objects.base import (
    BOOL,
    READ_ONLY_BOOL,
    STRING,
    Objects,
    UserObject,
    choice,
)
from monitor.engine.objects.secret import secret_text
from monitor.engine.schema.objects import TlsEndpoint

if TYPE_CHECKING:
    import ssl


class NoFolder(RequestError):
    template = "Missing 'dir' property value"


class NotThere(RequestError):
    template = "Unable to access credentials {path}: {reason}"
    path: str
    reason: str


class PriorityUnsupported(RequestError):
    template = "Property 'tls-creds-x509.priority' is not supported here"


class Unusable(RequestError):
    template = "Cannot use the credentials in {folder}: {reason}"
    folder: str
    reason: str


class NoCredentials(RequestError):
    template = "No TLS credentials with id '{id}'"
    id: str


class NotCredentials(RequestError):
    template = "Object with id '{id}' is not TLS credentials"
    id: str


class WrongEndpoint(RequestError):
    template = "Expected TLS credentials for a {endpoint} endpoint"
    endpoint: str


CA: Final = "ca-cert.pem"
CRL: Final = "ca-crl.pem"
DH: Final = "dh-params.pem"


class TlsCredsX509(UserObject):
    type = "tls-creds-x509"
    parents = ("tls-creds", "user-creatable", "object")
    properties: ClassVar = {
        "endpoint": choice("QCryptoTLSCredsEndpoint", TlsEndpoint),
        "dir": STRING,
        "verify-peer": BOOL,
        "priority": STRING,
        "sanity-check": BOOL,
        "passwordid": STRING,
        "loaded": READ_ONLY_BOOL,
    }

    endpoint: str = "client"
    dir: str | None = None
    verify_peer = True
    priority: str | None = None
    sanity_check = True
    passwordid: str | None = None
    loaded = False

    def complete(self, objects: Objects) -> None:
        from monitor.engine.objects import certificates

        if self.priority is not None:
            raise PriorityUnsupported()
        if self.dir is None:
            raise NoFolder()
        ca = self._file(CA, required=True)
        own = self._file(f"{self.endpoint}-cert.pem", required=self.endpoint == "server")
        key = self._file(f"{self.endpoint}-key.pem", required=self.endpoint == "server")
        assert ca is not None
        if self.sanity_check:
            certificates.check(ca, own, server=self.endpoint == "server")
        password = None
        if self.passwordid is not None:
            password = secret_text(objects, self.passwordid)
        if own is None or key is None:
            own = key = None
        else:
            certificates.check_key(own, key, password)
        self.context = self._context(ca, own, key, password)
        if self.endpoint == "client":
            self.context_for_hosts = self._context(ca, own, key, password)
            self.context_for_hosts.check_hostname = self.verify_peer
        self.loaded = True

    def _file(self, name: str, *, required: bool = False) -> str | None:
        """The path of a file that is there. Raises NotThere."""
        assert self.dir is not None
        path = os.path.join(self.dir, name)
        try:
            os.stat(path)
        except OSError as error:
            if required or error.errno != 2:
                raise NotThere(path, os.strerror(error.errno or 0)) from error
            return None
        return path

    def _context(
        self, ca: str, own: str | None, key: str | None, password: str | None
    ) -> ssl.SSLContext:
        """Raises Unusable."""
        import ssl

        server = self.endpoint == "server"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED if self.verify_peer else ssl.CERT_NONE
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # as GnuTLS: all in it are trusted
        try:
            context.load_verify_locations(ca)
            revoked, parameters = self._file(CRL), self._file(DH)
            if revoked is not None:
                context.load_verify_locations(revoked)
                context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
            if own is not None:
                context.load_cert_chain(own, key, password or "")
            if server and parameters is not None:
                context.load_dh_params(parameters)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise Unusable(self.dir or "", str(error)) from error
        return context


def serving(objects: Objects, id_: str) -> ssl.SSLContext:
    """What a server's connections are encrypted with. It stays good when the object goes, as in
    QEMU. Raises RequestError."""
    return _credentials(objects, id_, "server").context


def encrypting(
    objects: Objects, id_: str, hostname: str | None
) -> tuple[ssl.SSLContext, str | None]:
    """The same for a client, and whose certificate the server must show: anybody's, where it need
    not show any. Raises RequestError."""
    found = _credentials(objects, id_, "client")
    if not found.verify_peer or not hostname:
        return found.context, None
    return found.context_for_hosts, hostname


def _credentials(objects: Objects, id_: str, endpoint: str) -> TlsCredsX509:
    found = objects.by_id.get(id_)
    if found is None:
        raise NoCredentials(id_)
    if not isinstance(found, TlsCredsX509):
        raise NotCredentials(id_)
    if found.endpoint != endpoint:
        raise WrongEndpoint(endpoint)
    return found


made = TlsCredsX509
