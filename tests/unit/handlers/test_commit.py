"""block-commit, as far as qemu-storage-daemon, which has no drives, cannot be asked."""

from __future__ import annotations

import pytest

from monitor.engine.embedded import EmbeddedEngine
from monitor.engine.errors import DeviceNotFound
from monitor.engine.schema.commit import BlockCommit
from monitor.engine.schema.extra import DriveAdd
from tests.support.graphs import run


@pytest.mark.parametrize("device", ["e0", "nobody"])
def test_a_drive_without_a_medium_is_not_found(device: str) -> None:
    """As clients expect it who ask whether there is anything to commit; so answers
    qemu-system-x86_64."""

    async def work() -> None:
        engine = EmbeddedEngine()
        await engine.execute(DriveAdd(options="if=none,id=e0"))
        with pytest.raises(DeviceNotFound) as caught:
            await engine.execute(BlockCommit(device=device))
        assert caught.value.text == f"Device '{device}' not found"
        assert caught.value.qmp_class == "DeviceNotFound"
        await engine.shut_down()

    run(work())
