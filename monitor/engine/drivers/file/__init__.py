"""The ``file`` protocol driver.

driver.py   FileDriver: the contract, and changes of flags and permissions
device.py   HostDeviceDriver: what a device does differently
handles.py  an open descriptor, and the state that transactions change
host.py     opening a regular file; loops around preadv and pwrite
direct.py   O_DIRECT: alignment, bounce buffers, read-modify-write
space.py    holes: SEEK_DATA and fallocate
locks.py    QEMU's image locks
create.py   new files
extend.py   longer files, with or without storage for what is added
"""
