"""Settings of every command, as frozen dataclasses: the one list of flags, defaults and help texts.

A field's docstring is its help on the command line. Values are checked on construction, so a
settings object that exists is valid as far as can be known without data.
"""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Collection
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import tyro

from robust_mnist.errors import InputError, closest


Norm = Literal["linf", "l2", "l1", "l0"]
Settings = TypeVar("Settings", "TrainSettings", "SweepSettings")

# Where robust accuracy is read when no --eps is given, in units of pixel intensity. The grids end
# where an undefended MLP has nothing left, so that a curve shows its whole fall.
EPS: dict[str, tuple[float, ...]] = {
    "linf": (0.0, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.25),
    "l2": (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.2, 2.0, 3.0, 4.5),
    "l1": (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 9.0, 14.0, 20.0),
    "l0": (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 14.0, 20.0, 30.0, 45.0),
}
# What is swept when neither norms nor methods are given.
DEFAULT_NORMS: tuple[str, ...] = ("linf", "l2")

# What --preset grid runs when no --methods are given; --preset auto is grid in l1 and l0. The other
# presets run the certifiers among these.
METHODS: dict[str, tuple[str, ...]] = {
    "linf": ("fgsm-linf", "pgd40-linf", "ibp-linf", "crown-linf"),
    "l2": ("fgm-l2", "pgd40-l2", "crown-l2"),
    "l1": ("fgm-l1", "pgd40-l1", "fmn100-l1", "crown-l1"),
    "l0": ("jsma-l0", "fmn100-l0"),
}
# What `close` tries at a radius before branch and bound, cheap certifiers first, then an attack on
# what they leave open.
CLOSE: dict[str, tuple[str, ...]] = {
    "linf": (
        "lipschitz-global-linf",
        "ibp-linf",
        # A twelfth of CROWN's time, for most of what that proves on small networks.
        "crown-ibp-linf",
        "crown-linf",
        "pgd40-linf",
    ),
    "l2": ("lipschitz-global-l2", "crown-l2", "pgd40-l2"),
}
# The same for `certify`, which has to do without; what it ends with is slower, and proves less.
CERTIFY: dict[str, tuple[str, ...]] = {
    "linf": (*CLOSE["linf"], "alpha-crown20-linf", "quadratic100-linf"),
    "l2": (*CLOSE["l2"], "alpha-crown20-l2", "quadratic100-l2"),
    "l1": ("crown-l1", "pgd40-l1", "alpha-crown20-l1"),
}
STEP_METHODS: tuple[str, ...] = ("gradient-step",)


@dataclasses.dataclass(frozen=True)
class Preset:
    """An evaluation that spends its work where the bounds are still open.

    Attributes:
        control: Methods that run on a control sample at every radius, by norm: what is said of a
            single method is said of that sample.
        stages: Attacks that run on all images whose bounds are still apart, cheap ones first.
    """

    control: dict[str, tuple[str, ...]]
    stages: dict[str, tuple[str, ...]]


CONTROL_IMAGES = 1000
PRESETS: dict[str, Preset] = {
    # Each ends with an attack in a ball, which goes on until it fails one gap below every radius.
    "quick": Preset(
        control={"linf": ("fgsm-linf", "pgd40-linf"), "l2": ("fgm-l2", "pgd40-l2")},
        stages={
            "linf": ("fmn100-linf", "fab10-targeted-linf", "pgd40-linf"),
            "l2": ("fmn100-l2", "fab10-targeted-l2", "pgd40-l2"),
        },
    ),
    "standard": Preset(
        control={
            "linf": ("fgsm-linf", "pgd40-linf", "apgd100-ce-linf", "fmn100-linf"),
            "l2": ("fgm-l2", "pgd40-l2", "apgd100-ce-l2", "ddn100-l2", "fmn100-l2"),
        },
        stages={
            # Behind FAB the likeliest four classes break what all nine do with PGD, of 1,000 images
            # on each of seven networks and radii; the nearest four (`attacks.nearest`) miss three.
            "linf": ("fmn100-linf", "fab10-targeted-linf", "pgd20-targeted4-linf"),
            "l2": ("fmn100-l2", "fab10-targeted-l2", "ddn100-l2", "pgd40-l2"),
        },
    ),
    "thorough": Preset(
        control={
            "linf": (
                "noise100-uniform-linf", "noise100-corners-linf", "fgsm-linf", "bim10-linf",
                "mifgsm10-linf", "pgd40-linf", "pgd20-targeted-linf", "apgd100-ce-linf",
                "apgd100-dlr-linf", "deepfool50-linf", "fmn100-linf", "fab100-targeted-linf",
                "square1000-linf",
            ),
            "l2": (
                "noise100-gaussian-l2", "fgm-l2", "pgd40-l2", "pgd20-targeted-l2",
                "apgd100-ce-l2", "apgd100-dlr-l2", "deepfool50-l2", "ddn100-l2", "fmn100-l2",
                "cw5x200-l2", "fab100-targeted-l2", "square1000-l2",
            ),
        },
        stages={
            "linf": (
                # Of 400 images on each of six networks the last three break what all that was tried
                # breaks; PGD towards four classes in place of APGD misses 7 of 27.
                "fmn100-linf", "fab10-targeted-linf", "apgd100-ce-linf", "apgd100-targeted4-linf",
                "square1000-linf",
            ),
            "l2": (
                # Of 1,000 images on each of five networks all that was tried breaks 73 behind FAB:
                # these 69, the parts of AutoAttack 54. Carlini-Wagner finds what starts in flat
                # regions hide, at a tenth of the time that Square takes for as many.
                "fmn100-l2", "fab10-targeted-l2", "ddn100-l2", "cw3x100-l2", "apgd100-ce-l2",
                "apgd100-targeted4-l2", "square1000-l2",
            ),
        },
    ),
}  # fmt: skip


def _list(
    name: str, kind: Callable[[str], Any], takes: str, choices: tuple[str, ...] = ()
) -> tyro.constructors.PrimitiveConstructorSpec[Any]:
    """Values parted by commas, by spaces, or both: `0,.01,.02` or `0 .01 .02`."""

    def parse(words: list[str]) -> tuple[Any, ...]:
        texts = [text.strip() for word in words for text in word.split(",") if text.strip()]
        if not texts:
            raise InputError(f"--{name} needs a value, got {' '.join(words)!r}")
        return tuple(map(one, texts))

    def one(text: str) -> Any:
        if not choices or text in choices:
            with contextlib.suppress(ValueError, ZeroDivisionError):
                return kind(text)
        raise InputError(f"--{name} takes {takes}, got {text!r}{closest(text, choices)}")

    kinds: dict[Any, str] = {int: "INT", str: "STR"}
    entry = f"{{{','.join(choices)}}}" if choices else kinds.get(kind, "FLOAT")
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs="*",
        metavar=f"{entry},...",
        instance_from_str=parse,
        is_instance=lambda value: isinstance(value, tuple),
        str_from_instance=lambda value: [",".join(map(typed, value))],
    )


def _one(name: str, kind: Callable[[str], float], takes: str) -> Any:
    """A single value of a kind that tyro does not know."""

    def parse(words: list[str]) -> float:
        with contextlib.suppress(ValueError, ZeroDivisionError):
            return kind(words[0])
        raise InputError(f"--{name} takes {takes}, got {words[0]!r}")

    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="FLOAT",
        instance_from_str=parse,
        is_instance=lambda value: isinstance(value, float),
        str_from_instance=lambda value: [typed(value)],
    )


def _quotient(text: str) -> float:
    """A number, or a quotient of two: the grey levels of `8/255` are how many people think."""
    above, line, below = text.partition("/")
    return float(above) / float(below) if line else float(above)


def _require(condition: bool, rule: str, value: object) -> None:
    if not condition:
        raise InputError(f"{rule}, got {typed(value)}")


# Where the ball holds every image of 28 x 28 pixels.
LARGEST: dict[str, float] = {"linf": 1.0, "l2": 28.0, "l1": 784.0, "l0": 784.0}


def check_range(norm: str, eps: float, name: str) -> None:
    """Refuse a radius whose ball holds every image, which is one in grey levels mostly.

    Raises:
        InputError: It is, or in L0 no whole number of pixels.
    """
    if norm == "l0" and eps != round(eps):
        raise InputError(
            f"{name} in l0 counts pixels and must be a whole number, got {eps:g}; "
            f"give {max(round(eps), 1)}"
        )
    if norm in LARGEST and eps > LARGEST[norm]:
        mend = (
            f"give at most the {LARGEST[norm]:g} pixels there are" if norm == "l0" else
            f"give grey levels as a share of 255: {eps:g}/255 = {eps / 255:.3g}"
        )  # fmt: skip
        raise InputError(
            f"{name} in {norm} must be at most {LARGEST[norm]:g}, where a ball holds every image, "
            f"got {eps:g}; {mend}"
        )


def typed(value: object) -> str:
    """A value in the form in which it is typed as a flag."""
    if isinstance(value, tuple):
        return ",".join(map(typed, value)) or "none"
    if isinstance(value, float):
        return numbers((value,))
    return repr(value) if value == "" else str(value)


def seconds(text: str) -> float:
    """Seconds in a time such as 90s, 10min, 2h or a plain number of seconds.

    Raises:
        InputError: It is none.
    """
    number = text.rstrip("abcdefghijklmnopqrstuvwxyz")
    unit = {"": 1, "s": 1, "min": 60, "m": 60, "h": 3600}.get(text[len(number) :])
    try:
        value = float(number) * unit if unit else math.nan
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"a time is written as 90s, 10min or 2h, got {text!r}")
    return value


def _require_names(settings: object) -> None:
    """Refuse an empty name of a folder: a variable of a shell that was not set, most likely."""
    for name in ("run", "out"):
        rule = f"--{name} needs a name"
        _require(getattr(settings, name, None) != "", rule, "")


_KINDS = {int: "a whole number", float: "a number", str: "a text", bool: "True or False"}


def _require_kinds(settings: object) -> None:
    """Refuse values of another kind, which only Python can give: the command line parses them."""
    for field in dataclasses.fields(settings):  # type: ignore[arg-type]
        value, kind = getattr(settings, field.name), field.type
        flag = f"--{field.name.replace('_', '-')}"
        if kind in _KINDS:
            fits = type(value) is kind or (kind is float and type(value) is int)
            wanted = _KINDS[kind]
        elif get_origin(kind) is Literal:
            fits, wanted = value in get_args(kind), " or ".join(get_args(kind))
        else:
            fits, wanted = isinstance(value, tuple), "a tuple, even of a single value"
        if not fits:
            raise InputError(f"{flag} ({field.name}) takes {wanted}, got {value!r}")


# How folders and empty lists look in help texts.
_FOLDER = tyro.conf.arg(metavar="FOLDER", help_behavior_hint="")
_SEVERAL = tyro.conf.arg(help_behavior_hint="")
# Lists take commas and spaces, but for paths, whose names may hold commas.
_SIZES = _list("sizes", int, "whole numbers parted by commas")
_IMAGES = _list("image", int, "whole numbers parted by commas")
_EPS = _list("eps", _quotient, "numbers such as 0.03 or 8/255, parted by commas")
_RADIUS = _one("eps", _quotient, "a number such as 0.03 or 8/255")
_METHODS = _list("methods", str, "names parted by commas")
_NORMS = _list("norm", str, " or ".join(get_args(Norm)), get_args(Norm))


@dataclasses.dataclass(frozen=True)
class TrainSettings:
    """What determines the trained networks; the defaults are the lab's."""

    data: tuple[str, ...] = ("mnist",)
    """mnist, fashion-mnist, kmnist, a folder of IDX or CSV files, two CSV files, or an NPZ."""
    split: str = "lab"
    """lab (10,000 training and 1,000 validation images) or full (55,000 and 5,000)."""
    model: str = "mlp"
    """mlp, or orthonormal: 1-Lipschitz in L2 by construction, best with --activation abs."""
    sizes: Annotated[tuple[int, ...], _SIZES] = (784, 50, 50, 10)
    """Width of every layer, input and output included."""
    activation: str = "tanh"
    """Hidden activation: tanh, relu, sigmoid, gelu, silu, elu, softplus, leaky-relu, abs."""
    objective: str = "cross-entropy"
    """What training minimises: cross-entropy, adversarial-linf-0.1, adversarial-linf-0.3,
    interval-linf-0.1."""
    epochs: int = 500
    """Passes over the training images."""
    batch_size: int = 1000
    """Images per step; those left over after the last whole batch wait for the next epoch."""
    learning_rate: float = 2e-3
    """Step length of RMSProp."""
    decay: float = 0.9
    """Decay rate of RMSProp's running mean of squared gradients."""
    delta: float = 1e-7
    """RMSProp's stabiliser."""
    delta_outside_root: bool = False
    """Add delta to the root instead of under it: g / (sqrt(r) + delta)."""
    precision: Literal["float32", "bf16"] = "float32"
    """Numbers in the products of training; with bf16, weights and updates stay float32."""
    record_every: int = 10
    """Epochs between two rows of the history."""
    seed: int = 0
    """Initial weights and batch order; network i of --seeds N uses seed + i."""
    seeds: int = 1
    """Networks to train at once, in one compiled program."""
    shared_batches: bool = False
    """Give all networks the same batches: faster, but their errors are less independent."""

    def __post_init__(self) -> None:
        _require_kinds(self)
        _require(len(self.data) >= 1, "--data needs a name, a folder or files", self.data)
        _require(len(self.sizes) >= 2, "--sizes needs an input and an output width", self.sizes)
        _require(min(self.sizes) >= 1, "--sizes must all be at least 1", self.sizes)
        for name in ("epochs", "batch_size", "record_every", "seeds"):
            value = getattr(self, name)
            rule = f"--{name.replace('_', '-')} must be between 1 and 2147483647"
            _require(1 <= value < 2**31, rule, value)  # they are counted in int32 on the device
        _require(0 <= self.seed < 2**31, "--seed must be between 0 and 2147483647", self.seed)
        last = self.seed + self.seeds - 1
        _require(last < 2**31, "--seed + --seeds - 1 must be at most 2147483647", last)
        for name in ("learning_rate", "delta"):
            value = getattr(self, name)
            positive = math.isfinite(value) and value > 0
            _require(positive, f"--{name.replace('_', '-')} must be a positive number", value)
        _require(0 <= self.decay < 1, "--decay must be in [0, 1)", self.decay)


@dataclasses.dataclass(frozen=True)
class SweepSettings:
    """Which methods are run at which radii."""

    norm: Annotated[tuple[Norm, ...], _NORMS, _SEVERAL] = ()
    """Norms that bound the perturbation; by default those of --methods, else both."""
    eps: Annotated[tuple[float, ...], _EPS, _SEVERAL] = ()
    """Radii in units of pixel intensity, for one --norm; each norm has a default grid."""
    methods: Annotated[tuple[str, ...], _METHODS, _SEVERAL] = ()
    """Attacks and certifiers by name; `robust-mnist methods` lists them."""
    preset: Literal["auto", "grid", "quick", "standard", "thorough"] = "auto"
    """grid: every method at every eps on every image; quick, standard and thorough attack where the
    bounds are open; auto: grid with --methods and in l1 and l0, standard otherwise."""
    tolerance: float = 0.0
    """Gap to which presets and certifiers refine radii; 0 for 2^-10 of the largest default eps, and
    with --eps for attacks no closer than the accuracy at those radii asks."""
    attack_seed: int = 0
    """Randomness of the attacks."""

    def __post_init__(self) -> None:
        _require_kinds(self)
        in_range = 0 <= self.attack_seed < 2**31
        _require(in_range, "--attack-seed must be between 0 and 2147483647", self.attack_seed)
        for value in self.eps:
            valid = math.isfinite(value) and value >= 0
            _require(valid, "--eps must be finite and at least 0", value)
        chosen = self.preset in {"auto", "grid"} or not self.methods
        _require(chosen, "--methods belong to --preset grid; leave one of them out", self.preset)
        valid = math.isfinite(self.tolerance) and self.tolerance >= 0
        _require(valid, "--tolerance must be finite and at least 0", self.tolerance)
        one = not self.eps or len(set(self.norm)) == 1
        rule = "--eps is measured in one norm: give --norm linf or --norm l2 as well"
        _require(one, rule, f"--norm {typed(self.norm)}" if self.norm else "no --norm")
        for value in self.eps:
            check_range(self.norm[0], value, "--eps")

    def grid(self, norm: str) -> tuple[float, ...]:
        """Radii to evaluate in `norm`: sorted, distinct, always with 0."""
        return tuple(sorted({0.0, *(self.eps or EPS[norm])}))

    def gap(self, norm: str) -> float:
        """Gap to which a preset refines a radius in `norm`; infinite if only `eps` count."""
        return self.tolerance or (math.inf if self.eps else EPS[norm][-1] / 1024)


@dataclasses.dataclass(frozen=True)
class Output:
    """How a command reports."""

    json: bool = False
    """Print one machine-readable result on stdout."""
    quiet: bool = False
    """No progress, no notes: errors and results only."""
    debug: bool = False
    """Show the traceback of an error."""


def numbers(values: tuple[float, ...]) -> str:
    """Numbers parted by commas, short where that gives back the very same float."""
    # A command has to reproduce its radii to the last bit.
    return ",".join(f"{v:g}" if float(f"{v:g}") == v else repr(v) for v in values)


def flags(settings: object, without: Collection[str] = ()) -> list[str]:
    """The command-line words that differ from the defaults: what reproduces these settings.

    Args:
        settings: A dataclass whose fields are flags.
        without: Fields that are none of them.
    """
    words: list[str] = []
    for field in dataclasses.fields(settings):  # type: ignore[arg-type]
        value = getattr(settings, field.name)
        if value == field.default or field.name in without:
            continue
        words.append(f"--{field.name.replace('_', '-')}")
        if field.name in {"sizes", "eps"}:
            words.append(typed(value))
        elif not isinstance(value, bool):
            words.extend(str(item) for item in (value if isinstance(value, tuple) else (value,)))
    return words


@dataclasses.dataclass(frozen=True)
class Run:
    """Train if needed, sweep, and write the report."""

    train: TrainSettings = TrainSettings()
    sweep: SweepSettings = SweepSettings()
    out: Annotated[str | None, _FOLDER] = None
    """Folder of the run; by default runs/<split>, or runs/<data>-<split> for other data."""
    run: Annotated[str | None, _FOLDER] = None
    """An existing run: its settings are taken from there, and what it lacks is made."""
    resume: bool = False
    """Continue from the checkpoint, or from the beginning if there is none; the default as well."""
    overwrite: bool = False
    """Replace the run that stands in the output folder."""
    publish: bool = False
    """Copy the small results to reports/ in the current folder."""
    output: Output = Output()

    def __post_init__(self) -> None:
        _require_names(self)


@dataclasses.dataclass(frozen=True)
class Train:
    """Train networks and measure them on clean images."""

    train: TrainSettings = TrainSettings()
    out: Annotated[str | None, _FOLDER] = None
    """Folder of the run; by default runs/<split>, or runs/<data>-<split> for other data."""
    run: Annotated[str | None, _FOLDER] = None
    """An existing run: its settings are taken from there, and what it lacks is made."""
    resume: bool = False
    """Continue from the checkpoint, or from the beginning if there is none; the default as well."""
    overwrite: bool = False
    """Replace the run that stands in the output folder."""
    output: Output = Output()

    def __post_init__(self) -> None:
        _require_names(self)


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Attack and certify the networks of a run; results are added to those it holds."""

    run: Annotated[str, tyro.conf.arg(metavar="FOLDER")]
    """Folder of the run."""
    sweep: SweepSettings = SweepSettings()
    output: Output = Output()

    def __post_init__(self) -> None:
        _require_names(self)


@dataclasses.dataclass(frozen=True)
class Certify:
    """Prove images right up to a radius, or break them: those of a run, or of a foreign network."""

    run: Annotated[str | None, _FOLDER] = None
    """Folder of a run; what is found is added to it."""
    model: Annotated[str | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None
    """An NPZ with layers.0.weight (out, in), layers.0.bias and so on, instead of a run."""
    activation: str | None = None
    """Hidden activation of --model, which its file does not tell."""
    data: tuple[str, ...] = ("mnist",)
    """Data whose test images --model is judged on, as in train."""
    norm: Norm = "linf"
    """Norm of the radius."""
    eps: Annotated[float, _RADIUS] = 0.01
    """Radius in units of pixel intensity, such as 0.03 or 8/255."""
    methods: Annotated[tuple[str, ...], _METHODS, _SEVERAL] = ()
    """Certifiers and attacks of the norm, in the order to try; each sees what is left open."""
    exact: int = 0
    """Of the images left open, so many whose least margin integer programs find: for small ReLU
    networks in linf, minutes each, outside --budget. It is right to 1e-6, no proof, and no verdict
    changes."""
    attack_seed: int = 0
    """Randomness of the attacks on --model; a run has its own."""
    output: Output = Output()

    def __post_init__(self) -> None:
        _require_names(self)
        one = (self.run is None) != (self.model is None)
        given = f"--run {self.run} and --model {self.model}" if self.run else "neither"
        _require(one, f"{type(self).__name__.lower()} takes either --run or --model", given)
        known = self.run is not None or self.activation is not None
        _require(known, "--model needs --activation, such as relu or tanh", "none")
        valid = math.isfinite(self.eps) and self.eps > 0
        _require(valid, "--eps must be finite and above 0", self.eps)
        if self.norm != "l0":  # in which nothing certifies, as the command says
            check_range(self.norm, self.eps, "--eps")
        _require(self.exact >= 0, "--exact must be at least 0", self.exact)
        in_range = 0 <= self.attack_seed < 2**31
        _require(in_range, "--attack-seed must be between 0 and 2147483647", self.attack_seed)


@dataclasses.dataclass(frozen=True)
class Close(Certify):
    """Attack and certify at one radius, then branch and bound until nothing is open."""

    budget: str = "10min"
    """Time after which nothing more begins, such as 90s, 10min or 2h; for each network. What has
    begun ends, which may take half a minute where it has to be compiled; how near to decided the
    rest is takes a tenth of it more, or ten seconds."""
    domains: int = 0
    """Parts of a ball to explore for each image at most; 0 for as many as it takes."""
    out: Annotated[str | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None
    """With --model: an NPZ of bounds, verdicts and witnesses; the same command continues it. What
    is decided stays; what is open goes on from what is left in FILE with .open.npz for .npz, and no
    method is tried on it again that --methods does not name."""
    overwrite: bool = False
    """Replace what close has written of another network, radius or norm; nothing else."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(seconds(self.budget) > 0, "--budget must be above 0", self.budget)
        _require(self.domains >= 0, "--domains must be at least 0", self.domains)
        alone = self.out is None or self.run is None
        _require(alone, "--out goes with --model; a run keeps its own files", str(self.out))


@dataclasses.dataclass(frozen=True)
class Verify:
    """Check the file of `close --out` anew: replay the wrong images, prove the rest again."""

    file: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="FILE")]
    """What `close --out` wrote."""
    model: Annotated[str, tyro.conf.arg(metavar="FILE")]
    """The network it is about, an NPZ."""
    data: tuple[str, ...] = ("mnist",)
    """The data whose test images it is about."""
    image: Annotated[tuple[int, ...], _IMAGES, _SEVERAL] = ()
    """Check only what is claimed of these images, by place in the test set, counted from 0."""
    images: int = 0
    """Check only so many of the certified images, drawn by --seed; 0 for all."""
    seed: int = 0
    """Randomness of that choice."""
    budget: str = "10min"
    """Time to prove the certificates, compilation included."""
    allow_unproven: bool = False
    """Exit with 0 although the time was too short to prove every certificate anew."""
    output: Output = Output()

    def __post_init__(self) -> None:
        chosen = not (self.image and self.images)
        _require(chosen, "--image names the images; leave --images out", self.images)
        _require(min(self.image, default=0) >= 0, "--image must be at least 0", self.image)
        _require(seconds(self.budget) > 0, "--budget must be above 0", self.budget)
        _require(self.images >= 0, "--images must be at least 0", self.images)
        _require(0 <= self.seed < 2**31, "--seed must be between 0 and 2147483647", self.seed)


@dataclasses.dataclass(frozen=True)
class Smooth:
    """Certify what the networks of a run answer, on the whole, under Gaussian noise, in L2."""

    run: Annotated[str, tyro.conf.arg(metavar="FOLDER")]
    """Folder of the run; rows of kind smoothed are added to it, and no bound of its networks."""
    sigma: float = 0.25
    """Standard deviation of the noise in each pixel, in units of pixel intensity."""
    samples: int = 10_000
    """Noisy copies of each image that tell how likely its class is."""
    select: int = 100
    """Other copies, that choose the class."""
    alpha: float = 0.001
    """Probability that the certificate of an image is wrong."""
    images: int = 500
    """Test images, spread evenly over all of them."""
    output: Output = Output()

    def __post_init__(self) -> None:
        _require_names(self)
        valid = math.isfinite(self.sigma) and self.sigma > 0
        _require(valid, "--sigma must be a positive number", self.sigma)
        for name in ("samples", "select", "images"):
            value = getattr(self, name)
            _require(1 <= value < 2**31, f"--{name} must be between 1 and 2147483647", value)
        _require(0 < self.alpha < 1, "--alpha must be between 0 and 1", self.alpha)


@dataclasses.dataclass(frozen=True)
class Report:
    """Write the page and the figures of a run, or compare several."""

    runs: Annotated[
        tyro.conf.Positional[tuple[str, ...]],
        tyro.conf.arg(metavar="FOLDER ...", help_behavior_hint=""),
    ] = ()
    """Folders of finished runs; the first is the baseline."""
    run: Annotated[str | None, _FOLDER] = None
    """Folder of one finished run, as in the other commands."""
    out: Annotated[str | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None
    """The page; by default report.html in the run, or runs/comparison.html for several."""
    overwrite: bool = False
    """Replace a file that is no page of these runs, and results of another run in reports/."""
    publish: bool = False
    """Copy the small results to reports/ in the current folder."""
    output: Output = Output()

    def __post_init__(self) -> None:
        _require_names(self)
        _require("" not in self.runs, "report needs the names of runs", "")


@dataclasses.dataclass(frozen=True)
class Merge:
    """Make one run of several of the same networks, attacked or certified in different places."""

    runs: Annotated[
        tyro.conf.Positional[tuple[str, ...]],
        tyro.conf.arg(metavar="FOLDER ...", help_behavior_hint=""),
    ]
    """Folders of finished runs; settings and randomness are those of the first."""
    out: Annotated[str, tyro.conf.arg(metavar="FOLDER")]
    """Folder of the new run."""
    output: Output = Output()

    def __post_init__(self) -> None:
        _require_names(self)
        _require("" not in self.runs, "merge needs the names of runs", "''")
        _require(len(self.runs) > 1, "merge needs at least two runs", self.runs)


@dataclasses.dataclass(frozen=True)
class Audit:
    """Check again whether the results of a run can be trusted; exit code 1 if a check fails."""

    run: Annotated[str, tyro.conf.arg(metavar="FOLDER")]
    """Folder of a run that was attacked; the answers are written to its run.json."""
    strict: bool = False
    """Exit with code 1 as well if a check asks for a look."""
    output: Output = Output()

    def __post_init__(self) -> None:
        _require_names(self)


@dataclasses.dataclass(frozen=True)
class Selftest:
    """Plant known fakes of robustness and show which trust check catches each."""

    run: Annotated[str | None, _FOLDER] = None
    """A run whose first network and data to use; by default a small one is trained now."""
    model: Annotated[str | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None
    """A network on MNIST to use, as a safetensors file from the model folder of a run."""
    images: int = 200
    """Test images to attack, the first of them."""
    output: Output = Output()

    def __post_init__(self) -> None:
        _require_names(self)
        _require(self.model != "", "--model needs a name", "")
        both = self.run is not None and self.model is not None
        _require(not both, "--run and --model each name a network; give one", self.model)
        # With fewer, chance alone would explain what a fake does.
        _require(self.images >= 50, "--images must be at least 50", self.images)


@dataclasses.dataclass(frozen=True)
class Data:
    """List the data sets that can be named, and where they come from."""

    output: Output = Output()


@dataclasses.dataclass(frozen=True)
class Methods:
    """List attacks and certifiers by name."""

    output: Output = Output()


@dataclasses.dataclass(frozen=True)
class Devices:
    """List the devices JAX can use."""

    output: Output = Output()


# Where `nox -s bench` saves its results, one folder per environment key.
BENCH_FOLDER = "reports/data/bench"


@dataclasses.dataclass(frozen=True)
class Bench:
    """Compare timings: `robust-mnist bench --help` lists the commands."""

    output: Output = Output()


@dataclasses.dataclass(frozen=True)
class Calibrate:
    """Measure the noise of this machine by comparing the code with itself."""

    launches: int = 12
    """Fresh processes to run."""
    quick: bool = False
    """Only the short list of benchmarks."""
    out: str = BENCH_FOLDER
    """Folder of the environment keys, in which calibration.json is written."""
    overwrite: bool = False
    """Measure anew instead of adding to what was measured of this code before."""
    output: Output = Output()

    def __post_init__(self) -> None:
        _require_names(self)
        _require(self.launches >= 4, "--launches must be at least 4", self.launches)


@dataclasses.dataclass(frozen=True)
class Compare:
    """Tell whether B is slower than A, with statistics; exit code 3 if it is."""

    a: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="A")]
    """The baseline: a result file, a folder of them, a folder with the code, or a git revision."""
    b: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="B")]
    """The candidate, likewise."""
    quick: bool = False
    """Only the short list of benchmarks: a launch takes at most 30 s."""
    pairs: int | None = None
    """Pairs of launches to add to those already measured; by default 6, if there are none."""
    strict: bool = False
    """Exit with code 3 as well if any verdict is INCONCLUSIVE."""
    calibration: str = BENCH_FOLDER
    """Folder of the environment keys, in which calibration.json is looked for."""
    out: str = "runs/bench/compare"
    """Folder that keeps the launches of two revisions, so that further pairs add to them."""
    output: Output = Output()

    def __post_init__(self) -> None:
        _require_names(self)
        valid = self.pairs is None or self.pairs >= 1
        _require(valid, "--pairs must be at least 1", self.pairs)


@dataclasses.dataclass(frozen=True)
class Accelerators:
    """Compare devices: one table, figures, and how far their numbers agree."""

    files: tyro.conf.Positional[tuple[str, ...]] = (BENCH_FOLDER,)
    """Result files, or folders of them; the first CPU among them is the baseline."""
    out: str = "runs/bench/accelerators"
    """Folder of the page, the table and the figures."""
    output: Output = Output()

    def __post_init__(self) -> None:
        _require_names(self)


@dataclasses.dataclass(frozen=True)
class History:
    """Show how each benchmark moved within one environment, with its change points."""

    folder: tyro.conf.Positional[str] = BENCH_FOLDER
    """Folder of result files."""
    key: str | None = None
    """Environment key; needed where the folder holds several."""
    out: str = "runs/bench/history"
    """Folder of the table and the figure."""
    output: Output = Output()

    def __post_init__(self) -> None:
        _require_names(self)


COMMANDS: dict[str, type] = {
    "run": Run,
    "train": Train,
    "sweep": Sweep,
    "certify": Certify,
    "close": Close,
    "verify": Verify,
    "smooth": Smooth,
    "merge": Merge,
    "report": Report,
    "audit": Audit,
    "selftest": Selftest,
    "data": Data,
    "methods": Methods,
    "devices": Devices,
    "bench": Bench,
}
BENCH: dict[str, type] = {
    "calibrate": Calibrate,
    "compare": Compare,
    "accelerators": Accelerators,
    "history": History,
}


def restore(kind: type[Settings], stored: object) -> Settings:
    """Settings from the JSON that `dataclasses.asdict` made of them.

    Raises:
        InputError: `stored` has other fields, or values out of range.
    """
    known = {field.name for field in dataclasses.fields(kind)}
    if not isinstance(stored, dict) or not set(stored) <= known:
        raise InputError(f"stored settings must be {', '.join(sorted(known))}, got {stored}")
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in stored.items()
    }
    return kind(**values)
