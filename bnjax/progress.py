"""How far a sweep is, on stderr: a bar on a terminal, plain lines elsewhere."""

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar
from rich.table import Column

from bnjax.sweep import Progress

EVERY = 60.0  # seconds, at most, from one plain line to the next of the same trials


class Terminal(Console):
    """A Console that leaves it to ``main`` what to do when nobody reads any more."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


@contextlib.contextmanager
def shown(total: int, quiet: bool = False) -> Iterator[Callable[[Progress], None]]:
    """Gives the function that ``sweep.run`` tells how far ``total`` trials are.

    Where it is told a message, the message is shown, even if ``quiet``.
    """
    console = Terminal(stderr=True, highlight=False, markup=False)
    tell: Callable[[Progress], None] = _nothing
    with contextlib.ExitStack() as stack:
        if not quiet and console.is_terminal:
            tell = stack.enter_context(_bar(console, total))
        elif not quiet:
            tell = _lines(console, total)

        def told(progress: Progress) -> None:
            if progress.message:
                console.print(progress.message, soft_wrap=True)
            else:
                tell(progress)

        yield told


def _nothing(_: Progress) -> None:
    pass


@contextlib.contextmanager
def _bar(console: Console, total: int) -> Iterator[Callable[[Progress], None]]:
    columns = (
        # A column of its own Column may take two lines, where the terminal is narrow.
        TextColumn('{task.description}', markup=False, table_column=Column()),
        BarColumn(bar_width=16),
        TextColumn('{task.fields[state]}', markup=False, table_column=Column()),
    )
    begun = time.monotonic()
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task('starting', total=1.0, state=f'{total} trials')
        yield lambda progress: bar.update(
            task,
            completed=progress.share,
            description=progress.running,
            state=_state(progress, total, time.monotonic() - begun),
        )


def _lines(console: Console, total: int) -> Callable[[Progress], None]:
    """A line when other trials run, when some have finished, and now and then."""
    begun = time.monotonic()
    last, said = None, begun

    def tell(progress: Progress) -> None:
        nonlocal last, said
        now, seen = time.monotonic(), (progress.running, progress.trials)
        if seen != last or now - said >= EVERY:
            last, said = seen, now
            line = f'{progress.running}: {_state(progress, total, now - begun)}'
            console.print(line, soft_wrap=True)

    return tell


def _state(progress: Progress, total: int, passed: float) -> str:
    """``3/40 trials, step 240/1000, 1 diverged, about 2 min left``."""
    parts = [f'{progress.trials}/{total} trials']
    step, steps = progress.steps
    if step:
        parts.append(f'step {step}/{steps}')
    if progress.diverged:
        parts.append(f'{progress.diverged} diverged')
    if progress.gained > 0 and progress.trials < total:
        left = passed * (1 - progress.share) / progress.gained
        parts.append(f'about {_duration(left)} left')
    return ', '.join(parts)


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f'{seconds:.0f} s'
    return f'{seconds / 60:.0f} min' if seconds < 6000 else f'{seconds / 3600:.1f} h'
