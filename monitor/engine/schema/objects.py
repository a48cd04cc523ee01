"""Objects of the user's (``object-add``, ``--object``), and the tree in which they are found."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, UnsetType

from monitor.engine.schema.base import (
    Feature,
    FileName,
    NewName,
    ObjectName,
    Options,
    QInt,
    Request,
    Result,
)

SecretFormat = Literal["raw", "base64"]
TlsEndpoint = Literal["client", "server"]

Loaded = Annotated[bool, "what QEMU has always done since 6.0", Feature("deprecated")] | UnsetType


class ObjectOptions(Options, tag_field="qom-type", kw_only=True):
    """Members that every type of object has."""

    id: Annotated[NewName, "the object's id"]


class IothreadOptions(ObjectOptions, tag="iothread", kw_only=True):
    """A pool of threads with a name."""

    aio_max_batch: Annotated[QInt, "has no meaning here"] | UnsetType = UNSET
    thread_pool_min: Annotated[QInt, "threads that are kept (default 0)"] | UnsetType = UNSET
    thread_pool_max: Annotated[QInt, "threads at once (default 64)"] | UnsetType = UNSET
    poll_max_ns: Annotated[QInt, "has no meaning here"] | UnsetType = UNSET
    poll_grow: Annotated[QInt, "has no meaning here"] | UnsetType = UNSET
    poll_shrink: Annotated[QInt, "has no meaning here"] | UnsetType = UNSET


class SecretOptions(ObjectOptions, tag="secret", kw_only=True):
    """A password, from ``data`` or a ``file``."""

    loaded: Loaded = UNSET
    format: Annotated[SecretFormat, "how it is written (default raw)"] | UnsetType = UNSET
    keyid: Annotated[ObjectName, "the secret that it is encrypted with"] | UnsetType = UNSET
    iv: Annotated[str, "base64, where it is encrypted: the 16 bytes it begins with"] | UnsetType = (
        UNSET
    )
    data: Annotated[str, "the secret itself"] | UnsetType = UNSET
    file: Annotated[FileName, "the file that holds it"] | UnsetType = UNSET


class TlsCredsX509Options(ObjectOptions, tag="tls-creds-x509", kw_only=True):
    """Certificates and keys for TLS, from a folder."""

    verify_peer: Annotated[bool, "the other side must show a certificate (default on)"] | (
        UnsetType
    ) = UNSET
    dir: (
        Annotated[FileName, "the folder: ca-cert.pem, server-cert.pem, server-key.pem, …"]
        | UnsetType
    ) = UNSET
    endpoint: Annotated[TlsEndpoint, "which side they are for (default client)"] | UnsetType = UNSET
    priority: Annotated[str, "GnuTLS's choice of algorithms: refused here"] | UnsetType = UNSET
    loaded: Loaded = UNSET
    sanity_check: Annotated[bool, "mistakes in certificates are told at once (default on)"] | (
        UnsetType
    ) = UNSET
    passwordid: Annotated[ObjectName, "the secret that opens the key"] | UnsetType = UNSET


AnyObjectOptions = IothreadOptions | SecretOptions | TlsCredsX509Options


class ObjectAdd(Request, kw_only=True, tag="object-add"):
    """Make an object that other options name: a secret, TLS credentials, a pool of threads."""

    flattened = "options"
    options: AnyObjectOptions

    example = "object-add qom-type=secret id=s0 data=letmein"


class ObjectDel(Request, kw_only=True, tag="object-del"):
    """Take an object away."""

    id: Annotated[ObjectName, "the object"]

    example = "object-del id=s0"


class ObjectPropertyInfo(Result, kw_only=True):
    name: str
    type: str
    description: str | UnsetType = UNSET
    default_value: Any | UnsetType = UNSET


class QomList(Request, kw_only=True, tag="qom-list"):
    """The properties of an object, those that are objects included."""

    path: Annotated[str, "from the root (/objects/s0), or as much of its end as is unique"]

    returns = list[ObjectPropertyInfo]
    example = "qom-list path=/objects"


class QomGet(Request, kw_only=True, tag="qom-get"):
    """The value of an object's property."""

    path: Annotated[str, "the object"]
    property: Annotated[str, "the property's name"]

    returns = Any
    example = "qom-get path=/objects/s0 property=format"


class QomSet(Request, kw_only=True, tag="qom-set"):
    """Give an object's property another value."""

    path: Annotated[str, "the object"]
    property: Annotated[str, "the property's name"]
    value: Annotated[Any, "its new value"]

    example = "qom-set path=/objects/io0 property=poll-max-ns value=0"


class ObjectTypeInfo(Result, kw_only=True):
    name: str
    abstract: bool | UnsetType = UNSET
    parent: str | UnsetType = UNSET


class QomListTypes(Request, kw_only=True, tag="qom-list-types"):
    """The types of objects that there are."""

    implements: Annotated[str, "only those that are such a type"] | UnsetType = UNSET
    abstract: Annotated[bool, "also those that no object has by itself"] | UnsetType = UNSET

    returns = list[ObjectTypeInfo]
    example = "qom-list-types implements=user-creatable"


class IOThreadInfo(Result, kw_only=True):
    id: str
    thread_id: int
    poll_max_ns: int
    poll_grow: int
    poll_shrink: int
    aio_max_batch: int


class QueryIothreads(Request, kw_only=True, tag="query-iothreads"):
    """All pools of threads (objects of type iothread)."""

    returns = list[IOThreadInfo]
    example = "query-iothreads"
