"""Refusals about names and uses of nodes; texts of QEMU 7.2."""

from __future__ import annotations

from monitor.engine.errors import RequestError


class NodeNotFound(RequestError):
    template = "Failed to find node with node-name='{name}'"
    name: str


class UnknownNode(RequestError):
    """As NodeNotFound, in the words of requests on bitmaps and on children."""

    template = "Node '{name}' not found"
    name: str


class DeviceOrNodeNotFound(RequestError):
    template = "Cannot find device='{device}' nor node-name='{node_name}'"
    device: str
    node_name: str

    @property
    def name(self) -> str:
        return self.device or self.node_name


class DeviceHasNoMedium(RequestError):
    template = "Device '{device}' has no medium"
    device: str


class NeedRootNode(RequestError):
    """The node ``above`` keeps it from being one, or the ``job`` that works on it or from there."""

    template = "Need a root block node"
    node: str
    above: str | None
    job: str | None


class InvalidNodeName(RequestError):
    template = "Invalid node-name: '{name}'"
    name: str


class NodeNameTooLong(RequestError):
    template = "Node name too long"
    name: str


class NodeNameIsDevice(RequestError):
    template = "node-name={name} is conflicting with a device id"
    name: str


class DeviceNameIsNode(RequestError):
    template = "Device name '{name}' conflicts with an existing node name"
    name: str


class DuplicateNodeName(RequestError):
    template = "Duplicate nodes with node-name='{name}'"
    name: str


class NodeBusy(RequestError):
    template = "Node '{node}' is busy: {reason}"
    node: str
    reason: str
    job: str | None = None


class NodeInUse(RequestError):
    template = "Node {node} is in use"
    node: str
    job: str | None


class NotMonitorOwned(RequestError):
    template = "Node {node} is not owned by the monitor"
    node: str


class CannotReopen(RequestError):
    template = "Block format '{driver}' used by node '{node}' does not support reopening files"
    driver: str
    node: str


class CopiesOnRead(RequestError):
    template = "Can't set node '{node}' to r/o with copy-on-read enabled"
    node: str


class NoBackingPossible(RequestError):
    template = "Driver '{driver}' of node '{node}' does not support backing files"
    driver: str
    node: str
