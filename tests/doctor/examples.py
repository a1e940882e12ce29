"""Diagnoses as an examination could have made them, with numbers that can be followed by hand."""

from dataclasses import replace

from bnlab.doctor.diagnosis import Cause, Diagnosis, Gap, Layer, Mended, Part, Remedy

NAN = float("nan")


def gap(split, metric, batch, moving, error, samples=1000):
    return Gap(split, metric, moving, batch, moving - batch, error, samples)


GAPS = (
    gap("train", "rmse", 0.071, 0.131, 0.0012, 2000),
    gap("train", "accuracy", 0.968, 0.842, 0.004, 2000),
    gap("test", "rmse", 0.082, 0.1443, 0.0021),
    gap("test", "accuracy", 0.95, 0.82, 0.006),
    gap("test", "loss", 0.171, 0.752, 0.03),
)
LAYERS = (
    Layer("conv_1/norm", 16, 0.999, 1e-3, False, 1, 0.61, 0.48, 0.23, 0.31, 0.0121, 0.0007),
    Layer("conv_2/norm", 32, 0.999, 1e-3, False, 2, 0.94, 0.71, 0.52, 0.66, 0.0439, 0.0011),
    Layer("conv_3/norm", 64, 0.999, 1e-3, True, 1, None, None, None, 0.0, 0.0, 0.0),
)
PARTS = (
    Part("train", "lag", 0.0551, 0.0013),
    Part("train", "noise", 0.0061, 0.0006),
    Part("train", "bias", 0.0004, 0.0002),
    Part("train", "shift", 0.0, 0.0),
    Part("train", "batch", -0.0016, 0.0004),
    Part("test", "lag", 0.0502, 0.002),
    Part("test", "noise", 0.0058, 0.0011),
    Part("test", "bias", 0.0005, 0.0003),
    Part("test", "shift", 0.0088, 0.0014),
    Part("test", "batch", -0.003, 0.0008),
)
CAUSES = (
    Cause(
        "not_arrived",
        "the moving average has not arrived",
        0.91,
        (
            "all layers hold the same share of their start, 0.61 (0.60 to 0.62)",
            "population statistics close 97 % of the RMSE gap on the test data",
        ),
        "train on for 2,000 steps at learning rate 0: the gap then falls by the factor 0.14",
        "estimate population statistics from 1,000 training samples, or train with momentum 0.99",
        True,
    ),
    Cause(
        "shift",
        "the test data are preprocessed otherwise than the training data",
        0.06,
        ("statistics of the test data explain 14 % of the gap on it",),
        "compare the mean and deviation of both inputs",
        "use one preprocessing for both",
        False,
    ),
    Cause("tiny_batch", "tiny batches", 0.01, (), "", "", True),
)
REMEDIES = (
    Remedy("population", "test", {"rmse": 0.0839, "accuracy": 0.947}, 0.0019, 0.97, True, 1.84),
    Remedy("zero_debias", "test", {"rmse": 0.0871, "accuracy": 0.939}, 0.0051, 0.918, True, 0.02),
    Remedy("mixed", "test", {"rmse": 0.112, "accuracy": 0.9}, 0.03, 0.518, False, 2.5),
    Remedy("population", "train", {"rmse": 0.072, "accuracy": 0.966}, 0.001, 0.983, True, 1.84),
)
SICK = Diagnosis(
    "sick",
    (
        "With moving statistics the test accuracy is 0.82 instead of 0.95.",
        "The moving average has not arrived (91 %).",
        "Population statistics close 97 % of the gap.",
    ),
    {"name": "digits", "path": "digits.keras", "parameters": 23_498, "optimizer": "adam"},
    {"path": "data.npz", "shape": [28, 28, 1], "labels": "classes"},
    GAPS,
    {"train": 0.131, "test": 0.158},
    LAYERS,
    PARTS,
    CAUSES,
    0.02,
    REMEDIES,
    "Write population statistics into the model; then raise the number of steps or lower the momentum.",
    "python -m bnlab.doctor digits.keras --data data.npz --mend mended.keras",
    {"start_share": 0.61, "start_share_spread": 0.004, "kl_median": 0.37},
    ("conv_3/norm is frozen: it uses moving statistics in training, too",),
    None,
    12.34,
    {"bnlab": "0.1.0", "keras": "3.15.1", "tensorflow": "2.21.0"},
)
HEALTHY = replace(
    SICK,
    verdict="healthy",
    summary=("Moving statistics do as well as batch statistics.",),
    gaps=(
        gap("train", "rmse", 0.071, 0.0712, 0.0012, 2000),
        gap("test", "rmse", 0.082, 0.0815, 0.0021),
        gap("test", "accuracy", 0.95, 0.951, 0.006),
    ),
    disagreement={"train": 0.004, "test": 0.006},
    causes=(),
    unexplained=0.0,
    remedies=(),
    advice="",
    command="",
    notes=(),
)
UNCLEAR = Diagnosis(
    "unclear",
    (
        "The test accuracy is 0.03 ± 0.04 lower with moving statistics: 24 samples cannot tell.",
        "Give at least 400 samples.",
    ),
    gaps=(gap("test", "accuracy", 0.93, 0.9, 0.04, 24),),
    notes=("no training data were given",),
)
NOTHING = Diagnosis("nothing to examine", ("The model has no layer that keeps moving statistics.",))
MENDED = replace(
    SICK,
    mended=Mended(
        "mended.keras",
        "population",
        (gap("test", "rmse", 0.082, 0.1443, 0.0021), gap("test", "accuracy", 0.95, 0.82, 0.006)),
        (gap("test", "rmse", 0.082, 0.0839, 0.0021), gap("test", "accuracy", 0.95, 0.947, 0.006)),
    ),
)
UNLABELLED = replace(
    SICK,
    summary=("Predictions change with the statistics.",),
    data={"path": "inputs.npy", "labels": False},
    gaps=(gap("train", "rmse", 0.021, 0.133, 0.002), gap("train", "agreement", 0.97, 0.71, 0.01)),
    disagreement={"train": 0.29},
    parts=tuple(part for part in PARTS if part.split == "train"),
    remedies=(Remedy("population", "train", {"rmse": 0.0, "agreement": 1.0}, 0.0, 1.0, True, 0.9),),
)


def many(count=60):
    """A sick model of so many layers with long nested names: the part of layer n is 0.03 / n."""
    layers = tuple(
        Layer(
            f"backbone/stage_{n // 8}/block_{n}_residual_bottleneck/expanded_convolution_batch_normalization",
            512,
            0.99,
            1e-3,
            False,
            1,
            0.9 / (n + 1),
            0.5 / (n + 1),
            0.2 / (n + 1),
            0.4 / (n + 1),
            0.03 / (n + 1),
            0.0004,
        )
        for n in range(count)
    )
    return replace(SICK, layers=layers)


def broken():
    """A model with statistics that are not numbers."""
    lost = tuple(replace(own, mean_shift=NAN, log_variance=NAN, kl=float("inf"), part=NAN) for own in LAYERS)
    return replace(
        SICK,
        summary=("With moving statistics the outputs are not numbers.",),
        gaps=(
            Gap("test", "rmse", NAN, 0.082, NAN, NAN, 1000),
            Gap("test", "accuracy", NAN, 0.95, NAN, NAN, 1000),
        ),
        disagreement={"test": NAN},
        layers=lost,
        parts=(Part("test", "lag", NAN, NAN), Part("test", "batch", NAN, NAN)),
        causes=(replace(CAUSES[0], name="nan", title="statistics that are not numbers", confidence=0.99),),
        unexplained=0.01,
        remedies=(Remedy("population", "test", {"rmse": 0.083, "accuracy": NAN}, NAN, None, True, 1.0),),
    )


def nasty(name):
    """A sick model in which every name is one that somebody chose badly."""
    layers = tuple(replace(own, name=f"{own.name} {name}") for own in LAYERS)
    cause = replace(CAUSES[0], evidence=(f"layer {name}",))
    command = f"python -m bnlab.doctor '{name}'"
    return replace(
        SICK, layers=layers, causes=(cause,), model={"name": name, name: name}, notes=(name,), command=command
    )


ALL = {
    "sick": SICK,
    "healthy": HEALTHY,
    "unclear": UNCLEAR,
    "nothing": NOTHING,
    "mended": MENDED,
    "unlabelled": UNLABELLED,
    "many layers": many(),
    "not numbers": broken(),
    "nasty": nasty('#panic("x") $ _ [red] * 実 \x1b[31m \ud800'),
}
