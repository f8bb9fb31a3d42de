"""One direction of a run under examination: is it realistic, did it keep the meaning, has it given up?

    found = evaluate(Path("runs/day_to_night"))
    for check in found.checks: print(check.level, check.told)
"""
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from torch import Tensor

from mmcycle import __version__
from mmcycle.config import Config, to_dict
from mmcycle.data.partners import known_partners
from mmcycle.data.samplers import Domain
from mmcycle.errors import UserError
from mmcycle.files import write_json
from mmcycle.generate.translator import Translator
from mmcycle.metrics import collapse, features, realism, recall
from mmcycle.metrics.distances import l1
from mmcycle.metrics.faithfulness import edges_added, edges_kept, structure
from mmcycle.metrics.features import Features
from mmcycle.metrics.sample_sets import Sets, gather, windows
from mmcycle.metrics.score import Score
from mmcycle.metrics.verdicts import Check, judge
from mmcycle.modality import Modality

LEARNT = 128                                # windows of each domain that the features are learnt from
MEASURED = 64                               # samples on which a sensor's own measures are taken, which may be slow

Measure = Callable[[Tensor, Tensor], float]


class Seen(NamedTuple):
    """What describes the samples of each side; one network where both sides have one sensor."""

    source: Features
    target: Features


@dataclass(frozen=True)
class Evaluation:
    """What was found: scores by "topic: measure", a check for each question, and what it was found on."""

    about: dict[str, Any]
    scores: dict[str, Score]
    checks: tuple[Check, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON: the scores by name, then "checks", "notes" and "about"."""
        scores = {name: score.to_dict() for name, score in self.scores.items()}
        told = {"checks": [check._asdict() for check in self.checks], "notes": list(self.notes), "about": self.about}
        return scores | told


def evaluate(
    run: Path, *, direction: Literal["ab", "ba"] = "ab", real: Path | None = None, source: Path | None = None,
    samples: int = 200, seed: int = 0, device: str = "auto",
) -> Evaluation:
    """A run folder or an exported model, on folders of recordings; without them on what it was trained on.

    Keeps what it learnt and found in RUN/evaluation.
    """
    there = Translator.load(run, direction, device=device)
    config = there.config
    back = Translator.load(run, direction[::-1], device=device) if _has_way_back(run, config) else None
    sides = (config.a, config.b) if direction == "ab" else (config.b, config.a)
    domains = tuple(
        Domain(_root(given, side.root, option), side.modality)
        for given, side, option in zip((source, real), sides, ("--source", "--real"))
    )
    own = source is None and real is None
    sets = gather(there, back, *domains, samples, seed, _by_table(config, direction, domains, own))
    seen = _seen(run, config, direction, sets, seed)
    scores = measure(sets, seen, there.source, there.target, paired=config.data.paired, seed=seed)
    about = {
        "run": str(run), "direction": direction, "model_sha256": there.sha256, "samples": len(sets.source),
        "source": str(domains[0].root), "real": str(domains[1].root), "seed": seed, "version": __version__,
        "features": {side: {"name": one.name, "sha256": one.sha256} for side, one in seen._asdict().items()},
    }
    notes = sets.notes + _trained_on(source, real) + (() if back else ("no way back was trained: no cycle error",))
    found = Evaluation(about, scores, judge(scores, len(sets.source)), notes)
    if run.is_dir():
        write_json(run / "evaluation" / f"{direction}.json", found.to_dict())
    return found


def _by_table(
    config: Config, direction: str, domains: tuple[Domain, Domain], own: bool
) -> Mapping[int, int] | None:
    """One partner of each recording by the table of the run, which speaks of its own folders only; None: it has none."""
    if config.data.pairs is None:
        return None
    if not own:
        return {}
    a, b = domains if direction == "ab" else domains[::-1]
    known = known_partners(a, b, 1.0, config.run.seed, config.data.pairs)
    if direction == "ab":
        return {index: several[0] for index, several in known.items()}
    return {one: index for index, several in known.items() for one in several}


def measure(
    sets: Sets, seen: Seen, source: Modality, target: Modality, *, paired: bool = False, seed: int = 0
) -> dict[str, Score]:
    """Every score by "topic: measure"; what needs one grid, a way back or pairs is left out without them."""
    looks = [seen.target.look(x) for x in (sets.reference, sets.real, sets.fake)]
    start = seen.target.look(sets.source) if sets.alike else None
    axes = [None if look is None else seen.target.axes_of(look) for look in (*looks, start)]
    scores = {
        "realism: kernel distance": realism.kernel_distance(*looks, start, seed),
        "realism: frechet distance": realism.frechet_distance(*axes, seed),
    }
    gone = realism.way_gone(scores["realism: frechet distance"])
    if gone is not None:
        scores["realism: way gone"] = Score(gone, beside={"untranslated": 0.0, "floor": 1.0})
    scores |= _faithful(sets, seen, seed)
    scores |= _cycle(sets, source)
    scores |= _pairs(sets, target, paired)
    scores["collapse: contrast"] = collapse.contrast(sets.fake, sets.reference)
    scores["collapse: diversity"] = collapse.diversity(looks[2], looks[0])
    if sets.alike:
        scores["collapse: change"] = collapse.change(sets.source, sets.fake)
        scores["collapse: intensity correlation"] = collapse.intensity_correlation(sets.source, sets.fake)
    return scores


def _faithful(sets: Sets, seen: Seen, seed: int) -> dict[str, Score]:
    contents = seen.source.content(sets.source), seen.target.content(sets.fake)
    found = {"faithfulness: layout kept": recall.layout_kept(*contents, seed)}
    if not sets.alike:
        return found
    alike = recall.likeness(*contents)
    found["faithfulness: source found"] = recall.source_found(alike)
    found["faithfulness: content distance"] = recall.content_distance(alike)
    for name, kept in (("structure", structure), ("edges kept", edges_kept), ("edges added", edges_added)):
        found[f"faithfulness: {name}"] = _against_strangers(kept, sets.source, sets.fake)
    return found


def _against_strangers(compare: Callable[[Tensor, Tensor], Tensor], one: Tensor, other: Tensor) -> Score:
    """The mean over pairs, beside that over pairs that do not belong together."""
    values = compare(one, other)
    half = 1.96 * values.std().item() / len(values) ** 0.5
    strangers = compare(one, other.roll(len(other) // 2, 0)).mean().item()
    mean = values.mean().item()
    return Score(mean, mean - half, mean + half, {"shuffled": strangers})


def _cycle(sets: Sets, source: Modality) -> dict[str, Score]:
    if sets.back is None:
        return {}
    carried, disturbed = sets.back
    score = _against_strangers(l1, sets.source, carried)
    disturbance = l1(sets.source, disturbed).mean().item()
    beside = dict(score.beside) | {"after a whisper": disturbance}
    found = {"cycle: l1": Score(score.value, score.low, score.high, beside)}
    for name, distance in source.metrics().items():
        found[f"cycle: {name}"] = Score(_mean(distance, sets.source, carried))
    return found


def _pairs(sets: Sets, target: Modality, paired: bool) -> dict[str, Score]:
    """Against true partners: those that the config calls so, or namesakes that look more alike than strangers do."""
    if sets.known is None or not (paired or _namesakes_agree(sets)):
        return {}
    fake, truth = sets.fake[sets.known], sets.partner
    before = sets.source[sets.known] if sets.alike else None
    score = _against_strangers(l1, fake, truth)
    start = {} if before is None else {"untranslated": l1(before, truth).mean().item()}
    found = {"pairs: l1": Score(score.value, score.low, score.high, dict(score.beside) | start)}
    for name, distance in target.metrics().items():
        start = {} if before is None else {"untranslated": _mean(distance, before, truth)}
        found[f"pairs: {name}"] = Score(_mean(distance, fake, truth), beside=start)
    return found


def _namesakes_agree(sets: Sets) -> bool:
    """Files 000.png of two unpaired folders have one name and nothing else in common."""
    if not sets.alike:
        return False
    score = _against_strangers(structure, sets.source[sets.known], sets.partner)
    return score.low > score.beside["shuffled"] + 0.05


def _mean(distance: Measure, one: Tensor, other: Tensor) -> float:
    values = [float(distance(x, y)) for x, y in zip(one[:MEASURED], other[:MEASURED])]
    finite = [value for value in values if value == value and abs(value) != float("inf")]
    return sum(finite) / len(finite) if finite else float("nan")


def _seen(run: Path, config: Config, direction: str, sets: Sets, seed: int) -> Seen:
    """Networks learnt from the domains of the run, so that evaluations on other recordings can be compared."""
    pools = {}
    for letter, here in zip(direction, (sets.source, sets.real)):
        side = getattr(config, letter)
        there = side.root is not None and Path(side.root).is_dir()
        pools[letter] = windows(Domain(side.root, side.modality), LEARNT, seed) if there else here
        pools[letter] = pools[letter] if len(pools[letter]) > 1 else here
    if sets.alike:
        both = _learnt(run, config, "ab", [pools["a"], pools["b"]], seed)
        return Seen(both, both)
    own = {letter: _learnt(run, config, letter, [pool], seed) for letter, pool in pools.items()}
    return Seen(own[direction[0]], own[direction[1]])


def _learnt(run: Path, config: Config, letters: str, pools: Sequence[Tensor], seed: int) -> Features:
    """From RUN/evaluation, or learnt now and kept there."""
    told = to_dict(config)
    sums = [[tuple(pool.shape), round(pool.double().sum().item(), 3)] for pool in pools]
    key = features.key_of([told[letter] for letter in letters], sums, seed)
    file = run / "evaluation" / f"features_{letters}.safetensors"
    kept = features.load(file, key) if run.is_dir() else None
    if kept is None:
        kept = features.learn(pools, seed)
        if run.is_dir():
            features.save(kept, file, key)
    return kept


def _has_way_back(run: Path, config: Config) -> bool:
    return run.is_dir() and config.loss.consistency in ("cycle", "both")


def _root(given: Path | None, trained: Path | None, option: str) -> Path:
    root = given if given is not None else trained
    if root is None:
        raise UserError(f"the run does not say where its recordings lie; name a folder with {option}")
    return Path(root)


def _trained_on(source: Path | None, real: Path | None) -> tuple[str, ...]:
    if source is not None and real is not None:
        return ()
    return ("measured on recordings that the run was trained on; held-out ones (--source, --real) say more",)
