"""An edge to a driver without a graph: what a driver under test is given as a child."""

from __future__ import annotations

from monitor.engine.drivers.base import Driver


class DriverEdge:
    """``Child`` of the contract, straight to ``driver``."""

    def __init__(self, driver: Driver, node_name: str = "child") -> None:
        self.driver = driver
        self.read = driver.read
        self.write = driver.write
        self.write_zeroes = driver.write_zeroes
        self.discard = driver.discard
        self.flush = driver.flush
        self.map = driver.map
        self.hold = driver.hold
        self.map_for_write = driver.map_for_write
        self.read_ranges = driver.read_ranges
        self.write_ranges = driver.write_ranges
        self.write_compressed = driver.write_compressed
        self.length = driver.length
        self.truncate = driver.truncate
        self.cluster_size = driver.cluster_size
        self.event = driver.event_sink()
        self.grow = driver.grow
        self.expect = driver.expect
        self.reserve = driver.reserve
        self.node_name = node_name

    @property
    def compresses(self) -> bool:
        return self.driver.compresses

    @property
    def alignment(self) -> int:
        return self.driver.alignment

    @property
    def filename(self) -> str:
        return self.driver.filename
