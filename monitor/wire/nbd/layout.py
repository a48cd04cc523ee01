"""What NBD looks like on the wire (doc/proto.md): magics, codes, flags and structs; all big-endian.

Nothing here acts. Names are the specification's, without their NBD_ prefix.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

# -- limits ------------------------------------------------------------------------------------

MAX_STRING: Final = 4096
"""Bytes of an export's name, a description, a metadata context or an error text."""
MAX_OPTION: Final = 64 << 10
"""Bytes of an option's data that are taken in at all; a longer one ends the connection."""
MAX_OPTIONS: Final = 4096
"""Options of one negotiation: a client that never comes to its point is let go."""
MAX_PAYLOAD: Final = 32 << 20
"""Bytes that one request may read or write (section 'Block size constraints': 32 MiB)."""
MAX_EXTENTS: Final = 2048
"""Descriptors in one reply to block status: the client asks again for the rest."""
PREFERRED_BLOCK: Final = 4096

# -- negotiation -------------------------------------------------------------------------------

INIT_MAGIC: Final = 0x4E42444D41474943  # "NBDMAGIC"
OPTION_MAGIC: Final = 0x49484156454F5054  # "IHAVEOPT"
REPLY_MAGIC: Final = 0x0003E889045565A9

FLAG_FIXED_NEWSTYLE: Final = 1 << 0
FLAG_NO_ZEROES: Final = 1 << 1

OPT_EXPORT_NAME: Final = 1
OPT_ABORT: Final = 2
OPT_LIST: Final = 3
OPT_STARTTLS: Final = 5
OPT_INFO: Final = 6
OPT_GO: Final = 7
OPT_STRUCTURED_REPLY: Final = 8
OPT_LIST_META_CONTEXT: Final = 9
OPT_SET_META_CONTEXT: Final = 10

REP_ACK: Final = 1
REP_SERVER: Final = 2
REP_INFO: Final = 3
REP_META_CONTEXT: Final = 4
REP_ERROR_BIT: Final = 1 << 31
REP_ERR_UNSUP: Final = REP_ERROR_BIT | 1
REP_ERR_POLICY: Final = REP_ERROR_BIT | 2
REP_ERR_INVALID: Final = REP_ERROR_BIT | 3
REP_ERR_PLATFORM: Final = REP_ERROR_BIT | 4
REP_ERR_TLS_REQD: Final = REP_ERROR_BIT | 5
REP_ERR_UNKNOWN: Final = REP_ERROR_BIT | 6
REP_ERR_SHUTDOWN: Final = REP_ERROR_BIT | 7
REP_ERR_BLOCK_SIZE_REQD: Final = REP_ERROR_BIT | 8
REP_ERR_TOO_BIG: Final = REP_ERROR_BIT | 9

INFO_EXPORT: Final = 0
INFO_NAME: Final = 1
INFO_DESCRIPTION: Final = 2
INFO_BLOCK_SIZE: Final = 3

GREETING: Final = Struct(">QQH")  # INIT_MAGIC, OPTION_MAGIC, handshake flags
CLIENT_FLAGS: Final = Struct(">I")
OPTION: Final = Struct(">QII")  # OPTION_MAGIC, option, length of the data behind it
OPTION_REPLY: Final = Struct(">QIII")  # REPLY_MAGIC, option, reply, length of the data behind it
EXPORT: Final = Struct(">QH")  # size in bytes, transmission flags
INFO_EXPORT_REPLY: Final = Struct(">HQH")
INFO_BLOCK_SIZE_REPLY: Final = Struct(">HIII")  # minimum, preferred, maximum
EXPORT_NAME_PADDING: Final = bytes(124)

# -- transmission ------------------------------------------------------------------------------

FLAG_HAS_FLAGS: Final = 1 << 0
FLAG_READ_ONLY: Final = 1 << 1
FLAG_SEND_FLUSH: Final = 1 << 2
FLAG_SEND_FUA: Final = 1 << 3
FLAG_ROTATIONAL: Final = 1 << 4
FLAG_SEND_TRIM: Final = 1 << 5
FLAG_SEND_WRITE_ZEROES: Final = 1 << 6
FLAG_SEND_DF: Final = 1 << 7
FLAG_CAN_MULTI_CONN: Final = 1 << 8
FLAG_SEND_CACHE: Final = 1 << 10
FLAG_SEND_FAST_ZERO: Final = 1 << 11

REQUEST_MAGIC: Final = 0x25609513
SIMPLE_REPLY_MAGIC: Final = 0x67446698
STRUCTURED_REPLY_MAGIC: Final = 0x668E33EF

CMD_READ: Final = 0
CMD_WRITE: Final = 1
CMD_DISC: Final = 2
CMD_FLUSH: Final = 3
CMD_TRIM: Final = 4
CMD_CACHE: Final = 5
CMD_WRITE_ZEROES: Final = 6
CMD_BLOCK_STATUS: Final = 7

CMD_FLAG_FUA: Final = 1 << 0
CMD_FLAG_NO_HOLE: Final = 1 << 1
CMD_FLAG_DF: Final = 1 << 2
CMD_FLAG_REQ_ONE: Final = 1 << 3
CMD_FLAG_FAST_ZERO: Final = 1 << 4

REPLY_FLAG_DONE: Final = 1 << 0

REPLY_TYPE_NONE: Final = 0
REPLY_TYPE_OFFSET_DATA: Final = 1
REPLY_TYPE_OFFSET_HOLE: Final = 2
REPLY_TYPE_BLOCK_STATUS: Final = 5
REPLY_TYPE_ERROR: Final = (1 << 15) | 1
REPLY_TYPE_ERROR_OFFSET: Final = (1 << 15) | 2

STATE_HOLE: Final = 1 << 0  # base:allocation
STATE_ZERO: Final = 1 << 1
STATE_DIRTY: Final = 1 << 0  # qemu:dirty-bitmap:NAME

EPERM: Final = 1
EIO: Final = 5
ENOMEM: Final = 12
EINVAL: Final = 22
ENOSPC: Final = 28
EOVERFLOW: Final = 75
ENOTSUP: Final = 95
ESHUTDOWN: Final = 108

REQUEST: Final = Struct(">IHHQQI")  # magic, command flags, type, cookie, offset, length
SIMPLE_REPLY: Final = Struct(">IIQ")  # magic, error, cookie
STRUCTURED_REPLY: Final = Struct(">IHHQI")  # magic, flags, type, cookie, length of what follows
OFFSET: Final = Struct(">Q")
OFFSET_HOLE: Final = Struct(">QI")
CONTEXT_ID: Final = Struct(">I")
EXTENT: Final = Struct(">II")  # length, flags
ERROR: Final = Struct(">IH")  # error, length of the text behind it
