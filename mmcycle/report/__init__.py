"""One self-contained HTML page about a run or a data set."""
from pathlib import Path


def write_report(folder: Path) -> Path:
    """Write FOLDER/report.html about a run (log.jsonl) or a generated data set (manifest.jsonl); gives its path."""
    from mmcycle.report.page import write_page          # templates and pictures are loaded when a page is wanted

    return write_page(folder)
