"""``blkdebug``: a filter whose requests fail, or stand still, when and where its rules say so.

    rules.py    which events do what: states, errors, breakpoints
    config.py   rules written in a file
    driver.py   the filter itself

Drivers above report what they are about to do (``Child.event``), such as ``l2_load`` or
``write_aio``; an event may inject errors into the requests that follow it, change the state that
rules depend on, or hold its request until somebody resumes it.
"""

from monitor.engine.drivers.blkdebug.driver import BlkdebugDriver

__all__ = ["BlkdebugDriver"]
