"""query-qmp-schema."""

from __future__ import annotations

from monitor.engine.embedded import EmbeddedEngine
from monitor.engine.handlers import handles
from monitor.engine.schema.introspect import QueryQmpSchema, SchemaInfo


@handles(QueryQmpSchema)
async def query_qmp_schema(engine: EmbeddedEngine, request: QueryQmpSchema) -> list[SchemaInfo]:
    from monitor.engine.schema.shapes import engine_schema

    return list(engine_schema())
