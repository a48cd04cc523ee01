"""transaction: its actions are declared beside the requests that do the same alone."""

from __future__ import annotations

from msgspec import UNSET

from monitor.engine.embedded import EmbeddedEngine
from monitor.engine.handlers import handles
from monitor.engine.schema.transaction import (
    ActionCompletionMode,
    RehearseTransaction,
    Transaction,
    TransactionPlan,
)
from monitor.engine.transaction import carry_out, rehearse


@handles(Transaction)
async def transaction(engine: EmbeddedEngine, request: Transaction) -> None:
    await carry_out(engine, [action.data for action in request.actions], completion_of(request))


@handles(RehearseTransaction)
async def rehearse_transaction(
    engine: EmbeddedEngine, request: RehearseTransaction
) -> TransactionPlan:
    data = [action.data for action in request.actions]
    return TransactionPlan(changes=await rehearse(engine, data, completion_of(request)))


def completion_of(request: Transaction | RehearseTransaction) -> ActionCompletionMode:
    if request.properties is UNSET or request.properties.completion_mode is UNSET:
        return "individual"
    return request.properties.completion_mode
