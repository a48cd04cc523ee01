"""``--json``: one object a command."""

from __future__ import annotations

import json

from tests.support.cli import CREATE, FAILING_JOB, Run


def test_json_gives_one_object_a_command(run: Run) -> None:
    typed = f"{CREATE}echo hello\n-x-blkmon-drive-del id=d9\nquery-version\n"
    ended = run("--json", typed=typed)
    objects = [json.loads(line) for line in ended.stdout.splitlines()]
    assert [o["command"] for o in objects] == [
        CREATE.strip(), "echo hello", "x-blkmon-drive-del id=d9", "query-version"
    ]  # fmt: skip
    assert objects[0]["return"] == {}
    assert objects[1]["printed"] == ["hello"]
    assert objects[2]["error"] == {
        "class": "DeviceNotFound", "desc": "Device 'd9' not found",
        "source": "<stdin>", "line": 3, "column": 24, "length": 2,
    }  # fmt: skip
    assert objects[3]["return"]["qemu"] == {"major": 7, "minor": 2, "micro": 0}


def test_json_of_everything_that_can_go_wrong(run: Run) -> None:
    """The schema that docs/scripts.md states: what each kind of object holds, and nothing else."""
    ended = run("--json", "-c", "set x 1", "-c", "echo $x $y", "-c", "info jbos")
    assert ended.returncode == 3
    objects = [json.loads(line) for line in ended.stdout.splitlines()]
    assert objects == [
        {"error": {
            "class": "SyntaxError", "desc": "undefined variable 'y'", "hint": "$$ means a dollar",
            "source": "<command 2>", "line": 1, "column": 9, "length": 2,
        }},
        {"error": {
            "class": "SyntaxError", "desc": objects[1]["error"]["desc"],
            "hint": "did you mean 'jobs'?",
            "source": "<command 3>", "line": 1, "column": 6, "length": 4,
        }},
    ]  # fmt: skip
    ended = run("--json", typed=FAILING_JOB)
    made, failed = [json.loads(line) for line in ended.stdout.splitlines()]
    assert ended.returncode == 4
    assert made == {"command": FAILING_JOB.strip(), "source": "<stdin>", "line": 1, "return": {}}
    assert failed["job"] == "c0"
    assert set(failed) == {"job", "error"}
    assert set(failed["error"]) == {"class", "desc"}
