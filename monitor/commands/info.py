"""``info …``: questions about drives, nodes, jobs and the program."""

from __future__ import annotations

from monitor.commands.registry import Answer, Session, command
from monitor.commands.render import job_line, rate_text, time_text
from monitor.engine.api import JobSnapshot
from monitor.engine.schema.job import BlockJobInfo, JobInfo, QueryBlockJobs, QueryJobs
from monitor.engine.schema.monitor import QueryVersion
from monitor.engine.schema.query import (
    BlockDeviceInfo,
    BlockInfo,
    QueryBlock,
    QueryBlockGraph,
    QueryNamedBlockNodes,
)
from monitor.engine.schema.snapshot import DiskSnapshots, QueryDiskSnapshots
from monitor.engine.schema.stats import BlockStats, QueryBlockstats


@command(
    "info block",
    "nodes:-n,verbose:-v,device:B?",
    help="show info of one block device or all block devices "
    "(-n: show named nodes; -v: show details)",
    params="[-n] [-v] [device]",
    details="Without -n: the drives; a device is then a drive, or else a node. With -v, what\n"
    "qemu-img info says of each image of the chain.",
    example="info block -v d0",
)
async def info_block(session: Session, nodes: bool, verbose: bool, device: str | None) -> Answer:
    """As HMP: drives first; a name that is no drive's is looked for among the nodes."""
    from monitor.commands import blocktext

    drives: list[BlockInfo] = [] if nodes else await session.engine.execute(QueryBlock())
    shown = [drive for drive in drives if not device or drive.device == device]
    if shown or not (device or nodes):
        return Answer(
            shown,
            lambda: blocktext.paragraphs(drives, shown, blocktext.drive_lines, verbose),
            ("device", *(f"inserted.{name}" for name in _NODE_COLUMNS)),
        )
    named: list[BlockDeviceInfo] = await session.engine.execute(QueryNamedBlockNodes())
    wanted = [node for node in named if not device or node.node_name == device]
    return Answer(
        wanted,
        lambda: blocktext.paragraphs(named, wanted, blocktext.node_lines, verbose),
        _NODE_COLUMNS,
    )


_NODE_COLUMNS = ("node-name", "drv", "image.virtual-size", "ro", "file")


@command(
    "info blockstats",
    help="show block device statistics",
    details="What has gone through each drive since it is there, with times in nanoseconds.",
    example="info blockstats",
)
async def info_blockstats(session: Session) -> Answer:
    stats: list[BlockStats] = await session.engine.execute(QueryBlockstats())
    shown = ("device", *(f"stats.{name}" for name in _STATS[:5]))
    return Answer(stats, lambda: "\n".join(map(_stats_line, stats)), shown)


def _stats_line(drive: BlockStats) -> str:
    """HMP shows some of the figures; a drive that was never used has been idle for 0."""
    figures = [f"{name}={getattr(drive.stats, name) or 0}" for name in _STATS]
    return f"{drive.device}: {' '.join(figures)}"


_STATS = (
    "rd_bytes",
    "wr_bytes",
    "rd_operations",
    "wr_operations",
    "flush_operations",
    "wr_total_time_ns",
    "rd_total_time_ns",
    "flush_total_time_ns",
    "rd_merged",
    "wr_merged",
    "idle_time_ns",
)


@command(
    "info snapshots",
    help="show the currently saved VM snapshots",
    details="Internal snapshots: first those that loadvm can go back to, then those that only\n"
    "some of the writable disks have.",
    example="info snapshots",
)
async def info_snapshots(session: Session) -> Answer:
    from monitor.commands import snapshottext

    disks: list[DiskSnapshots] = await session.engine.execute(QueryDiskSnapshots())
    return Answer(disks, lambda: snapshottext.overview(disks))


@command(
    "info block-jobs",
    help="show progress of ongoing block device operations",
    example="info block-jobs",
)
async def info_block_jobs(session: Session) -> Answer:
    jobs: list[BlockJobInfo] = await session.engine.execute(QueryBlockJobs())
    return Answer(jobs, lambda: "\n".join(map(_block_job_line, jobs)) or "No active jobs")


def _block_job_line(job: BlockJobInfo) -> str:
    what = "Streaming" if job.type == "stream" else f"Type {job.type},"
    return (
        f"{what} device {job.device}: Completed {job.offset} of {job.len} bytes, "
        f"speed limit {job.speed} bytes/s"
    )


@command(
    "info jobs",
    help="show all background jobs, those that are no block jobs included",
    hmp=False,
    details="Progress is in the job's own unit: bytes for block jobs. A job that moves has its\n"
    "rate and the time left; one that stands still says what it waits for.",
    example="info jobs",
)
async def info_jobs(session: Session) -> Answer:
    jobs: list[JobInfo] = await session.engine.execute(QueryJobs())
    if not jobs:
        return Answer(jobs, lambda: "No active jobs")
    block_jobs: list[BlockJobInfo] = await session.engine.execute(QueryBlockJobs())
    stopped = {job.device for job in block_jobs if job.io_status != "ok"}
    moving = {job.id: job for job in session.engine.jobs()}

    def line(job: JobInfo) -> str:
        return _job_line(job) + _job_outlook(job, moving.get(job.id), job.id in stopped)

    return Answer(jobs, lambda: "\n".join(map(line, jobs)))


def _job_line(job: JobInfo) -> str:
    error = job.error if isinstance(job.error, str) else None
    done, total = job.current_progress, job.total_progress
    return job_line(job.id, job.type, job.status, done, total, error)


_WAITS_FOR = {
    "ready": "complete",
    "standby": "resume",
    "paused": "resume",
    "pending": "finalize",
    "concluded": "dismiss",
    "waiting": "the other jobs of its group",
}
"""What a job of this status waits for: a verb, mostly."""


def _job_outlook(job: JobInfo, now: JobSnapshot | None, stopped: bool) -> str:
    """How fast it is and how long it takes yet, or what it waits for."""
    if job.status in _WAITS_FOR:
        waits = f"waiting for {_WAITS_FOR[job.status]}"
        return f": stopped by an error, {waits}" if stopped else f": {waits}"
    if now is None or not now.rate:
        return ""
    return f", {rate_text(now.rate)}, {time_text(now.seconds_left)} left"


@command(
    "info graph",
    "dot:--dot,svg:--svg",
    help="show drives, jobs and nodes as a tree, or as a picture",
    params="[--dot | --svg]",
    hmp=False,
    details="Drives, jobs and nodes that nothing uses stand at the left; below each node are its\n"
    "children with the role that they play. A node that is used twice is drawn once.",
    example="info graph\ninfo graph --svg > graph.svg\ninfo graph --dot",
    arguments_help={
        "dot": "a digraph for graphviz",
        "svg": "a picture for a browser, drawn without graphviz",
    },
)
async def info_graph(session: Session, dot: bool, svg: bool) -> Answer:
    from monitor.commands import graphtext

    graph = await session.engine.execute(QueryBlockGraph())
    nodes = await session.engine.execute(QueryNamedBlockNodes(flat=True))
    jobs = await session.engine.execute(QueryJobs())
    if svg:
        from monitor.commands import graphsvg

        return Answer(graph, lambda: graphsvg.svg(graph, nodes, jobs))
    if dot:
        from monitor.commands import graphdot

        return Answer(graph, lambda: graphdot.dot(graph, nodes, jobs))
    return Answer(graph, lambda: graphtext.tree(graph, nodes, jobs))


@command("info version", help="show the version of QEMU", example="info version")
async def info_version(session: Session) -> Answer:
    """The numbers, and the package in brackets as ``qemu-img --version`` has it: HMP puts it right
    behind the numbers (``7.2.22Debian 1:7.2…``)."""
    version = await session.engine.execute(QueryVersion())
    numbers = version.qemu
    text = f"{numbers.major}.{numbers.minor}.{numbers.micro}"
    package = version.package.strip()
    if package:
        text += f" {package}" if package.startswith("(") else f" ({package})"
    return Answer(version, lambda: text)
