"""What a person sees while a run trains: a bar with the time left on a terminal, plain lines elsewhere."""
import sys

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Column


class Progress:
    """One bar, or one line for each interval."""

    def __init__(self, steps: int, quiet: bool = False):
        self.steps, self.quiet = steps, quiet
        self.console = Console(file=sys.stderr, soft_wrap=True, highlight=False)
        self.bar = None
        if self.console.is_terminal and not quiet:
            losses = TextColumn("{task.description}", table_column=Column(ratio=1, no_wrap=True))     # takes what is left
            columns = (TextColumn("training"), BarColumn(20), MofNCompleteColumn(), TimeRemainingColumn(), losses)
            self.bar = Bar(*columns, console=self.console, expand=True)
            self.task = self.bar.add_task("", total=steps)

    def say(self, sentence: str) -> None:
        if not self.quiet:
            self.console.print(sentence, markup=False)

    def show(self, step: int, seconds_per_step: float, losses: dict[str, float]) -> None:
        """One interval: the weighted losses, the pace and the time left."""
        terms = "  ".join(f"{name} {value:.3f}" for name, value in losses.items())
        if self.bar is not None:
            self.bar.start()            # at the first step: what fails before it leaves the terminal's cursor alone
            self.bar.update(self.task, completed=step, description=f"{seconds_per_step:.2f} s/step  {terms}")
        else:
            left = (self.steps - step) * seconds_per_step / 60
            self.say(f"step {step}/{self.steps}  {seconds_per_step:.2f} s/step  {left:.0f} min left  {terms}")

    def close(self) -> None:
        if self.bar is not None:
            self.bar.stop()
