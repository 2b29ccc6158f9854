"""How far a sweep is, on the terminal: a bar, or plain lines elsewhere."""

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bar

from bnjax.sweep import Progress


@contextlib.contextmanager
def shown(total: int) -> Iterator[Callable[[Progress], None]]:
    """Gives the function that ``sweep.run`` tells how far ``total`` trials are."""
    console = Console(stderr=True, highlight=False, markup=False)
    if not console.is_terminal:
        yield _plain_lines(console, total)
        return
    columns = (
        TextColumn('{task.description}'),
        BarColumn(),
        TextColumn('{task.fields[trials]}/' + f'{total} trials'),
        TimeElapsedColumn(),
        TextColumn('left'),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task('starting', total=1.0, trials=0)
        yield lambda p: bar.update(
            task, completed=p.share, trials=p.trials, description=p.running
        )


def _plain_lines(console: Console, total: int) -> Callable[[Progress], None]:
    """A line each time other trials run or some have finished, with the time left."""
    begun, last = time.monotonic(), None

    def tell(progress: Progress) -> None:
        nonlocal last
        seen = progress.running, progress.trials
        if seen == last:
            return
        last = seen
        line = f'{progress.running}: {progress.trials}/{total} trials'
        if progress.gained > 0 and progress.trials < total:
            passed = time.monotonic() - begun
            left = passed * (1 - progress.share) / progress.gained
            line += f', about {left:.0f} s left'
        console.print(line)

    return tell
