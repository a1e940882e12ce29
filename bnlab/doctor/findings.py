"""What is seen of a model: the signs by which causes are told from one another, each a number.

Distances are those of `bnlab.science.mixtures.apart`: mean squares, in deviations of the population.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from bnlab.doctor.chart import Chart, concatenated
from bnlab.doctor.subject import Layers, length, take
from bnlab.doctor.suspect import odds
from bnlab.science.mixtures import apart, squares
from bnlab.science.moments import Moments
from bnlab.science.tape import START_MEAN, START_VARIANCE

# Outputs in other company may differ by rounding: this much of their size, by the precision of the network.
_ROUNDING = {"float32": 1e-3, "float64": 1e-3}
_HALF_ROUNDING = 3e-2
# What is left within sampling error makes a hypothesis no surer than this.
_SURE = 0.95


@dataclass(frozen=True)
class Leak:
    """How inference was seen to use batch statistics.

    Attributes:
        how: the call, such as `model(x)`.
        differs: relative difference of outputs in other company.
        changed: paths of variables that the call changed.
        phase: keyword arguments of the call.
    """

    how: str
    differs: float
    changed: tuple[str, ...]
    phase: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class Findings:
    """Signs of a model; distances are NaN where moving statistics are not finite.

    Attributes:
        broken: weights, other than moving statistics, with a NaN or infinity.
        not_finite: layers with a NaN or infinite statistic.
        negative: layers with a variance that is below 0 with epsilon added.
        at_start: layers whose statistics are mean 0, variance 1, exactly.
        vanished: layers whose variances are below a thousandth of the population's, in nearly all channels.
        half: layers whose statistics are kept in half precision, or are such numbers all.
        leaks: ways of inference that use batch statistics.
        distance: of moving statistics from the population that training feeds.
        noise: distance that a healthy average has by its own sampling error, at the layers' decays.
        one_batch: distance of a single batch, which the weights were trained to bear.
        log_variance: mean of log(moving / population variance).
        test_distance: of the test split's population from the training data's.
        test_noise: distance that two samples of one population have.
        calls_apart: distance between the calls of a layer that is called several times, at most.
    """

    broken: tuple[str, ...]
    not_finite: tuple[str, ...]
    negative: tuple[str, ...]
    at_start: tuple[str, ...]
    vanished: tuple[str, ...]
    half: tuple[str, ...]
    leaks: tuple[Leak, ...]
    distance: float
    noise: float
    one_batch: float
    log_variance: float
    test_distance: float
    test_noise: float
    calls_apart: float

    def odds(self, explained: float) -> float:
        """Give the odds of a hypothesis that explains a share of the distance; sampling makes some of it."""
        sampled = min(self.noise / self.distance, 0.5) if self.distance > 0 else 0.0
        return odds(max(explained, min(explained / (1 - sampled), _SURE)))


def examine_signs(chart: Chart) -> Findings:
    """Look for every sign."""
    moving, epsilons = chart.moving, chart.subject.epsilons
    starting = tuple(key for key, own in moving.items() if _is_at_start(own))
    others = {key: own for key, own in moving.items() if key not in starting}
    return Findings(
        broken=tuple(_broken(chart)),
        not_finite=tuple(key for key, own in moving.items() if not np.isfinite(own).all()),
        negative=tuple(key for key, own in moving.items() if (own.variance < -epsilons[key]).any()),
        at_start=starting,
        vanished=tuple(k for k, own in others.items() if _has_vanished(own, chart.fed[k], epsilons[k])),
        half=tuple(key for key, own in moving.items() if _is_half(chart, key, own)),
        leaks=tuple(leaks(chart)),
        distance=apart(moving, chart.fed, epsilons),
        noise=_noise(chart),
        one_batch=_one_batch(chart),
        log_variance=_log_variance(chart),
        test_distance=_test_distance(chart),
        test_noise=_sample_noise(chart),
        calls_apart=_calls_apart(chart),
    )


def _broken(chart: Chart) -> Iterator[str]:
    layers = chart.subject.named.values()
    # Not the two alone: renormalization keeps more of them.
    statistics = {id(own) for layer in layers for own in layer.non_trainable_variables}
    for weight in chart.subject.model.weights:
        if id(weight) not in statistics and not np.isfinite(np.asarray(weight, np.float64)).all():
            yield weight.path


def _is_at_start(own: Moments) -> bool:
    return bool((own.mean == START_MEAN).all() and (own.variance == START_VARIANCE).all())


def _log_variance(chart: Chart) -> float:
    own, true = concatenated(chart.moving), concatenated(chart.fed)
    added = np.concatenate([np.full(len(m.mean), chart.subject.epsilons[k]) for k, m in chart.moving.items()])
    with np.errstate(all="ignore"):  # statistics may be anything
        return float(np.mean(np.log((own.variance + added) / (true.variance + added))))


def _test_distance(chart: Chart) -> float:
    if chart.test is None:
        return float("nan")
    return apart(chart.of_test, chart.population, chart.subject.epsilons)


def leaks(chart: Chart) -> list[Leak]:
    """Call the model as `predict` does, and see whether outputs depend on the company of a sample."""
    has_phase = getattr(chart.subject.model, "_call_has_training_arg", True)
    how, phase = ("predict(x)", {"training": False}) if has_phase else ("predict(x)", {})
    return _leak(chart, how, phase)


def bare_leaks(chart: Chart) -> list[Leak]:
    """Call the model without a phase, which Keras 3.12 to 3.15 takes for training behind some layers."""
    return _leak(chart, "model(x)", {})


def _leak(chart: Chart, how: str, phase: Mapping[str, bool]) -> list[Leak]:
    subject, some = chart.subject, take(chart.x, slice(0, min(length(chart.x), 2 * chart.size)))
    other = np.random.default_rng(0).permutation(length(some))[: max(1, length(some) // 2)]
    subject.put_back()
    one = subject.as_it_is(some, **phase)
    changed = tuple(path for path in subject.put_back() if "seed" not in path)
    two = subject.as_it_is(take(some, other), **phase)
    subject.put_back()
    differs = max(_relative(a[other], b) for a, b in zip(one, two, strict=True))
    return [Leak(how, differs, changed, phase)] if differs > _rounding(chart) or changed else []


def _rounding(chart: Chart) -> float:
    kinds = {layer.compute_dtype for layer in chart.subject.model._flatten_layers()}
    return max(_ROUNDING.get(kind, _HALF_ROUNDING) for kind in kinds if "float" in kind) if kinds else 1e-3


def _relative(one: np.ndarray, other: np.ndarray) -> float:
    with np.errstate(all="ignore"):  # outputs may be infinite: then nothing can be told, which is NaN
        size = np.sqrt(np.mean(np.square(other, dtype=np.float64)))
        return float(np.sqrt(np.mean(np.square(one.astype(np.float64) - other))) / max(size, 1e-12))


def _has_vanished(own: Moments, true: Moments, epsilon: float) -> bool:
    alive = true.variance > 10 * epsilon
    return bool(alive.any() and (own.variance[alive] < 1e-3 * true.variance[alive]).mean() > 0.9)


def _is_half(chart: Chart, key: str, own: Moments) -> bool:
    layer = chart.subject.named[key]
    if "16" in layer.moving_variance.dtype:
        return True
    values = np.concatenate([own.mean, own.variance])
    plain = np.isin(values, (0.0, 1.0)) | ~np.isfinite(values)
    with np.errstate(over="ignore"):
        return bool((~plain).sum() >= 8 and (values == values.astype(np.float16)).all())


def _of_average(decay: float) -> float:
    """Share of one batch's variance that is left in a moving average of independent batches."""
    return (1 - decay) / (1 + decay)


def _noise(chart: Chart) -> float:
    """Estimate the distance of a healthy average: the spread of batches over the length of the average."""
    named = chart.subject.named
    spread = [own * _of_average(named[key].momentum) for key, own in _of_batches(chart).items()]
    return float(np.mean(spread)) + _sample_noise(chart)


def _one_batch(chart: Chart) -> float:
    return float(np.mean(list(_of_batches(chart).values())))


def _of_batches(chart: Chart) -> dict[str, float]:
    """Measure how far batches lie from their mean, on average: layer -> squared distance."""
    epsilons = chart.subject.epsilons
    return {
        key: float(np.mean([squares(Moments(*row), chart.means[key], epsilons[key]) for row in rows]))
        for key, own in chart.batches.items()
        for rows in [list(zip(*own, strict=True))]
    }


def _sample_noise(chart: Chart) -> float:
    """Estimate the distance of two samples of one population, from disjoint parts of the sample."""
    parts, epsilons = chart.population_of_parts, chart.subject.epsilons
    found = [apart(one, other, epsilons) for n, one in enumerate(parts) for other in parts[:n]]
    return float(np.mean(found)) / len(parts) if found else 0.0


def _calls_apart(chart: Chart) -> float:
    shared = [key for key, calls in chart.subject.calls.items() if calls > 1]
    if not shared:
        return 0.0
    seen = chart.subject.by_call(chart.x, chart.size)
    return max(_between(chart, key, seen[key]) for key in shared)


def _between(chart: Chart, key: str, calls: list[Moments]) -> float:
    whole = [Moments(own.mean.mean(0), own.variance.mean(0) + own.mean.var(0)) for own in calls]
    return max(float(squares(one, whole[0], chart.subject.epsilons[key]).mean()) for one in whole[1:])


def distance_of(chart: Chart, statistics: Layers) -> float:
    """Measure how far moving statistics lie from others."""
    return apart(chart.moving, statistics, chart.subject.epsilons)
