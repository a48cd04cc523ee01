"""Compressed clusters from anybody: bounded output, and errors instead of short data."""

from __future__ import annotations

import random
import tracemalloc
from errno import EIO

import pytest

from monitor.engine.drivers.qcow2 import layout as q
from monitor.engine.drivers.qcow2.compress import compress, decompress

CLUSTER = 65536
KINDS = pytest.mark.parametrize("kind", [q.COMPRESSION_ZLIB, q.COMPRESSION_ZSTD])


def _pack(kind: int, data: bytes) -> bytes:
    packed = compress(kind, memoryview(data))
    assert packed is not None
    return packed


@KINDS
def test_there_and_back(kind: int) -> None:
    data = b"cluster " * (CLUSTER // 8)
    packed = _pack(kind, data)
    assert decompress(kind, memoryview(packed), CLUSTER) == data
    padded = packed + bytes(range(256))  # the sector goes on behind the stream
    assert decompress(kind, memoryview(padded), CLUSTER) == data


@KINDS
def test_what_does_not_shrink_is_left_alone(kind: int) -> None:
    noise = random.Random(1).randbytes(CLUSTER)
    assert compress(kind, memoryview(noise)) is None


@KINDS
def test_a_bomb_gives_one_cluster(kind: int) -> None:
    """64 MiB behind one stream: neither they nor the memory for them are ever there."""
    bomb = _pack(kind, bytes(64 << 20))
    tracemalloc.start()
    assert decompress(kind, memoryview(bomb), CLUSTER) == bytes(CLUSTER)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 12 << 20


@KINDS
@pytest.mark.parametrize("kept", [0, 1, 10, -1])
def test_a_stream_that_ends_early_is_an_error(kind: int, kept: int) -> None:
    packed = _pack(kind, b"cluster " * (CLUSTER // 8))
    with pytest.raises(OSError) as caught:
        decompress(kind, memoryview(packed[:kept]), CLUSTER)
    assert caught.value.errno == EIO


@KINDS
def test_a_stream_of_less_than_a_cluster_is_an_error(kind: int) -> None:
    packed = _pack(kind, b"cluster " * (CLUSTER // 16))
    with pytest.raises(OSError) as caught:
        decompress(kind, memoryview(packed), CLUSTER)
    assert caught.value.errno == EIO
