"""``nbd``: a disk that another process serves.

driver       the contract's operations, the export's limits
session      the connection that is there now, or is tried again
connection   one connected socket: requests in flight, replies in any order
address      sockets from options, options from file names
"""
