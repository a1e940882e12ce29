"""Diagnose and mend a Keras model that is good in training and bad in inference.

    from bnlab.doctor import Watch, examine
    print(examine(model, x_train, y_train, x_test, y_test).summary)
    model.fit(x_train, y_train, callbacks=[Watch(x_train, y_train)])

The line: models, data -> subject -> chart -> findings -> suspects, verdict -> diagnosis -> page.

    models, data    somebody's files: opened, read, checked
    subject         the model, evaluated under any statistics, and put back as it was
    chart           statistics estimated and outputs scored, each once
    findings        what is seen; suspects: which causes that speaks for; harm, verdict: whether it matters
    mending, mend   what closes a gap, and the file that is written
    page            the diagnosis on a terminal; watch: a callback for `fit`
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bnlab.doctor.examination import examine
    from bnlab.doctor.watch import BatchNormWarning, Watch

__all__ = ["BatchNormWarning", "Watch", "examine"]


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Import what is asked for: `--help` and a misspelt flag need no TensorFlow."""
    if name == "examine":
        from bnlab.doctor.examination import examine

        return examine
    if name in ("Watch", "BatchNormWarning"):
        from bnlab.doctor import watch

        return getattr(watch, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
