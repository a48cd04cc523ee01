"""Compressed clusters: raw deflate or zstd, never more than one cluster of output."""

from __future__ import annotations

import os
import zlib
from errno import EIO

from monitor.engine.drivers.qcow2 import layout as q

_DEFLATE_WINDOW_BITS = 12  # what qcow2 streams are made with
_DEFLATE_MEMORY_LEVEL = 9
_ZSTD_LEVEL = 3
_ZSTD_MAX_WINDOW = 8 << 20  # bytes; no encoder needs more than the cluster, at most 2 MiB


def decompress(kind: int, data: memoryview, cluster_size: int) -> bytes:
    """One cluster from ``data``, which may go on after the stream's end.

    Raises OSError(EIO) when the stream is damaged or ends before the cluster is full.
    """
    try:
        if kind == q.COMPRESSION_ZSTD:
            cluster = _zstd(data, cluster_size)
        else:
            cluster = zlib.decompressobj(-_DEFLATE_WINDOW_BITS).decompress(data, cluster_size)
    except zlib.error as error:
        raise OSError(EIO, os.strerror(EIO)) from error
    if len(cluster) != cluster_size:
        raise OSError(EIO, os.strerror(EIO))
    return cluster


def _zstd(data: memoryview, cluster_size: int) -> bytes:
    import zstandard

    decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_MAX_WINDOW)
    try:
        with decompressor.stream_reader(data, read_across_frames=True) as stream:
            return bytes(stream.read(cluster_size))
    except zstandard.ZstdError as error:
        raise OSError(EIO, os.strerror(EIO)) from error


def compress(kind: int, cluster: memoryview) -> bytes | None:
    """The compressed form of one cluster; None where that is no smaller."""
    if kind == q.COMPRESSION_ZSTD:
        import zstandard

        packed = zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compress(cluster)
    else:
        stream = zlib.compressobj(
            zlib.Z_DEFAULT_COMPRESSION, zlib.DEFLATED, -_DEFLATE_WINDOW_BITS, _DEFLATE_MEMORY_LEVEL
        )
        packed = stream.compress(cluster) + stream.flush()
    return packed if len(packed) < len(cluster) else None
