"""Mistakes in human commands: our words for HMP are the real monitor's."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable

import pytest

from monitor.language.parser import ParseError, parse_line

LINES = [
    "foo",
    "foo -x y",
    "block_resiz d0 10",
    "info foo",
    "info bloc",
    "info block -x",
    "info block d0 x",
    "info block n0 -v",
    "info block-jobs x",
    "drive_backup -n -n d0 x",
    "drive_backup - d0 x",
    "info version x",
    "block_resize",
    "block_resize d0",
    "block_resize d0 x",
    "block_resize d0 -1",
    "block_resize d0 8E",
    "block_resize d0 .5G",
    "block_resize d0 0.5b",
    "block_resize d0 0x1.8",
    'block_resize d0 ""',
    "block_resize d0 99999999999999999999",
    "block_resize d0 10 x",
    "block_resize d0 10Q",
    "block_resize d0 1e3",
    "block_resize d0 1.5x",
    "block_job_cancel",
    "block_job_cancel -f",
    "block_job_cancel -x d0",
    "block_job_cancel -f -f d0",
    "block_job_cancel d0 -f",
    "block_job_pause",
    "block_job_resume j0 x",
    "block_job_complete",
    "block_job_set_speed d0",
    "block_job_set_speed d0 x",
    "block_job_set_speed d0 10x",
    "block_stream",
    "block_stream d0 x",
    "block_stream d0 -1",
    "block_stream d0 10 base extra",
    "snapshot_blkdev",
    "snapshot_blkdev -n",
    "snapshot_blkdev -x d0",
    "snapshot_blkdev d0 a.img qcow2 extra",
    "drive_add",
    "drive_add 0",
    "drive_add -n 0",
    "drive_add -x 0",
    "drive_add 0 if=none x",
    "drive_del",
    "drive_del d0 y",
    "qemu-io",
    "qemu-io d0",
    "qemu-io d0 read 0 512",
    'qemu-io d0 "read 0 512" "x"',
    "savevm a b",
    "loadvm",
    "loadvm a b",
    "delvm",
    "info snapshots x",
    "info history x",
    "snapshot_blkdev_internal d0",
    "snapshot_blkdev_internal d0 a b",
    "snapshot_delete_blkdev_internal d0",
    "snapshot_delete_blkdev_internal d0 a b c",
    "nbd_server_start",
    "nbd_server_start -x unix:s",
    "nbd_server_add",
    "nbd_server_add -x d0",
    "nbd_server_remove",
    "nbd_server_remove -x d0",
    "nbd_server_stop x",
    "quit x",
    "q x",
]


def hmp(lines: list[str]) -> list[str]:
    """What QEMU's human monitor prints for each of ``lines``."""
    requests: list[dict[str, object]] = [{"execute": "qmp_capabilities"}]
    requests += [
        {"execute": "human-monitor-command", "arguments": {"command-line": line}} for line in lines
    ]
    requests.append({"execute": "quit"})
    result = subprocess.run(
        ["qemu-system-x86_64", "-machine", "none", "-nodefaults", "-display", "none",
         "-drive", "if=none,id=d0,driver=null-co", "-qmp", "stdio"],
        input="".join(json.dumps(request) + "\n" for request in requests),
        capture_output=True,
        text=True,
        timeout=60,
    )  # fmt: skip
    messages = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    replies = [message["return"] for message in messages if "return" in message]
    return [str(reply) for reply in replies[1 : len(lines) + 1]]


@pytest.fixture(scope="module")
def answers() -> dict[str, str]:
    from tests.support.tools import need

    need("qemu-system-x86_64")
    return dict(zip(LINES, hmp(LINES), strict=True))


@pytest.mark.parametrize("line", LINES)
def test_the_text_is_hmps(line: str, answers: dict[str, str], need: Callable[..., None]) -> None:
    with pytest.raises(ParseError) as caught:
        parse_line(line)
    assert caught.value.hmp_text.replace("\n", "\r\n") + "\r\n" == answers[line]
