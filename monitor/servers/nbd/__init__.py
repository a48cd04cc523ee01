"""The NBD server: sockets and threads around ``wire.nbd``.

server       listens, keeps what is offered, counts its connections
connection   one client, one thread: its negotiation, then its requests
serving      a request carried out: operations of an export, replies
"""
