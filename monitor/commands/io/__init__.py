"""The language of qemu-io, for the command of that name."""
