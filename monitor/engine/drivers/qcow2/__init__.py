"""QEMU's image format, versions 2 and 3.

``layout`` declares the format; ``header`` and ``snapshots`` read what is read once; ``tables`` and
``refcount`` hold the two trees of tables, changed in memory and carried to the disk by
``writeback``; ``reading``, ``writing``, ``zeroing`` and ``resize`` are what a guest can ask for;
``image`` holds what they share, with the rules between threads; ``driver`` is the driver contract
on top.
"""

from monitor.engine.drivers.qcow2.create import CreateOptions, create_image
from monitor.engine.drivers.qcow2.driver import Qcow2Driver, probe

__all__ = ["CreateOptions", "Qcow2Driver", "create_image", "probe"]
