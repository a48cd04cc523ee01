"""What QMP's clients ask about the machine that is not there: no processors, no TPM."""

from __future__ import annotations

from typing import ClassVar, Literal

from msgspec import UNSET, UnsetType

from monitor.engine.schema.base import Request, Result

RunState = Literal[
    "debug", "inmigrate", "internal-error", "io-error", "paused", "postmigrate", "prelaunch",
    "finish-migrate", "restore-vm", "running", "save-vm", "shutdown", "suspended", "watchdog",
    "guest-panicked", "colo",
]  # fmt: skip


class StatusInfo(Result, kw_only=True):
    running: bool
    singlestep: bool
    status: RunState


class QueryStatus(Request, kw_only=True, tag="query-status"):
    """Whether it runs: as long as this program does."""

    returns = StatusInfo
    example = "query-status"


class NameInfo(Result, kw_only=True):
    name: str | UnsetType = UNSET


class QueryName(Request, kw_only=True, tag="query-name"):
    """The machine's name: it has none."""

    returns = NameInfo
    example = "query-name"


class KvmInfo(Result, kw_only=True):
    enabled: bool
    present: bool


class QueryKvm(Request, kw_only=True, tag="query-kvm"):
    """Whether KVM is used: it is not, and cannot be."""

    returns = KvmInfo
    example = "query-kvm"


class CpuInstanceProperties(Result, kw_only=True):
    node_id: int | UnsetType = UNSET
    socket_id: int | UnsetType = UNSET
    die_id: int | UnsetType = UNSET
    cluster_id: int | UnsetType = UNSET
    core_id: int | UnsetType = UNSET
    thread_id: int | UnsetType = UNSET


class CpuInfoFast(Result, tag_field="target", kw_only=True):
    """A processor, which there is none of."""

    cpu_index: int
    qom_path: str
    thread_id: int
    props: CpuInstanceProperties | UnsetType = UNSET

    bare_cases: ClassVar[tuple[str, ...]] = (
        "aarch64", "alpha", "arm", "avr", "cris", "hppa", "i386", "loongarch64", "m68k",
        "microblaze", "microblazeel", "mips", "mips64", "mips64el", "mipsel", "nios2", "or1k",
        "ppc", "ppc64", "riscv32", "riscv64", "rx", "sh4", "sh4eb", "sparc", "sparc64", "tricore",
        "x86_64", "xtensa", "xtensaeb",
    )  # fmt: skip


class CpuInfoS390(CpuInfoFast, tag="s390x", kw_only=True):
    cpu_state: Literal["uninitialized", "stopped", "check-stop", "operating", "load"]


class QueryCpusFast(Request, kw_only=True, tag="query-cpus-fast"):
    """The processors: none."""

    returns = list[CpuInfoS390]
    example = "query-cpus-fast"


class TpmPassthrough(Result, kw_only=True):
    path: str | UnsetType = UNSET
    cancel_path: str | UnsetType = UNSET


class TpmEmulator(Result, kw_only=True):
    chardev: str


class TpmTypeOptions(Result, tag_field="type", kw_only=True):
    """Where a TPM's work is done."""


class TpmPassthroughOptions(TpmTypeOptions, tag="passthrough", kw_only=True):
    data: TpmPassthrough


class TpmEmulatorOptions(TpmTypeOptions, tag="emulator", kw_only=True):
    data: TpmEmulator


class TPMInfo(Result, kw_only=True):
    id: str
    model: Literal["tpm-tis", "tpm-crb", "tpm-spapr"]
    options: TpmPassthroughOptions | TpmEmulatorOptions


class QueryTpm(Request, kw_only=True, tag="query-tpm"):
    """The trusted platform modules: none."""

    returns = list[TPMInfo]
    example = "query-tpm"


class ChardevInfo(Result, kw_only=True):
    label: str
    filename: str
    frontend_open: bool


class QueryChardev(Request, kw_only=True, tag="query-chardev"):
    """Where QMP is served (--qmp)."""

    returns = list[ChardevInfo]
    example = "query-chardev"
