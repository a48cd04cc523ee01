"""Refusals about names and uses of nodes; texts of QEMU 7.2."""

from __future__ import annotations

from dataclasses import dataclass

from monitor.engine.errors import RequestError


@dataclass(eq=False)
class NodeNotFound(RequestError):
    template = "Failed to find node with node-name='{name}'"
    name: str


@dataclass(eq=False)
class DeviceOrNodeNotFound(RequestError):
    template = "Cannot find device='{device}' nor node-name='{node_name}'"
    device: str
    node_name: str

    @property
    def name(self) -> str:
        return self.device or self.node_name


@dataclass(eq=False)
class DeviceHasNoMedium(RequestError):
    template = "Device '{device}' has no medium"
    device: str


@dataclass(eq=False)
class InvalidNodeName(RequestError):
    template = "Invalid node-name: '{name}'"
    name: str


@dataclass(eq=False)
class NodeNameTooLong(RequestError):
    template = "Node name too long"
    name: str


@dataclass(eq=False)
class NodeNameIsDevice(RequestError):
    template = "node-name={name} is conflicting with a device id"
    name: str


@dataclass(eq=False)
class DuplicateNodeName(RequestError):
    template = "Duplicate nodes with node-name='{name}'"
    name: str


@dataclass(eq=False)
class NodeBusy(RequestError):
    template = "Node '{node}' is busy: {reason}"
    node: str
    reason: str


@dataclass(eq=False)
class NodeInUse(RequestError):
    template = "Node {node} is in use"
    node: str


@dataclass(eq=False)
class NotMonitorOwned(RequestError):
    template = "Node {node} is not owned by the monitor"
    node: str
