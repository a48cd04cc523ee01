"""Objects of the user's: what ``object-add`` makes and other options name by id.

base        what every object is, its properties, and the table of all of them
iothread    a pool of threads with a name
secret      a password
tls         certificates and keys
tree        the paths under which qom-list and its like find them
"""
