"""block_set_io_throttle: limits of what goes through a drive."""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, UnsetType

from monitor.engine.schema.base import DriveName, Feature, NewName, QInt, Request

Bytes = Annotated[QInt, "bytes a second, 0 for no limit"]
Requests = Annotated[QInt, "requests a second, 0 for no limit"]
ByteBurst = Annotated[QInt, "bytes a second in a burst"]
RequestBurst = Annotated[QInt, "requests a second in a burst"]
Seconds = Annotated[QInt, "seconds that a burst may last"]


class BlockSetIoThrottle(
    Request, kw_only=True, tag="block_set_io_throttle", rename=lambda name: name
):
    """Limit the bytes and the requests that go through a drive in a second. What is left out is
    without a limit from now on."""

    device: Annotated[DriveName, "the drive", Feature("deprecated")] | UnsetType = UNSET
    id: Annotated[str, "a device of a machine, which is not there"] | UnsetType = UNSET
    bps: Bytes
    bps_rd: Bytes
    bps_wr: Bytes
    iops: Requests
    iops_rd: Requests
    iops_wr: Requests
    bps_max: ByteBurst | UnsetType = UNSET
    bps_rd_max: ByteBurst | UnsetType = UNSET
    bps_wr_max: ByteBurst | UnsetType = UNSET
    iops_max: RequestBurst | UnsetType = UNSET
    iops_rd_max: RequestBurst | UnsetType = UNSET
    iops_wr_max: RequestBurst | UnsetType = UNSET
    bps_max_length: Seconds | UnsetType = UNSET
    bps_rd_max_length: Seconds | UnsetType = UNSET
    bps_wr_max_length: Seconds | UnsetType = UNSET
    iops_max_length: Seconds | UnsetType = UNSET
    iops_rd_max_length: Seconds | UnsetType = UNSET
    iops_wr_max_length: Seconds | UnsetType = UNSET
    iops_size: Annotated[QInt, "bytes above which a request counts as several"] | UnsetType = UNSET
    group: (
        Annotated[NewName, "drives of one group share its limits (by default the drive's name)"]
        | UnsetType
    ) = UNSET

    example = (
        "block_set_io_throttle device=d0 bps=10485760 bps_rd=0 bps_wr=0 iops=0 iops_rd=0 iops_wr=0"
    )
