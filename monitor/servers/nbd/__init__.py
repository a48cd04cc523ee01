"""The NBD server: sockets and threads around ``wire.nbd``.

server       listens, keeps what is offered, counts its connections
connection   one client, one thread: its negotiation, then its requests
helpers      what is not short, in other threads; how much may be under way
serving      a request carried out: operations of an export, replies
"""
