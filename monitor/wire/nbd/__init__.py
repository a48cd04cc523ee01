"""NBD: bytes <-> messages, for servers and clients. No sockets, no engine.

    layout         magics, flags and structs, in the specification's spelling
    offers         what a server offers: its exports and their metadata contexts
    handshake      a server's side of the fixed newstyle negotiation
    transmission   requests read, replies built

The specification is NetworkBlockDevice/nbd, doc/proto.md.
"""
