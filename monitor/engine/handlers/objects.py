"""Objects of the user's: made, looked at, taken away."""

from __future__ import annotations

from typing import Any

from monitor.engine.embedded import EmbeddedEngine
from monitor.engine.handlers import handles
from monitor.engine.names import NotAnIdentifier, well_formed
from monitor.engine.schema.base import given
from monitor.engine.schema.objects import (
    IOThreadInfo,
    ObjectAdd,
    ObjectDel,
    ObjectPropertyInfo,
    ObjectTypeInfo,
    QomGet,
    QomList,
    QomListTypes,
    QomSet,
    QueryIothreads,
)


@handles(ObjectAdd)
async def object_add(engine: EmbeddedEngine, request: ObjectAdd) -> None:
    if not well_formed(request.options.id):
        raise NotAnIdentifier(request.options.id)
    objects = engine.graph.objects
    async with engine.graph.turn:
        made = objects.prepare(request.options)
        await engine.graph.in_worker(made.complete, objects)
        objects.add(made)


@handles(ObjectDel)
async def object_del(engine: EmbeddedEngine, request: ObjectDel) -> None:
    async with engine.graph.turn:
        gone = engine.graph.objects.remove(request.id)
        for node in engine.graph.nodes.values():
            if node.iothread is gone:
                node.iothread = None
        gone.close()


@handles(QomList)
async def qom_list(engine: EmbeddedEngine, request: QomList) -> list[ObjectPropertyInfo]:
    from monitor.engine.objects import tree

    return tree.properties(tree.find(engine.graph.objects, request.path))


@handles(QomGet)
async def qom_get(engine: EmbeddedEngine, request: QomGet) -> Any:
    from monitor.engine.objects import tree

    return tree.find(engine.graph.objects, request.path).get(request.property)


@handles(QomSet)
async def qom_set(engine: EmbeddedEngine, request: QomSet) -> None:
    from monitor.engine.objects import tree

    tree.find(engine.graph.objects, request.path).set(request.property, request.value)


@handles(QomListTypes)
async def qom_list_types(engine: EmbeddedEngine, request: QomListTypes) -> list[ObjectTypeInfo]:
    from monitor.engine.objects import tree

    implements = given(request.implements)
    return tree.types(implements, abstract=request.abstract is True)


@handles(QueryIothreads)
async def query_iothreads(engine: EmbeddedEngine, request: QueryIothreads) -> list[IOThreadInfo]:
    from monitor.engine.objects.iothread import Iothread

    found = engine.graph.objects.by_id.values()
    return [each.info() for each in found if isinstance(each, Iothread)]
