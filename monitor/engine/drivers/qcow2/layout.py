"""What a qcow2 file is made of: formats, flags and limits. Nothing here does I/O.

The names and numbers are those of QEMU's ``docs/interop/qcow2.txt``. Everything on disk is
big-endian. A file is a sequence of clusters of ``1 << cluster_bits`` bytes::

    header | refcount table -> refcount blocks | L1 table -> L2 tables -> data clusters

The L1 and L2 tables turn a guest offset into a host offset; the refcount table and its blocks say
how many references each host cluster has.
"""

from __future__ import annotations

import errno
import os
import struct
from dataclasses import dataclass
from typing import Final

MAGIC: Final = 0x514649FB  # "QFI\xfb"

# -- header ------------------------------------------------------------------------------------

HEADER_V2: Final = struct.Struct(">IIQIIQIIQQIIQ")
"""magic, version, backing_file_offset, backing_file_size, cluster_bits, size, crypt_method,
l1_size, l1_table_offset, refcount_table_offset, refcount_table_clusters, nb_snapshots,
snapshots_offset: 72 bytes, all of a version 2 header."""

HEADER_V3: Final = struct.Struct(">QQQII")
"""incompatible_features, compatible_features, autoclear_features, refcount_order, header_length:
the next 32 bytes of a version 3 header."""

V3_MIN_LENGTH: Final = HEADER_V2.size + HEADER_V3.size  # 104
V3_LENGTH: Final = 112  # with compression_type (byte 104) and seven bytes of padding
COMPRESSION_TYPE_AT: Final = 104

# Parts of the header that are rewritten alone; each lies within one 512-byte sector.
SIZE_AT: Final = 24
SIZE_FIELDS: Final = struct.Struct(">QIIQ")  # size, crypt_method, l1_size, l1_table_offset
REFTABLE_AT: Final = 48
REFTABLE_FIELDS: Final = struct.Struct(">QI")  # refcount_table_offset, refcount_table_clusters
TABLES_FIELDS: Final = struct.Struct(">QIIQQIIQ")
"""At ``SIZE_AT``: size, crypt_method, l1_size, l1_table_offset, refcount_table_offset,
refcount_table_clusters, nb_snapshots, snapshots_offset. One sector, so that all change at once."""
FEATURES_AT: Final = 72
FEATURES: Final = struct.Struct(">QQQ")

INCOMPAT_DIRTY: Final = 1 << 0  # refcounts may be wrong: rebuild them before use
INCOMPAT_CORRUPT: Final = 1 << 1  # metadata is damaged: never open for writing
INCOMPAT_DATA_FILE: Final = 1 << 2
INCOMPAT_COMPRESSION: Final = 1 << 3  # compression_type is not zlib
INCOMPAT_EXTENDED_L2: Final = 1 << 4
INCOMPAT_KNOWN: Final = INCOMPAT_DIRTY | INCOMPAT_CORRUPT | INCOMPAT_COMPRESSION
"""What this driver can open; the rest is refused by name."""

COMPAT_LAZY_REFCOUNTS: Final = 1 << 0
AUTOCLEAR_BITMAPS: Final = 1 << 0

CRYPT_NAMES: Final = {1: "AES encryption", 2: "LUKS encryption"}
COMPRESSION_ZLIB: Final = 0
COMPRESSION_ZSTD: Final = 1
COMPRESSION_NAMES: Final = {COMPRESSION_ZLIB: "zlib", COMPRESSION_ZSTD: "zstd"}

# -- header extensions ---------------------------------------------------------------------------

EXTENSION: Final = struct.Struct(">II")  # magic, length of the data (padded to 8 bytes)
EXT_END: Final = 0
EXT_BACKING_FORMAT: Final = 0xE2792ACA
EXT_FEATURE_NAMES: Final = 0x6803F857
EXT_BITMAPS: Final = 0x23852875

FEATURE_NAME: Final = struct.Struct(">BB46s")  # type, bit, name padded with zeroes
FEATURE_TYPE_INCOMPATIBLE: Final = 0
FEATURE_TABLE: Final = (
    (0, 0, "dirty bit"),
    (0, 1, "corrupt bit"),
    (0, 2, "external data file"),
    (0, 3, "compression type"),
    (0, 4, "extended L2 entries"),
    (1, 0, "lazy refcounts"),
    (2, 0, "bitmaps"),
    (2, 1, "raw external data"),
)

SNAPSHOT: Final = struct.Struct(">QIHHIIQII")
"""l1_table_offset, l1_size, id_str_size, name_size, date_sec, date_nsec, vm_clock_nsec,
vm_state_size, extra_data_size; then extra data, id and name, padded to 8 bytes."""

# -- bitmaps -------------------------------------------------------------------------------------

BITMAPS_EXTENSION: Final = struct.Struct(">IIQQ")
"""nb_bitmaps, reserved, bitmap_directory_size, bitmap_directory_offset."""

BITMAP: Final = struct.Struct(">QIIBBHI")
"""bitmap_table_offset, bitmap_table_size (entries), flags, type, granularity_bits, name_size,
extra_data_size; then extra data and name, padded to 8 bytes."""

BITMAP_IN_USE: Final = 1 << 0  # the disk may have changed since it was stored
BITMAP_AUTO: Final = 1 << 1  # it records
BITMAP_EXTRA_COMPATIBLE: Final = 1 << 2  # may be used without knowing its extra data
BITMAP_FLAGS: Final = BITMAP_IN_USE | BITMAP_AUTO | BITMAP_EXTRA_COMPATIBLE
BITMAP_DIRTY_TRACKING: Final = 1  # the only type
BITMAP_ALL_ONES: Final = 1 << 0  # in a table entry without an offset
BITMAP_RESERVED: Final = 0xFF00_0000_0000_01FE  # bits of a table entry

# -- table entries -------------------------------------------------------------------------------

OFFSET_MASK: Final = 0x00FF_FFFF_FFFF_FE00
"""Bits 9 to 55 of an L1 or L2 entry: the host offset, a multiple of the cluster size."""
REFTABLE_MASK: Final = 0xFFFF_FFFF_FFFF_FE00
COPIED: Final = 1 << 63  # refcount is exactly one: may be written in place
COMPRESSED: Final = 1 << 62
ZERO: Final = 1 << 0  # reads as zeroes, whatever the offset (version 3)

# -- limits --------------------------------------------------------------------------------------

MIN_CLUSTER_BITS: Final = 9
MAX_CLUSTER_BITS: Final = 21
MAX_REFCOUNT_ORDER: Final = 6
MAX_L1_BYTES: Final = 32 << 20
MAX_REFTABLE_BYTES: Final = 8 << 20
MAX_SNAPSHOTS: Final = 65_536
MAX_SNAPSHOT_EXTRA: Final = 1024
MAX_SNAPSHOT_TABLE_BYTES: Final = 16 << 20  # QEMU: 64 MiB, more than opening may take here
MAX_SNAPSHOT_NAME: Final = 1023
MAX_BACKING_NAME: Final = 1023
MAX_BACKING_FORMAT: Final = 15
MAX_BITMAPS: Final = 65_535
MAX_BITMAP_DIRECTORY: Final = 16 << 20  # QEMU: 64 MiB, more than opening may take here
MAX_BITMAP_BYTES: Final = 512 << 20  # of one bitmap's data, clean parts included
MAX_BITMAP_DATA: Final = 512 << 20  # bytes of data of all bitmaps of an image together
MAX_BITMAP_TABLES: Final = 64 << 20  # bytes of all their tables
MAX_BITMAP_NAME: Final = 1023
MIN_GRANULARITY_BITS: Final = 9
MAX_GRANULARITY_BITS: Final = 31
MAX_EXTENSIONS: Final = 4096
MAX_HOST_OFFSET: Final = 1 << 56  # what an L2 entry can hold
MAX_INT64: Final = (1 << 63) - 1
MAX_SIZE: Final = (1 << 63) - (1 << 30)  # of a disk that is made, as in QEMU
SECTOR: Final = 512  # sizes are multiples of it, and no write of it is ever torn

PIECE: Final = 65_536
"""Table entries handled in one go under the lock: about a millisecond of numpy work."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """Sizes that follow from the header and never change while an image is open."""

    version: int
    cluster_bits: int
    refcount_order: int

    @property
    def cluster_size(self) -> int:
        return 1 << self.cluster_bits

    @property
    def l2_bits(self) -> int:
        """An L2 table is one cluster of 8-byte entries."""
        return self.cluster_bits - 3

    @property
    def refcount_bits(self) -> int:
        return 1 << self.refcount_order

    @property
    def block_bits(self) -> int:
        """log2 of the entries in a refcount block, which is one cluster too."""
        return self.cluster_bits + 3 - self.refcount_order

    @property
    def reftable_entries_per_cluster(self) -> int:
        return 1 << (self.cluster_bits - 3)

    def l1_entries(self, size: int) -> int:
        """L1 entries that a disk of ``size`` bytes needs."""
        shift = self.cluster_bits + self.l2_bits
        return (size + (1 << shift) - 1) >> shift

    def clusters(self, size: int) -> int:
        return (size + self.cluster_size - 1) >> self.cluster_bits

    def compressed_extent(self, entry: int) -> tuple[int, int]:
        """Host offset and length in bytes of a compressed cluster's data.

        The length is known to 512 bytes only: the stream may end earlier.
        """
        shift = 62 - (self.cluster_bits - 8)
        offset = entry & ((1 << shift) - 1)
        sectors = ((entry >> shift) & ((1 << (self.cluster_bits - 8)) - 1)) + 1
        return offset, sectors * SECTOR - (offset & (SECTOR - 1))

    def compressed_entry(self, offset: int, length: int) -> int:
        """The L2 entry of a compressed cluster whose data lies there. Raises OSError(EFBIG) where
        the format cannot say so."""
        shift = 62 - (self.cluster_bits - 8)
        if (offset + length) >> shift:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        further = (offset + length - 1) // SECTOR - offset // SECTOR
        return COMPRESSED | further << shift | offset
