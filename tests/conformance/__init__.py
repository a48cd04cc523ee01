"""One suite over every driver.

    subjects.py          the drivers under test, and how an image of each is made
    checks.py            what the contract (monitor/engine/drivers/base.py) promises, as functions
                         that take an open image
    test_conformance.py  every check on every subject

A driver joins by a ``Subject`` of its own; a new promise of the contract is a new check.
"""
