"""One window of time, cut from all that a clip holds: sound, frames, sweeps, events."""
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torchvision import tv_tensors

from mmcycle.errors import UserError
from mmcycle.transforms.leaves import Leaves, companions
from mmcycle.transforms.sensors import Frames, Wave, rate_of, wrap
from mmcycle.transforms.streams import described, told
from mmcycle.transforms.synchronized import SyncTransform

Shorter = Literal["refuse", "pad"]
NEAR = 1e-4                                             # seconds; a float32 tells the times of an hour to about this


class SyncTimeCrop(SyncTransform):
    """With probability p, the same seconds of every stream of a clip.

        SyncTimeCrop(2.0, times={"sweeps": "sweep_times"}, events={"spoken": "words"})

    times     name of a stream -> name of the tensor (M,) of seconds that tells when each of its M items was: a list
              of sweeps or pictures, or a tensor (M, ...) of frames without a rate, or of labels of these
    events    name of a tensor (K, 2) of seconds, from and to -> names of what has K rows too: their labels
    shorter   "refuse" a clip that is shorter than the window, or "pad" it: silence, the last frame, nothing else

    Wave and Frames know their rates. All streams begin at second 0 of one clock, and so do those that come out. The
    window begins with a sample of the stream that has fewest in a second, a frame where there are any; the others
    begin with their nearest, at most half a sample away. Of a stream with a rate come as many as `seconds` have,
    to the nearest; of the others, those from the beginning of the window to before its end. Events are cut where the
    window ends, those outside go.
    """

    draws = 1

    def __init__(
        self, seconds: float, p: float = 1.0, *, times: Mapping[str, str] | None = None,
        events: Mapping[str, str | Sequence[str]] | None = None, shorter: Shorter = "refuse",
    ):
        super().__init__(p)
        if not 0 < seconds < float("inf"):
            raise UserError(f"SyncTimeCrop: seconds is {seconds}; it is a number above 0")
        if shorter not in get_args(Shorter):
            raise UserError(f"SyncTimeCrop: shorter is {shorter!r}; it is one of {', '.join(get_args(Shorter))}")
        self.seconds, self.shorter = seconds, shorter
        self.times, self.events = dict(times or {}), companions(events)

    def taken_apart(self, sample: Any) -> Leaves:
        return Leaves(sample, type(self).__name__, whole=tuple(self.times))

    def changed(self, leaves: Leaves, shares: list[float]) -> dict[int, Any]:
        rated, clocks = self._rated(leaves), self._clocks(leaves)
        begin = self._begin(leaves, rated, clocks, shares[0])
        made = {place: self._cut(leaves.values[place], begin) for place in rated}
        for clock, places in clocks.items():
            when = leaves.values[clock]
            inside = self._inside(when, begin)
            made[clock] = (when[inside].double() - float(begin)).to(when.dtype)
            made |= {place: _kept(leaves, place, inside) for place in places}
        for name, beside in self.events.items():
            made |= self._events(leaves, name, beside, float(begin))
        return made

    def _rated(self, leaves: Leaves) -> list[int]:
        rated = leaves.of(Wave, Frames)
        told_times = {place for name in self.times for place in leaves.below(name)}
        lost = set(leaves.of(tv_tensors.Video)) - set(rated) - told_times
        if lost:
            leaves.refuse("a Video has no rate; make it Frames(video, rate=...), or tell its times")
        return [place for place in rated if place not in told_times]

    def _clocks(self, leaves: Leaves) -> dict[int, list[int]]:
        """The place of a tensor of times -> the places of what it speaks of."""
        clocks: dict[int, list[int]] = {}
        for name, clock in self.times.items():
            place, *more = leaves.tensors(clock, (-1,))
            if more:
                leaves.refuse(f"{clock!r} stands in the sample {len(more) + 1} times; give each its own name")
            clocks.setdefault(place, []).extend(leaves.below(name))
        for place, streams in clocks.items():
            for stream in streams:
                leaf, count = leaves.values[stream], len(leaves.values[place])
                if not isinstance(leaf, list | tuple | Tensor) or len(leaf) != count:
                    leaves.refuse(f"{count} times are told for {described(leaf)}; it has one item for each")
        return clocks

    def _begin(self, leaves: Leaves, rated: list[int], clocks: dict[int, list[int]], share: float) -> Fraction:
        """The second with which the window begins, exactly."""
        if not rated:
            return self._begin_among([leaves.values[clock] for clock in clocks], leaves, share)
        rates = [Fraction(rate_of(leaves.values[place])) for place in rated]
        spare = [_length(leaves.values[place]) - self._count(leaves.values[place]) for place in rated]
        latest, place = min((count / rate, place) for count, rate, place in zip(spare, rates, rated, strict=True))
        short = leaves.values[place]
        if latest < 0 and (self.shorter == "refuse" or _length(short) == 0):
            lasts = float(_length(short) / Fraction(rate_of(short)))
            leaves.refuse(f"{described(short)} lasts {lasts:g} s, not {self.seconds:g}; shorter='pad' fills it up")
        if latest < 0:
            return Fraction(0)
        slowest = min(rates)
        return int(share * (latest * slowest // 1 + 1)) / slowest

    def _begin_among(self, clocks: list[Tensor], leaves: Leaves, share: float) -> Fraction:
        """Of what has times alone: from the first to so long before the last that the window still ends with it."""
        heard = [when for when in clocks if len(when)]
        if not heard:
            leaves.refuse(f"nothing in the sample has a rate or times; it holds {told(leaves.leaves)}")
        first, last = min(float(when.min()) for when in heard), max(float(when.max()) for when in heard)
        if last - first < self.seconds and self.shorter == "refuse":
            leaves.refuse(f"the clip lasts {last - first:g} s, less than {self.seconds:g}; shorter='pad' takes all")
        return Fraction(first + share * max(0.0, last - first - self.seconds))

    def _count(self, stream: Wave | Frames) -> int:
        return max(1, round(Fraction(self.seconds) * Fraction(rate_of(stream))))

    def _cut(self, stream: Wave | Frames, begin: Fraction) -> Wave | Frames:
        axis, first, count = _axis(stream), round(begin * Fraction(rate_of(stream))), self._count(stream)
        part = stream.as_subclass(Tensor).narrow(axis, first, min(count, _length(stream) - first))
        missing = count - part.shape[axis]
        if missing > 0:
            last = part.narrow(axis, part.shape[axis] - 1, 1)
            more = last.repeat_interleave(missing, dim=axis)
            part = torch.cat([part, more.zero_() if isinstance(stream, Wave) else more], dim=axis)
        return wrap(part.clone(), like=stream)          # a view would take the whole clip along to another process

    def _inside(self, when: Tensor, begin: Fraction) -> Tensor:
        since = when.double() - float(begin) + NEAR
        return (since >= 0) & (since < self.seconds)

    def _events(self, leaves: Leaves, name: str, beside: Sequence[str], begin: float) -> dict[int, Any]:
        place, *more = leaves.tensors(name, (-1, 2))
        if more:
            leaves.refuse(f"{name!r} stands in the sample {len(more) + 1} times; give each its own name")
        spans = leaves.values[place]
        since = spans.double() - begin
        inside = (since[:, 0] < self.seconds) & ((since[:, 1] > 0) | (since[:, 0] >= 0))
        made = {place: since[inside].clamp(0, self.seconds).to(spans.dtype)}
        for other in (other for label in beside for other in leaves.below(label)):
            if len(leaves.values[other]) != len(spans):
                leaves.refuse(f"{name!r} has {len(spans)} events, and beside them {described(leaves.values[other])}")
            made[other] = _kept(leaves, other, inside)
        return made


def _axis(stream: Wave | Frames) -> int:
    return -1 if isinstance(stream, Wave) else -4


def _length(stream: Wave | Frames) -> int:
    return stream.shape[_axis(stream)]


def _kept(leaves: Leaves, place: int, inside: Tensor) -> Any:
    """The items of a list or tensor for which `inside` holds."""
    leaf = leaves.values[place]
    if isinstance(leaf, Tensor):
        part = leaf[inside.to(leaf.device)]
        return wrap(part, like=leaf) if isinstance(leaf, tv_tensors.TVTensor) else part
    return type(leaf)(item for item, keep in zip(leaf, inside.tolist(), strict=True) if keep)
