"""FUSE exports: a node as a regular file of the host.

``mounting`` puts the file there and takes it away, ``serving`` answers the kernel's requests by
``wire/fuse.py``, ``server`` is what the engine knows.
"""
