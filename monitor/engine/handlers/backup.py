"""drive-backup and blockdev-backup: targets, checks in QEMU's order, and the job."""

from __future__ import annotations

from dataclasses import replace

import msgspec
from msgspec import UNSET

from monitor.engine import images
from monitor.engine.bitmap import DirtyBitmap
from monitor.engine.drivers.copy_before_write import CopyBeforeWriteDriver
from monitor.engine.embedded import EmbeddedEngine
from monitor.engine.errors import RequestError
from monitor.engine.graph import edit
from monitor.engine.graph.blockers import Operation
from monitor.engine.graph.jsonnames import open_given
from monitor.engine.graph.node import Node, skip_filters
from monitor.engine.graph.opening import Opening
from monitor.engine.jobs.backup import BackupJob, BackupPlan
from monitor.engine.jobs.block import JobSettings, unfinished
from monitor.engine.jobs.carrying import MOST_WRITERS
from monitor.engine.jobs.errors import FilterNotCreated, SizesDiffer
from monitor.engine.schema.backup import BackupCommon, BackupPerf, BlockdevBackup, DriveBackup
from monitor.engine.schema.base import given
from monitor.engine.schema.blockdev import BlockdevOptionsCopyBeforeWrite
from monitor.engine.transaction import Actions, acts
from monitor.engine.units import whole_sectors

_INT_MAX = (1 << 31) - 1


class BitmapNeeded(RequestError):
    template = "must provide a valid bitmap name for '{sync}' sync mode"
    sync: str


class BitmapModeFixed(RequestError):
    template = "Bitmap sync mode must be 'on-success' when using sync mode 'incremental'"


class NoSuchBitmap(RequestError):
    template = "Bitmap '{name}' could not be found"
    name: str


class BitmapModeNeeded(RequestError):
    template = "Bitmap sync mode must be given when providing a bitmap"


class BitmapMeaningless(RequestError):
    template = "sync mode '{sync}' does not produce meaningful bitmap outputs"
    sync: str


class BitmapUnused(RequestError):
    template = (
        "Bitmap sync mode 'never' has no meaningful effect when combined with sync mode '{sync}'"
    )
    sync: str


class ModeWithoutBitmap(RequestError):
    template = "Cannot specify bitmap sync mode without a bitmap"


class SameNode(RequestError):
    template = "Source and target cannot be the same"


class NotCompressible(RequestError):
    template = "Compression is not supported for this drive {device}"
    device: str


class TooManyWorkers(RequestError):
    template = "max-workers must be between 1 and 2147483647"


class NegativeChunk(RequestError):
    template = "max-chunk must be zero (which means no limit) or positive"


class ChunkBelowCluster(RequestError):
    template = "Required max-chunk ({chunk}) is less than backup cluster size ({unit})"
    chunk: int
    unit: int


class FilterNotPutOn(RequestError):
    template = "Could not replace node: {reason}"
    reason: str


@acts(BlockdevBackup, groups=True)
async def blockdev_backup(
    engine: EmbeddedEngine, request: BlockdevBackup, actions: Actions
) -> None:
    source = engine.graph.find(request.device)
    target = engine.graph.find(request.target)
    await _begin(engine, request, actions, source, target)


@acts(DriveBackup, groups=True)
async def drive_backup(engine: EmbeddedEngine, request: DriveBackup, actions: Actions) -> None:
    """A file that was created stays when the transaction fails, as QEMU leaves it."""
    graph = engine.graph
    source = graph.find(request.device)
    graph.refuse_if_busy(source, Operation.BACKUP_SOURCE)
    below = _shown_below(source, request)
    if request.sync == "top" and below is None:
        request = msgspec.structs.replace(request, sync="full")
    existing = request.mode == "existing"
    loose = {"discard": "unmap", "detect-zeroes": "unmap"}
    if request.format is not UNSET or not existing:
        loose["driver"] = given(request.format, source.driver.name)
    filename, mark = request.target, None
    if not existing:
        filename = actions.new_file(filename)
        if request.sync != "none":  # a copy of what changes is never whole
            mark = unfinished("backup", given(request.job_id, source.device_name()), source)
        image = _image(filename, loose["driver"], source, below)
        await images.create(graph, replace(image, unfinished=mark))
    opening = Opening(graph, own_mark=mark)
    actions.add(clean=opening.close)
    flags = msgspec.structs.replace(source.flags, read_only=False)
    target = await open_given(
        opening, loose, filename, inherit=flags, follow_backing=request.sync != "none"
    )
    if request.sync == "none":
        opening.attach_backing(target, source)
    await _begin(engine, request, actions, source, target)


def _shown_below(source: Node, request: DriveBackup) -> Node | None:
    """The image that shows through where a new target holds nothing."""
    if request.sync == "none":
        return source
    if request.sync == "top":
        image = skip_filters(source)
        return None if image is None else image.backing
    return None


def _image(filename: str, format: str, source: Node, below: Node | None) -> images.NewImage:
    size = whole_sectors(source.length())
    while below is not None and below.implicit:
        below = below.below()
    if below is None:
        return images.NewImage(filename, format, size)
    return images.NewImage(
        filename,
        format,
        size,
        below.filename,
        below.driver.name,
        follow_backing=below is not source,
    )


# -- what both have ------------------------------------------------------------------------


async def _begin(
    engine: EmbeddedEngine,
    request: BlockdevBackup | DriveBackup,
    actions: Actions,
    source: Node,
    target: Node,
) -> None:
    """Checks, puts the filter in place and makes the job, which starts with the commit."""
    graph = engine.graph
    bitmap = _check_bitmap(request, source)
    if request.sync == "incremental":
        request = msgspec.structs.replace(request, sync="bitmap", bitmap_mode="on-success")
    perf = given(request.x_perf, BackupPerf())
    _check_nodes(engine, request, source, target, perf)
    if bitmap is not None:
        if request.bitmap_mode != "never":
            bitmap.check()
        _give_successor(actions, bitmap)
    if whole_sectors(source.length()) != whole_sectors(target.length()):
        raise SizesDiffer()
    await actions.drain(source, target)
    node = await _put_filter(engine, request, actions, source, target)
    plan = BackupPlan(
        source,
        target,
        node,
        request.sync,
        bitmap,
        given(request.bitmap_mode, "on-success"),
        compress=request.compress is True,
        between_files=perf.use_copy_range is not False,
        workers=given(perf.max_workers, MOST_WRITERS),
        chunk=given(perf.max_chunk, 0),
    )
    job = _make_job(engine, request, plan, node, actions)
    edits = actions.edits()
    job.take_hold(edits)
    graph.rewire(edits)
    job.block(node, target)
    graph.admit(job)
    actions.says(f"a backup of '{source.user_name()}' to '{request.target}' begins")


def _check_bitmap(request: BackupCommon, source: Node) -> DirtyBitmap | None:
    """The bitmap that the request names. Raises the first mistake that QEMU finds."""
    name, mode, sync = request.bitmap, request.bitmap_mode, request.sync
    if name is UNSET and sync in ("bitmap", "incremental"):
        raise BitmapNeeded(sync)
    if sync == "incremental" and mode not in (UNSET, "on-success"):
        raise BitmapModeFixed()
    if name is UNSET:
        if mode is not UNSET:
            raise ModeWithoutBitmap()
        return None
    bitmap = source.bitmaps.get(name)
    if bitmap is None:
        raise NoSuchBitmap(name)
    if mode is UNSET and sync != "incremental":
        raise BitmapModeNeeded()
    bitmap.check(readonly=True)
    if sync == "none":
        raise BitmapMeaningless(sync)
    if mode == "never" and sync not in ("bitmap", "incremental"):
        raise BitmapUnused(sync)
    return bitmap


def _check_nodes(
    engine: EmbeddedEngine, request: BackupCommon, source: Node, target: Node, perf: BackupPerf
) -> None:
    if source is target:
        raise SameNode()
    if request.compress is True and not target.driver.compresses:
        raise NotCompressible(target.device_name())
    engine.graph.refuse_if_busy(source, Operation.BACKUP_SOURCE)
    engine.graph.refuse_if_busy(target, Operation.BACKUP_TARGET)
    if perf.max_workers is not UNSET and not 1 <= perf.max_workers <= _INT_MAX:
        raise TooManyWorkers()
    if perf.max_chunk is not UNSET and perf.max_chunk < 0:
        raise NegativeChunk()


def _give_successor(actions: Actions, bitmap: DirtyBitmap) -> None:
    bitmap.create_successor()

    def take_back() -> None:
        if bitmap.successor is not None:
            bitmap.reclaim()

    actions.add(abort=take_back)


async def _put_filter(
    engine: EmbeddedEngine, request: BackupCommon, actions: Actions, source: Node, target: Node
) -> Node:
    """The filter, above the source for everybody. Both are drained."""
    graph = engine.graph
    options = BlockdevOptionsCopyBeforeWrite(
        node_name=request.filter_node_name,
        discard="unmap",  # whether one is heeded is for the source to say, as before
        file=source.name,
        target=target.name,
    )
    opening = Opening(graph)
    actions.add(clean=opening.close)
    try:
        node = await opening.open(options)
    except RequestError as error:
        raise FilterNotCreated(error.text) from error
    edits = actions.edits()
    try:
        edit.replace(edits, source, node)
        edit.refresh(edits, [node, source])
    except RequestError as error:
        raise FilterNotPutOn(error.text) from error
    graph.rewire(edits)
    return node


def _make_job(
    engine: EmbeddedEngine, request: BackupCommon, plan: BackupPlan, node: Node, actions: Actions
) -> BackupJob:
    assert isinstance(node.driver, CopyBeforeWriteDriver)
    unit = node.driver.copying.unit
    if plan.chunk and plan.chunk < unit:
        raise ChunkBelowCluster(plan.chunk, unit)
    settings = JobSettings.of(
        request,
        node,
        on_source_error=request.on_source_error,
        on_target_error=request.on_target_error,
    )
    engine.job_table.check_id(settings.job_id)
    job = BackupJob(settings, engine.graph, engine.job_table.clock, plan)
    job.endless = plan.sync == "none"
    actions.add_job(job)
    job.set_speed(settings.speed)
    return job
