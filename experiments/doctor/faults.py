"""The table of faults, in doses from mild to strong, and the pairs in which a fault does nothing."""

from __future__ import annotations

from experiments.doctor import after, during
from experiments.doctor.bench import Case

AFTER = 11
"""How many faults, the first ones, are made after training."""

FAULTS: tuple[Case, ...] = (
    Case("never_updated", "reset", after.never_updated),
    Case("not_restored", "weights_only", after.not_restored),
    Case("partly_restored", "some_layers", after.partly_restored, 3),
    Case("dummy_pass", "dummy", after.dummy_pass, 4, "drop"),
    Case("nan_statistics", "bad_batch", after.nan_statistics, 1, "drop"),
    Case("test_preprocessing", "test_scaled", after.test_preprocessing, 4, "drop"),
    Case("train_preprocessing", "file_scaled", after.train_preprocessing, 4, "drop"),
    Case("epsilon", "changed_after", after.epsilon, 4, "drop"),
    Case("miscopied", "other_form", after.other_form, 3, "drop"),
    Case("miscopied", "exchanged", after.exchanged, 1, "drop"),
    Case("half_precision", "stalled", after.half_precision, 4),
    Case("not_arrived", "slow_average", during.not_arrived, 3),
    Case("weights_averaged", "averaged", during.weights_averaged, 4),
    Case("hot", "high_rate", during.hot, 5),
    Case("trained_with_phase_false", "start_statistics", during.trained_with_phase_false, 4, "reverse"),
    Case("tiny_batch", "one_image", during.tiny_batch, 4),
    Case("momentum_reversed", "last_batch", during.momentum_reversed, 4, "population"),
    Case("two_sources", "two_passes", during.two_sources, 4),
    Case("dropout_shift", "before_norm", during.dropout_shift, 4),
    Case("unshuffled", "by_class", during.unshuffled, 4),
    Case("batch_statistics_at_inference", "always_batch", during.batch_at_inference, 1, "mates"),
    Case("batch_statistics_at_inference", "resizing", during.leaked_phase, 1, "leak"),
)
EXCLUSIONS = {
    ("never_updated", "renorm"): "renormalization that never updates is no normalization in either phase",
    ("batch_statistics_at_inference", "renorm"): "the class for it does not renormalize",
    ("tiny_batch", "dense"): "of one sample there is no variance, and of two phase true is the worse by .1",
    ("tiny_batch", "renorm"): "renormalization is made for it: -.01 to .00 of accuracy",
    ("two_sources", "renorm"): "both kinds are normalized by one average in training too: -.03 to .00",
    ("tiny_batch", "nested"): "the same, for its dense layer",
    ("dropout_shift", "dense"): "phase false stays as good: .00 of accuracy, and the better RMSE",
}
