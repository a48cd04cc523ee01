"""What ``help`` tells beside commands: the language, scripts, keys."""

from __future__ import annotations

TOPICS: dict[str, tuple[str, str]] = {
    "language": (
        "lines, words, quotes, comments",
        """\
A command is a name and its arguments, with blanks between. QEMU's human commands take theirs in
order; requests of QMP take FIELD=VALUE words, dotted for what is nested (file.filename=a.img), or
JSON where a value begins with { or [. A word with blanks stands in "quotes", in which \\" \\\\ \\n
and \\r mean what they mean in C. An open bracket goes on in the next line. ; as a word of its own
ends a command, # begins a comment at the start of a line or between blanks.""",
    ),
    "sizes": (
        "numbers with units",
        """\
64k, 1.5G, 0x10000, 10MiB: k, M, G, T, P and E are powers of 1024. Without a unit QEMU's human
commands count MiB where they take a size, requests and qemu-io bytes.""",
    ),
    "variables": (
        "set, $NAME, named commands",
        """\
`set size 64M` makes $size and ${size} stand for 64M in the lines that follow, in quotes and in JSON
too. A value stays one word whatever is in it. $$ is a dollar. An unknown name is a mistake before
anything runs. --set NAME=VALUE does it on the command line. `macro` gives commands a name and
arguments of their own.""",
    ),
    "output": (
        "forms, files and pipes",
        """\
At the end of a command: --output=table|vertical|json|jsonl|csv for another form than its own text
(`set format` for all), > FILE and >> FILE to write it, | COMMAND to hand it to the host's shell.
Those three count as words of their own only, so names of files may hold them.""",
    ),
    "scripts": (
        "files, marks, exit statuses",
        """\
blkmon FILE… runs files, -c commands, and a pipe line by line. A line that begins with - may fail,
one with ! must. The first failure ends a script unless `set on-error continue`. Status 0: all went
well; 1: a command failed; 2: usage; 3: it does not parse; 4: a job that was waited for failed;
5: the connection was lost. --check lists all mistakes and runs nothing.""",
    ),
    "keys": (
        "what keys do at the prompt",
        """\
Tab completes, Enter runs (or takes a chosen candidate), → takes the grey suggestion, ↑ the older
lines that begin as this one, Ctrl-R searches them, Ctrl-X Ctrl-E opens $EDITOR, Alt-Enter begins a
new line, Ctrl-C drops the line or asks about the command that runs, Ctrl-D on an empty line leaves.
`set vi on`, `set tab`, `set right` and `set enter` change some of it; ~/.config/blkmon/config is
run when the prompt starts.""",
    ),
    "transcripts": (
        "sessions as tests",
        """\
`record FILE` keeps what is typed and answered; blkmon --replay FILE types it again and shows what
differs, --update rewrites what differs.""",
    ),
}
"""Name -> a few words about it, and the text."""
