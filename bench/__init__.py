"""Side by side with QEMU's tools: the same work, ours and theirs in turn, ratios of medians.

Never a timed assertion, and no absolute figure means anything but beside the other of its run.
"""
