"""Several requests carried out as one: all of them, or none.

Each action's ``data`` is the request that does the same alone.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, UnsetType

from monitor.engine.schema.backup import BlockdevBackup, DriveBackup
from monitor.engine.schema.base import Options, Request, Result
from monitor.engine.schema.bitmap import (
    BlockDirtyBitmapAdd,
    BlockDirtyBitmapClear,
    BlockDirtyBitmapDisable,
    BlockDirtyBitmapEnable,
    BlockDirtyBitmapMerge,
    BlockDirtyBitmapRemove,
)
from monitor.engine.schema.graph import BlockdevSnapshot, BlockdevSnapshotSync
from monitor.engine.schema.snapshot import BlockdevSnapshotInternalSync

ActionCompletionMode = Literal["individual", "grouped"]


class Abort(Options, kw_only=True):
    """Nothing: the action needs no data."""


class TransactionAction(Options, tag_field="type", kw_only=True):
    """One of a transaction's requests; the tag is the request's name, ``data`` its arguments."""


class AbortAction(TransactionAction, tag="abort", kw_only=True):
    """Fails: what came before it is undone."""

    data: Abort


class BitmapAddAction(TransactionAction, tag="block-dirty-bitmap-add", kw_only=True):
    data: BlockDirtyBitmapAdd


class BitmapRemoveAction(TransactionAction, tag="block-dirty-bitmap-remove", kw_only=True):
    data: BlockDirtyBitmapRemove


class BitmapClearAction(TransactionAction, tag="block-dirty-bitmap-clear", kw_only=True):
    data: BlockDirtyBitmapClear


class BitmapEnableAction(TransactionAction, tag="block-dirty-bitmap-enable", kw_only=True):
    data: BlockDirtyBitmapEnable


class BitmapDisableAction(TransactionAction, tag="block-dirty-bitmap-disable", kw_only=True):
    data: BlockDirtyBitmapDisable


class BitmapMergeAction(TransactionAction, tag="block-dirty-bitmap-merge", kw_only=True):
    data: BlockDirtyBitmapMerge


class BlockdevSnapshotAction(TransactionAction, tag="blockdev-snapshot", kw_only=True):
    data: BlockdevSnapshot


class BlockdevSnapshotInternalSyncAction(
    TransactionAction, tag="blockdev-snapshot-internal-sync", kw_only=True
):
    data: BlockdevSnapshotInternalSync


class BlockdevSnapshotSyncAction(TransactionAction, tag="blockdev-snapshot-sync", kw_only=True):
    data: BlockdevSnapshotSync


class BlockdevBackupAction(TransactionAction, tag="blockdev-backup", kw_only=True):
    data: BlockdevBackup


class DriveBackupAction(TransactionAction, tag="drive-backup", kw_only=True):
    data: DriveBackup


AnyTransactionAction = (
    AbortAction
    | BitmapAddAction
    | BitmapClearAction
    | BitmapDisableAction
    | BitmapEnableAction
    | BitmapMergeAction
    | BitmapRemoveAction
    | BlockdevBackupAction
    | BlockdevSnapshotAction
    | BlockdevSnapshotInternalSyncAction
    | BlockdevSnapshotSyncAction
    | DriveBackupAction
)


class TransactionProperties(Options, kw_only=True):
    completion_mode: (
        Annotated[ActionCompletionMode, "whether its jobs end together"] | UnsetType
    ) = UNSET


class Transaction(Request, kw_only=True, tag="transaction"):
    """Carry out several actions at one moment: all of them, or none.

    At the prompt and in scripts they can stand one a line, as they are typed alone:

        transaction(
          blockdev-snapshot-sync device=d0 snapshot-file=overlay.qcow2
          block-dirty-bitmap-add node=n0 name=since-then
        )

    ``transaction --dry-run(`` says what would change, and changes nothing. ``--grouped`` makes the
    jobs that it begins end together.
    """

    actions: Annotated[list[AnyTransactionAction], "what is to be done, in order"]
    properties: Annotated[TransactionProperties, "of the transaction"] | UnsetType = UNSET

    typed = "transaction [--dry-run] [--grouped] ( … )"
    example = (
        'transaction actions=[{"type":"blockdev-snapshot-sync",'
        '"data":{"device":"d0","snapshot-file":"overlay.qcow2"}}]'
    )


class TransactionPlan(Result, kw_only=True):
    """What a transaction would change, in words: an entry for each action or more."""

    changes: list[str]


class RehearseTransaction(Request, kw_only=True, tag="x-blkmon-rehearse-transaction"):
    """Prepare a transaction, say what it would change, and undo it. No file that it made stays."""

    returns = TransactionPlan

    actions: Annotated[list[AnyTransactionAction], "what would be done, in order"]
    properties: Annotated[TransactionProperties, "of the transaction"] | UnsetType = UNSET


ACTIONS: dict[str, type[TransactionAction]] = {
    str(action.__struct_config__.tag): action for action in TransactionAction.__subclasses__()
}
"""Every kind of action by its name."""

__all__ = [
    "ACTIONS",
    "Abort",
    "AbortAction",
    "ActionCompletionMode",
    "AnyTransactionAction",
    "BitmapAddAction",
    "BitmapClearAction",
    "BitmapDisableAction",
    "BitmapEnableAction",
    "BitmapMergeAction",
    "BitmapRemoveAction",
    "BlockdevBackupAction",
    "BlockdevSnapshotAction",
    "BlockdevSnapshotInternalSyncAction",
    "BlockdevSnapshotSyncAction",
    "DriveBackupAction",
    "RehearseTransaction",
    "Transaction",
    "TransactionAction",
    "TransactionPlan",
    "TransactionProperties",
]
