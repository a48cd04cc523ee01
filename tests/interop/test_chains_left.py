"""Commits and mirrors leave the images as qemu-storage-daemon does: same chains, same bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support import tools
from tests.support.qmp_cases import gathered
from tests.support.qmp_cases.words import IMAGES, Requests, add, do, wait
from tests.support.side_by_side import OURS, QSD, converse

CASES = {
    "commit: an image of the middle": ["top.qcow2"],
    "commit: by nodes": [],  # its link leads nowhere: only the link is looked at
    "commit: the active image": ["base.qcow2", "top.qcow2"],
    "commit: the active image, down to a base, cancelled": ["top.qcow2"],
    "mirror: full": ["empty.qcow2", "top.qcow2"],
    "mirror: cancelled when ready": ["empty.qcow2"],
    "drive-mirror: a new image": ["copy.img"],
    "drive-mirror: a new overlay": ["copy.img", "top.qcow2"],
    "drive-mirror: new writes only": ["copy.img"],
    "drive-mirror: raw": ["copy.img"],
    "drive-mirror: existing": ["empty.qcow2"],
    "stream to a base": ["top.qcow2"],
    "stream": ["top.qcow2"],
    "backup: full": ["empty.qcow2", "top.qcow2"],
    "backup: top": ["empty.qcow2", "top.qcow2"],
    "drive-backup: created": ["new.qcow2", "new2.qcow2"],
}
"""What is looked at after each conversation of tests/support/qmp_cases, with all that is below."""


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tools.need("qemu-storage-daemon", "qemu-img", "qemu-io")
    return tools.made(tmp_path_factory.mktemp("images"), IMAGES)


@pytest.mark.parametrize("case", CASES)
def test_as_qemu_leaves_them(tmp_path: Path, images: Path, case: str) -> None:
    folders = {}
    for side, command in (("theirs", QSD), ("ours", OURS)):
        folders[side] = tmp_path / side
        tools.run("cp", "-r", images, folders[side])
        converse(command, folders[side], gathered().cases[case])
    assert _link(folders["ours"]) == _link(folders["theirs"])
    for name in CASES[case]:
        ours, theirs = (folders[side] / name for side in ("ours", "theirs"))
        assert _chain(ours) == _chain(theirs)
        tools.run("qemu-img", "compare", ours, theirs)


SYNCS = [(sync, target) for sync in ("full", "top", "none") for target in ("qcow2", "raw")]
SOURCES = {"qcow2": "top.qcow2", "raw": "a.img"}


def _copies(command: str, source: str) -> Requests:
    """A copy by each sync mode in each format: ``to-full.raw`` and so on."""
    requests: Requests = [add("n0", SOURCES[source], source)]
    for sync, target in SYNCS:
        job, name = f"{sync}-{target}", f"to-{sync}.{target}"
        options = {"job_id": job, "device": "n0", "sync": sync, "target": name, "format": target}
        waited = "ready" if command == "drive-mirror" else "running" if sync == "none" else "null"
        requests.append(do(command, **options))
        requests.append(wait(job, waited) | {"unless-refused": True})
        requests.append(do("block-job-cancel", device=job))
        requests.append(wait(job, "null") | {"unless-refused": True})
    return requests


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("command", ["drive-mirror", "drive-backup"])
def test_each_sync_mode_in_each_format(
    tmp_path: Path, images: Path, command: str, source: str
) -> None:
    refused = {}
    for side, command_line in (("theirs", QSD), ("ours", OURS)):
        folder = tmp_path / side
        tools.run("cp", "-r", images, folder)
        session = converse(command_line, folder, _copies(command, source))
        refused[side] = [reply.get("error") for _, reply in session.exchanges]
    assert refused["ours"] == refused["theirs"]
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    made = [f"to-{sync}.{target}" for sync, target in SYNCS]
    made = [name for name in made if (theirs / name).exists()]
    assert made == [name for name in made if (ours / name).exists()]
    assert len(made) >= 4
    for name in made:
        fmt = name.rpartition(".")[2]
        assert _chain(ours / name, "-f", fmt) == _chain(theirs / name, "-f", fmt)
        tools.run("qemu-img", "compare", "-f", fmt, "-F", fmt, ours / name, theirs / name)
        if fmt == "qcow2":
            tools.run("qemu-img", "check", "-q", ours / name)


def _link(folder: Path) -> Any:
    found = json.loads(tools.run("qemu-img", "info", "--output=json", folder / "top.qcow2"))
    return found.get("backing-filename"), found.get("backing-filename-format")


def _chain(image: Path, *options: str) -> list[dict[str, Any]]:
    """All but sizes on the host, and the names of the two sides' folders."""
    said = tools.run("qemu-img", "info", *options, "--backing-chain", "--output=json", image)
    found = json.loads(said.replace(str(image.parent), "."))
    for layer in found:
        layer.pop("actual-size")
    chain: list[dict[str, Any]] = found
    return chain
