"""``info …``: questions about drives, nodes, jobs and the program."""

from __future__ import annotations

import msgspec

from monitor.commands.outcomes import CANCELLED, awaited
from monitor.commands.registry import Answer, Session, command
from monitor.commands.render import job_line, rate_text, time_text
from monitor.engine.api import JobSnapshot
from monitor.engine.schema.job import BlockJobInfo, QueryBlockJobs, QueryJobs
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


class JobStanding(msgspec.Struct, rename="kebab", omit_defaults=True):
    """``query-jobs``'s members, and what a person asks beside them. ``rate`` is units a second,
    ``waits-for`` a verb, mostly."""

    id: str
    type: str
    status: str
    current_progress: int
    total_progress: int
    error: str | None = None
    rate: int | None = None
    seconds_left: int | None = None
    waits_for: str | None = None
    stopped: str | None = None

    @classmethod
    def of(cls, job: JobSnapshot) -> JobStanding:
        moves = job.status == "running" and bool(job.rate)
        return cls(
            job.id,
            job.type,
            job.status,
            job.current,
            job.total,
            job.error,
            round(job.rate) if moves and job.rate else None,
            round(job.seconds_left) if moves and job.seconds_left is not None else None,
            awaited(job),
            job.stopped,
        )

    @property
    def line(self) -> str:
        done, total = self.current_progress, self.total_progress
        line = job_line(self.id, self.type, self.status, done, total, None)
        if self.rate is not None:
            line = f"{line}, {rate_text(self.rate)}"
        if self.seconds_left is not None:
            line = f"{line}, {time_text(self.seconds_left)} left"
        said = [
            f"stopped at a {self.stopped}" if self.stopped else "",
            "" if self.error is None else _judgement(self.error),
            f"waiting for {self.waits_for}" if self.waits_for else "",
        ]
        return ": ".join(filter(None, [line, "; ".join(filter(None, said))]))


def _judgement(error: str) -> str:
    return "cancelled" if error == CANCELLED else f"failed: {error}"


@command(
    "info jobs",
    help="show all background jobs, those that are no block jobs included",
    hmp=False,
    details="Progress is in the job's own unit: bytes for block jobs. A job that moves has its\n"
    "rate and the time left; one that stands still says at which error, and what it waits\n"
    "for: `waiting for complete` is for block_job_complete to end. The oldest comes first.",
    example="info jobs",
)
async def info_jobs(session: Session) -> Answer:
    jobs = [JobStanding.of(job) for job in session.engine.jobs()]
    return Answer(jobs, lambda: "\n".join(job.line for job in jobs) or "No active jobs", _COLUMNS)


_COLUMNS = (
    "id",
    "type",
    "status",
    "current-progress",
    "total-progress",
    "rate",
    "seconds-left",
    "waits-for",
    "error",
)


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

    # Only the nodes' answer waits (for the host's sizes), and it is made when that wait is over.
    # The other two, asked after it, are answered in the same step of the loop, and agree with it.
    nodes = await session.engine.execute(QueryNamedBlockNodes(flat=True))
    graph = await session.engine.execute(QueryBlockGraph())
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
