"""The health of a run: the warnings of its monitor, their advice, and what was measured, as run.html shows them."""
import math
from typing import Any

from mmcycle.report.curves import Chart, chart
from mmcycle.report.numbers import count, short
from mmcycle.report.rows import mapping, number
from mmcycle.report.scores import Verdict

MOST = 12                                       # warnings shown
MEASURES = {                                    # of train/health.py, with what is healthy
    "judged": "pairs that the discriminator ranks rightly; 0.5 is guessing, above 0.995 it teaches nothing",
    "diverse": "how far translations differ, times what real recordings do; below 0.15 they look alike",
    "changed": "from source to translation, times the distance of the domains; below 0.03 it copies",
    "correlated": "of source and translation; below -0.5 light and dark are turned round",
    "hidden": "what comes back only by a signal that nobody sees; above 0.15 the way back cheats",
}


def warnings(events: list[dict[str, Any]], domains: dict[str, str]) -> tuple[Verdict, ...]:
    """The faults that lasted; domains: a and b -> what they are called."""
    told = [event for event in events if event.get("event") == "warning"]
    return tuple(_warning(event, domains) for event in told[:MOST])


def health_charts(rows: list[dict[str, Any]], marks: list[float]) -> list[Chart]:
    """One for each thing that the monitor measured, its two domains in it."""
    looks = [(float(row["step"]), mapping(row.get("health"))) for row in rows if mapping(row.get("health"))]
    drawn = []
    for measure, told in MEASURES.items():
        names = (f"{measure}_a", f"{measure}_b")
        series = {name: [(step, number(look.get(name))) for step, look in looks] for name in names}
        there = {name: points for name, points in series.items() if any(math.isfinite(value) for _, value in points)}
        drawn.append(chart(measure, there, told, marks, exact=True))
    return [one for one in drawn if one]


def _warning(event: dict[str, Any], domains: dict[str, str]) -> Verdict:
    domain, measure = str(event.get("domain"))[:1], str(event.get("measure") or "")[:40]
    when = f"at step {count(number(event.get('step')))}" if math.isfinite(number(event.get("step"))) else ""
    value = f"{measure} {short(number(event.get('value')))}" if measure else ""
    told = ", ".join(part for part in (domains.get(domain, ""), when, value) if part)
    return Verdict("warning", str(event.get("name") or "a fault")[:60], told, str(event.get("advice") or "")[:400])
