"""The plugin in a repository of somebody else's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

STORY = "# Fine.\nblkmon> echo {}\nhello\n"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "good.blkmon").write_text(STORY.format("hello"))
    (tmp_path / "script.blkmon").write_text("echo no transcript\n")
    return tmp_path


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "pytest", *arguments]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=60)


def test_each_transcript_is_one_test(repository: Path) -> None:
    ended = run(repository, "-v", "-n", "2")
    assert ended.returncode == 0, ended.stdout
    assert "good.blkmon::replay" in ended.stdout
    assert "1 passed" in ended.stdout


def test_a_failure_is_a_diff(repository: Path) -> None:
    (repository / "bad.blkmon").write_text(STORY.format("goodbye"))
    ended = run(repository)
    assert ended.returncode == 1
    assert "bad.blkmon:3: the replay differs" in ended.stdout
    assert "\n-hello\n+goodbye\n" in ended.stdout
    assert "Traceback" not in ended.stdout
    assert "1 failed, 1 passed" in ended.stdout


def test_what_cannot_be_played_says_why(repository: Path) -> None:
    (repository / "bad.blkmon").write_text("imag a raw 1M\n" + STORY)
    ended = run(repository)
    assert "bad.blkmon:1: Error: 'imag' is no fixture" in ended.stdout


def test_junit_tells_file_and_diff(repository: Path) -> None:
    (repository / "bad.blkmon").write_text(STORY.format("goodbye"))
    run(repository, "-n", "2", "--junitxml=r.xml")
    cases = {
        case.get("classname"): case
        for case in ElementTree.parse(repository / "r.xml").iter("testcase")
    }
    assert set(cases) == {"bad.blkmon", "good.blkmon"}
    assert {case.get("name") for case in cases.values()} == {"replay"}
    assert list(cases["good.blkmon"]) == []
    (failure,) = cases["bad.blkmon"]
    assert failure.tag == "failure"
    assert "bad.blkmon:3: the replay differs: Fine." in str(failure.text)
    assert "\n-hello\n+goodbye" in str(failure.text)
    assert "\n-hello\n+goodbye" in str(failure.get("message"))


DOCUMENT = """\
# Use

```console
$ blkmon -c 'create -f qcow2 a.qcow2 64M'
$ blkmon --drive if=none,id=d0,file=a.qcow2
blkmon> qemu-io d0 length
64 MiB
$ cat nothing; exit 1
[..]nothing[..]
[failed]
```

```console
$ not-a-session
```

```console
blkmon> echo by itself
by itself
```
"""


def test_sessions_in_documents(repository: Path) -> None:
    (repository / "pytest.ini").write_text("[pytest]\nblkmon_docs = *.md\n")
    (repository / "use.md").write_text(DOCUMENT)
    ended = run(repository, "-v", "-n", "2")
    assert ended.returncode == 0, ended.stdout
    assert "use.md::session1" in ended.stdout
    assert "use.md::session2" in ended.stdout
    assert "3 passed" in ended.stdout


@pytest.mark.parametrize(
    ("before", "after", "place", "diff"),
    [
        ("\n64 MiB", "\n65 MiB", "use.md:7:", "\n-65 MiB\n+64 MiB\n"),
        ("[..]nothing[..]", "fine", "use.md:9:", "\n-fine\n+cat:"),
        ("\nby itself", "\nalone", "use.md:19:", "\n-alone\n+by itself"),
    ],
)
def test_a_document_that_is_wrong(
    repository: Path, before: str, after: str, place: str, diff: str
) -> None:
    (repository / "use.md").write_text(DOCUMENT.replace(before, after, 1))
    ended = run(repository, "use.md")
    assert ended.returncode == 1
    assert place in ended.stdout
    assert diff in ended.stdout
    assert "1 failed, 1 passed" in ended.stdout


def test_documents_are_left_alone_unless_named(repository: Path) -> None:
    (repository / "use.md").write_text(DOCUMENT)
    assert "1 passed" in run(repository).stdout
