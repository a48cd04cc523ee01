"""What QMP's clients ask about the machine that is not there."""

from __future__ import annotations

from monitor.engine.embedded import EmbeddedEngine
from monitor.engine.handlers import handles
from monitor.engine.schema.machine import (
    ChardevInfo,
    CpuInfoS390,
    KvmInfo,
    NameInfo,
    QueryChardev,
    QueryCpusFast,
    QueryKvm,
    QueryName,
    QueryStatus,
    QueryTpm,
    StatusInfo,
    TPMInfo,
)


@handles(QueryStatus)
async def query_status(engine: EmbeddedEngine, request: QueryStatus) -> StatusInfo:
    return StatusInfo(running=True, singlestep=False, status="running")


@handles(QueryName)
async def query_name(engine: EmbeddedEngine, request: QueryName) -> NameInfo:
    return NameInfo()


@handles(QueryKvm)
async def query_kvm(engine: EmbeddedEngine, request: QueryKvm) -> KvmInfo:
    return KvmInfo(enabled=False, present=False)


@handles(QueryCpusFast)
async def query_cpus_fast(engine: EmbeddedEngine, request: QueryCpusFast) -> list[CpuInfoS390]:
    return []


@handles(QueryTpm)
async def query_tpm(engine: EmbeddedEngine, request: QueryTpm) -> list[TPMInfo]:
    return []


@handles(QueryChardev)
async def query_chardev(engine: EmbeddedEngine, request: QueryChardev) -> list[ChardevInfo]:
    return [
        ChardevInfo(label=f"compat_monitor{number}", filename=filename, frontend_open=True)
        for number, filename in enumerate(engine.chardevs)
    ]
