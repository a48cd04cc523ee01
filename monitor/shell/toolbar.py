"""The live jobs below the prompt: one row a job, aligned, safe at any width.

     s0  stream  running   40%  ━━━━━━━━────────────  10.0 MiB/s  0:12
     m0  mirror  ready    100%  ━━━━━━━━━━━━━━━━━━━━  waiting for complete
     +3 more: b1, b2, b3

``job_rows`` is the whole layout as a pure function of job snapshots and a width. ``LiveJobs``
decides *when* to look: on an event, then ten times a second while a job is alive, and never
otherwise. Neither does I/O; both cost O(jobs).
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from typing import NamedTuple, Protocol

from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.utils import get_cwidth

from monitor.commands.outcomes import awaited
from monitor.commands.render import rate_text, time_text
from monitor.engine.api import JobSnapshot

INTERVAL = 0.1
"""Seconds between two looks at the jobs: the toolbar is drawn at most ten times a second."""

MAX_ROWS = 4
_BAR = 20
_NAME = 16
"""Cells of a name where there is no room for more."""
_A_WORD = 12
"""Cells of an error that are worth having."""
_OVER = frozenset({"concluded", "null", "undefined"})
_STEADY = frozenset({"paused", "ready", "standby", "waiting", "pending"})


def is_live(job: JobSnapshot) -> bool:
    """Whether the job has not ended: what the toolbar shows, and what quitting would cancel."""
    return job.status not in _OVER


def job_rows(jobs: Sequence[JobSnapshot], width: int, rows: int = MAX_ROWS) -> StyleAndTextTuples:
    """Styled rows for the jobs that live, oldest first, each at most ``width`` cells wide.

    At most ``rows`` rows; what does not fit is counted (and, as far as there is room, named) in
    the last one. No jobs give no rows.
    """
    live = [job for job in jobs if is_live(job)]
    shown = live if len(live) <= rows else live[: rows - 1]
    lines = _fit([_row(job) for job in shown], width)
    fragments: StyleAndTextTuples = []
    for job, line in zip(shown, lines, strict=True):
        fragments += [(f"class:job.{job.status}", line), ("", "\n")]
    if len(shown) < len(live):
        fragments += [("class:job.more", _more(live[len(shown) :], width)), ("", "\n")]
    return fragments[:-1]


class _Row(NamedTuple):
    cells: list[str]
    """The columns, in the order in which they are shown; "" where there is no figure."""
    words: str
    """What the job waits for: it stands where others have figures."""
    is_error: bool
    """Whether the words are worth having without their end."""


def _row(job: JobSnapshot) -> _Row:
    moving = job.status not in _STEADY and not job.endless
    cells = [
        job.id,
        job.type,
        job.status,
        f"{job.percent:3d}%",
        _bar(job.fraction),
        rate_text(job.rate) if moving else "",
        time_text(job.seconds_left) if moving else "",
    ]
    verb = awaited(job)
    words = job.stopped or (f"waiting for {verb}" if verb and not moving else "")
    return _Row(cells, words, job.stopped is not None)


# What goes first when the window is narrow: the bar, what is waited for, the end of a name, then
# what the job is, the time, the rate.
_WORDS = -1
_DROPS: tuple[tuple[int, ...], ...] = (
    (),
    (4,),
    (4, _WORDS),
    (4, _WORDS, 1),
    (4, _WORDS, 1, 6),
    (4, _WORDS, 1, 6, 5),
    (4, _WORDS, 1, 6, 5, 2),
)
_WIDE = _DROPS[:3]


def _fit(rows: list[_Row], width: int) -> list[str]:
    """The rows aligned, with as many columns as the width allows to all of them."""
    lines: list[str] = []
    short = [
        row._replace(cells=[_clip_inside(row.cells[0], _NAME), *row.cells[1:]]) for row in rows
    ]
    tries = [
        (rows, "  ", _WIDE),
        (rows, " ", _WIDE[2:]),
        (short, "  ", _WIDE),
        (short, " ", _DROPS),
    ]
    for table, gap, drops in tries:
        for drop in drops:
            lines = _align(table, drop, gap)
            if all(get_cwidth(line) <= width for line in lines):
                return _with_begun_words(lines, table, gap, width) if _WORDS in drop else lines
    return [_clip(line, width) for line in lines]


def _align(rows: list[_Row], drop: Container[int], gap: str) -> list[str]:
    kept = [[cell for i, cell in enumerate(row.cells) if i not in drop] for row in rows]
    widths = [max(map(get_cwidth, column)) for column in zip(*kept, strict=True)]
    lines = [
        " " + gap.join(_pad(cell, w) for cell, w in zip(cells, widths, strict=True) if w).rstrip()
        for cells in kept
    ]
    if _WORDS in drop:
        return lines
    return [
        line + (gap + row.words if row.words else "") for line, row in zip(lines, rows, strict=True)
    ]


def _with_begun_words(lines: list[str], rows: list[_Row], gap: str, width: int) -> list[str]:
    """The error at which a job stopped has no room to its end: its beginning tells the most."""
    return [
        line + gap + _clip(row.words, room)
        if row.is_error and (room := width - get_cwidth(line + gap)) >= _A_WORD
        else line
        for line, row in zip(lines, rows, strict=True)
    ]


def _more(hidden: Sequence[JobSnapshot], width: int) -> str:
    count = f" +{len(hidden)} more"
    names = count + ": " + ", ".join(job.id for job in hidden[:width])
    if get_cwidth(names) <= width:
        return names
    return _clip(names if width > len(count) + 8 else count, width)


def _bar(fraction: float) -> str:
    done = int(fraction * _BAR)
    return "━" * done + "─" * (_BAR - done)


def _pad(text: str, cells: int) -> str:
    return text + " " * (cells - get_cwidth(text))


def _clip_inside(text: str, cells: int) -> str:
    """``text`` in at most ``cells`` cells, its begin and its end: names differ at either."""
    if get_cwidth(text) <= cells:
        return text
    end = ""
    for character in reversed(text):
        if get_cwidth(character + end) > (cells - 1) // 2:
            break
        end = character + end
    return _clip(text, cells - get_cwidth(end)) + end


def _clip(text: str, cells: int) -> str:
    """``text`` in at most ``cells`` cells, an ellipsis standing for what was cut."""
    if get_cwidth(text) <= cells:
        return text
    kept = ""
    for character in text:
        if get_cwidth(kept + character) >= cells:
            break
        kept += character
    return kept + "…" if cells > 0 else ""


class Timer(Protocol):
    """What ``LiveJobs`` needs of an event loop; a test moves time by hand."""

    def time(self) -> float: ...

    def call_later(self, delay: float, callback: Callable[[], None], /) -> object: ...


class LiveJobs:
    """The jobs as the toolbar last saw them.

    ``redraw`` is called when a row would read differently, at most once an ``INTERVAL``.
    """

    def __init__(
        self,
        jobs: Callable[[], list[JobSnapshot]],
        redraw: Callable[[], None],
        timer: Timer,
    ) -> None:
        self._jobs = jobs
        self._redraw = redraw
        self._timer = timer
        self._seen: list[JobSnapshot] = []
        self._shown: StyleAndTextTuples = []
        self._width = 80
        self._looked = -INTERVAL
        self._planned = False

    def rows(self, width: int, rows: int = MAX_ROWS) -> StyleAndTextTuples:
        """What to draw now in ``width`` cells."""
        self._width = width
        return job_rows(self._seen, width, rows)

    @property
    def any(self) -> bool:
        """Whether there is anything to draw."""
        return bool(self._shown)

    def poke(self) -> None:
        """Something happened to a job: look again, as soon as the interval allows."""
        if not self._planned:
            self._planned = True
            wait = self._looked + INTERVAL - self._timer.time()
            self._timer.call_later(max(0.0, wait), self._look)

    def _look(self) -> None:
        self._planned = False
        self._looked = self._timer.time()
        self._seen = [job for job in self._jobs() if is_live(job)]
        rows = job_rows(self._seen, self._width)
        if rows != self._shown:
            self._shown = rows
            self._redraw()
        if self._seen:
            self.poke()
