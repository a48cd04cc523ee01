"""blockdev-create."""

from __future__ import annotations

from monitor.engine.embedded import EmbeddedEngine
from monitor.engine.errors import RequestError
from monitor.engine.handlers import handles
from monitor.engine.jobs.create import CreateJob
from monitor.engine.schema.blockdev import BlockdevCreateOptionsFile, BlockdevCreateOptionsQcow2
from monitor.engine.schema.create import BlockdevCreate


class DriverCreatesNothing(RequestError):
    template = "Driver does not support blockdev-create"
    driver: str


@handles(BlockdevCreate)
async def blockdev_create(engine: EmbeddedEngine, request: BlockdevCreate) -> None:
    options = request.options
    if not isinstance(options, BlockdevCreateOptionsFile | BlockdevCreateOptionsQcow2):
        raise DriverCreatesNothing(str(options.__struct_config__.tag))
    engine.job_table.check_id(request.job_id)
    job = CreateJob(request.job_id, engine.graph, engine.clock, options)
    engine.job_table.add(job).start()
