"""The public names. A change here is a change for users: say it in CHANGELOG.md."""

import ast
import importlib
import inspect
import pathlib
import types

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent

PUBLIC = {
    "temporal": """
        BatchNorm Dropout Model Sequential TimeDistributed analysis benchmarks convolution datasets delays frontends kernels
        layers load models neurons streaming studies to_steps training
    """,
    "temporal.analysis": """
        Activity DelayCounts LayerActivity Page Picture Section SynapseActivity Table Text accuracy_against_cost
        accuracy_by_arm accuracy_by_group compare_curves confusion_matrix count_delays delay_histograms firing_rates
        learning_curve measure_activity raster record_spikes render_page save wilson_interval
    """,
    "temporal.benchmarks": "Case CaseResult Floor GroupResult Row Spread copy_floor list_groups run show write",
    "temporal.cli": "main",
    "temporal.datasets": """
        Audio AudioError AudioFolder AudioHeader BackgroundNoise BandMask Batch Binning Blend BucketSampler
        ChannelMask ChannelShift Conversion DownloadError Equalize Events EventsError EventsWriter Gain Noise Recording
        Reverb SHD SSC SpeechCommands SpikeBatch SpikeDrop SpikeJitter SpikeRecording SpokenDigits StepMask StepShift Stretch
        TimeMask TimeShift collate collate_spikes convert_folder generator_for generators_for read_audio read_header
        spikes_of_folder write_events
    """,
    "temporal.delays": """
        DelaySchedule DelayedConv1d DelayedLinear RecurrentDelays depth_penalty prune_delays spread_penalty stop_at_walls
    """,
    "temporal.frontends": """
        AmplitudeToDB CQT Chain Chroma Cochlea CombinedFrequencyPeriodicity Deltas FoldOctaves Gammatonegram GriffinLim
        InverseMel InverseSTFT InvertibleCQT LEAF Latency LevelCrossing Log MFCC MelSpectrogram Normalize PCEN Poisson
        Resample RunningNormalize STFT SincConv SpecAugment UtteranceNormalize VQT
    """,
    "temporal.kernels": "empty_cache use",
    "temporal.interop": """
        HardwareCost IntegerDelays from_dcls from_snn_delays hardware_cost integer_delays save_integers
    """,
    "temporal.layers": """
        BatchNorm Dropout LastStep MaxOverTime MeanOverTime Model Sequential SumSoftmax TimeDistributed fold to_steps
    """,
    "temporal.models": "DelayedLIF GRU Mel ModelSpec deploy load read_spec save",
    "temporal.neurons": "ALIF AdLIF CubaLIF IF LI LIF ParametricLIF Recurrent functional",
    "temporal.neurons.functional": "adlif alif cuba_lif li lif",
    "temporal.streaming": "Agreement Decision Event Runner Stream compare_engines stream_file",
    "temporal.studies": "Cell Outcome Study Summary find_study run_study studies summarize",
    "temporal.training": """
        Augment Data Delays Interrupted Optimizer Plan Progress Recipe Result Run SpikeAugment Spikes engines_agree
        evaluate find_recipe plan recipes report train
    """,
    "temporal.convolution": "CausalConv1d",
}
NAMES = {package: sorted(names.split()) for package, names in PUBLIC.items()}
every_package = pytest.mark.parametrize("package", NAMES)
every_name = pytest.mark.parametrize(
    ("package", "name"), [(package, name) for package, names in NAMES.items() for name in names]
)


def folders(inside: str) -> set[str]:
    """The packages directly inside the package `inside` whose names do not start with an underscore."""
    found = (ROOT / inside.replace(".", "/")).glob("[!_]*/__init__.py")
    return {f"{inside}.{file.parent.name}" for file in found}


def test_every_package_is_listed():
    assert len(folders("temporal")) >= 10
    assert folders("temporal") <= set(NAMES), "list the new package's names in PUBLIC"


@every_package
def test_the_names_are_these(package):
    assert sorted(importlib.import_module(package).__all__) == NAMES[package]


@every_package
def test_a_package_says_what_it_is_and_shows_nothing_else(package):
    module = importlib.import_module(package)
    assert (module.__doc__ or "").strip(), f"{package} has no docstring"
    assert set(NAMES[package]) <= set(dir(module)), f"{package} loads names lazily: give it a __dir__ that lists them"
    if pathlib.Path(module.__file__).name == "__init__.py":  # a module that computes has imports of its own
        inner = {
            name
            for name, value in vars(module).items()
            if inspect.ismodule(value) and value.__name__.startswith("temporal.")
        }
        stray = {name for name in vars(module) if not name.startswith("_")} - set(NAMES[package]) - inner
        assert not stray, f"{package} shows {stray} without listing it in __all__: import it with a _ in front"


def test_every_operator_says_what_it_is_and_lists_its_names():
    for operator in sorted(folders("temporal.kernels")):
        module = importlib.import_module(operator)
        assert (module.__doc__ or "").strip(), f"{operator} has no docstring"
        assert module.__all__ and all(written(getattr(module, name)) for name in module.__all__), operator


@every_package
def test_a_type_checker_sees_the_names_that_load_lazily(package):
    """A name that the module's __getattr__ serves is also imported under TYPE_CHECKING."""
    module = importlib.import_module(package)
    tree = ast.parse(pathlib.Path(module.__file__).read_text())
    seen = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    seen |= {node.name for node in tree.body if isinstance(node, (ast.ClassDef, ast.FunctionDef))}
    assert set(NAMES[package]) <= seen


def written(thing) -> bool:
    """Whether somebody wrote the docstring: a dataclass and a NamedTuple make one up from their fields."""
    text = (thing.__doc__ or "").strip()
    return bool(text) and not text.startswith(f"{getattr(thing, '__name__', '')}(")


@every_name
def test_every_name_is_there_and_documented(package, name):
    thing = getattr(importlib.import_module(package), name)
    assert isinstance(thing, types.ModuleType) or written(thing), f"{package}.{name} has no docstring of its own"


@every_name
def test_every_public_argument_has_a_type(package, name):
    thing = getattr(importlib.import_module(package), name)
    for label, function in callables(name, thing):
        parameters = list(inspect.signature(function).parameters.values())
        bare = [p.name for p in parameters if p.annotation is p.empty and p.name not in ("self", "cls")]
        assert not bare, f"{package}.{label}: no type on {', '.join(bare)}"


def callables(name, thing):
    """The function itself, or a class's constructor and public methods, those that this project wrote."""
    if inspect.isfunction(thing):
        yield name, thing
    elif inspect.isclass(thing):
        for method, function in vars(thing).items():
            function = getattr(function, "__func__", function)  # class and static methods
            if inspect.isfunction(function) and (method in ("__init__", "__call__") or not method.startswith("_")):
                yield f"{name}.{method}", function
