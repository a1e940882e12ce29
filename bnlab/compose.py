"""Hydra in, settings out: compose and check every job of a command line before the first one starts."""

from __future__ import annotations

import copy
import math
import re
import warnings
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.config_repository import ConfigRepository
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.initialize import initialize_config_dir
from hydra.plugins.config_source import ConfigResult
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from bnlab.engines import Engine
from bnlab.errors import said
from bnlab.settings import Settings, SettingsError, nearest, parse, short
from bnlab.settings.norms import options, owners

CONFIG = "config"
# A ready-made launcher has the name of its plugin's own config, and Hydra checks it against that: it shall.
warnings.filterwarnings("ignore", r"\s*'hydra/launcher/\w+' is validated", UserWarning)
_MOST_VALUES = 10_000


def config_folder() -> Path:
    """Find the configs: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def is_question(arguments: list[str]) -> bool:
    """Tell whether a command line only asks (help, configs, completion), so that no job is to run."""
    flags = get_args_parser().parse_args(arguments)
    asked = (flags.help, flags.hydra_help, flags.cfg, flags.info, flags.shell_completion)
    return any(asked) or flags.experimental_rerun is not None


@dataclass(frozen=True)
class Command:
    """A command line, composed.

    Attributes:
        flags: it, as Hydra takes it apart.
        sweeps: whether it is a sweep, and not one job.
        overrides: of every job of a sweep: what makes its config.
        settings: of every job.
        engine: that runs the jobs of a sweep.
    """

    flags: Namespace
    sweeps: bool
    overrides: tuple[list[str], ...]
    settings: tuple[Settings, ...]
    engine: Engine


def compose(arguments: list[str]) -> Command:
    """Compose every job of a command line and check its settings.

    Raises:
        SettingsError: one line about the first key or value that is wrong.
    """
    flags = get_args_parser().parse_args(arguments)
    try:
        with hydra_of(flags) as (hydra, name, given):
            overrides, configs, engine = _jobs(hydra, name, given)
            settings = tuple(parse(OmegaConf.to_container(config, resolve=True)) for config in configs)
            return Command(flags, overrides is not None, tuple(overrides or ()), settings, engine)
    except SettingsError:
        raise
    except RecursionError:
        raise SettingsError("configs must not be nested so deep, nor refer to themselves") from None
    except Exception as error:  # a config file may hold anything, and Hydra raises whatever it stumbles on
        raise SettingsError(said(_explained(str(error))) or f"no config: {type(error).__name__}") from None


@contextmanager
def hydra_of(flags: Namespace) -> Iterator[tuple[Hydra, str, list[str]]]:
    """Initialize Hydra for a command line: it, the config's name, the overrides."""
    folder = Path(flags.config_path).absolute() if flags.config_path else config_folder()
    extra = [f"hydra.searchpath=[file://{Path(flags.config_dir).absolute()}]"] if flags.config_dir else []
    if flags.multirun:
        extra.append("hydra.mode=MULTIRUN")
    with initialize_config_dir(str(folder), version_base="1.3"):
        hydra = _hydra()
        loader: Any = hydra.config_loader
        loader.repository = _Files(loader.config_search_path)
        yield hydra, flags.config_name or CONFIG, [*flags.overrides, *extra]


class _Files(ConfigRepository):
    """Hydra's config files; one that cannot be read is named, and one that would fill memory is not read."""

    def load_config(self, config_path: str) -> ConfigResult | None:
        source: Any = self._find_object_source(config_path, ObjectType.CONFIG)
        if source is None or source.scheme() != "file":
            return super().load_config(config_path)
        path = Path(source.path, source._normalize_file_name(config_path))
        try:
            _check_aliases(path.read_text("utf-8"))
            return super().load_config(config_path)
        except (ValueError, RecursionError, YAMLError, OmegaConfBaseException) as error:
            raise SettingsError(f"{path} cannot be read as a config: {_explained(str(error))}") from None


def _check_aliases(text: str) -> None:
    """Refuse aliases of aliases, which a few lines can make more than any memory holds."""
    if "*" in text and (root := yaml.compose(text, yaml.SafeLoader)) and _values(root, {}) > _MOST_VALUES:
        raise ValueError(f"its aliases stand for more than {_MOST_VALUES} values")


def _values(node: yaml.Node, known: dict[yaml.Node, float]) -> float:
    """Count the values that a node stands for, each alias of it anew."""
    if node not in known:
        known[node] = math.inf  # until it is counted: what holds itself has no end
        pairs = node.value if isinstance(node, yaml.MappingNode) else ()
        parts = (
            node.value if isinstance(node, yaml.SequenceNode) else [part for pair in pairs for part in pair]
        )
        known[node] = 1 + sum(_values(part, known) for part in parts)
    return known[node]


def _jobs(
    hydra: Hydra, name: str, given: list[str]
) -> tuple[list[list[str]] | None, Iterator[DictConfig], Engine]:
    """Expand a sweep as Hydra's basic sweeper does.

    Returns:
        The overrides of every job, None for a single one; their configs, each composed when it is asked for;
        what runs them.
    """
    config = hydra.compose_config(
        name, given, RunMode.MULTIRUN, with_log_configuration=False, validate_sweep_overrides=False
    )
    if config.hydra.job.chdir:
        raise SettingsError("hydra.job.chdir must stay false: paths are relative to where you start")
    if config.hydra.mode != RunMode.MULTIRUN:
        single = hydra.compose_config(name, given, RunMode.RUN, with_log_configuration=False)
        return None, iter([_own(single)]), Engine()
    loader = hydra.config_loader
    params = [f"{key}={value}" for key, value in (config.hydra.sweeper.get("params") or {}).items()]
    parser = OverridesParser.create(config_loader=loader)
    parsed = parser.parse_overrides(params + config.hydra.overrides.task)
    [batch] = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    return batch, _configs(loader, config, batch, parser), _engine(config)


def _configs(
    loader: Any,  # noqa: ANN401
    config: DictConfig,
    batch: list[list[str]],
    parser: OverridesParser,
) -> Iterator[DictConfig]:
    """Compose every job; jobs that differ in plain values only are composed once, and given their values."""
    parse = cache(lambda text: parser.parse_override(text))
    composed: dict[tuple[str, ...], DictConfig] = {}
    for texts in batch:
        overrides = [parse(text) for text in texts]
        values = [own for own in overrides if _is_value(loader, own)]
        # Files are chosen before any value is set; values that are added or removed may need their order.
        if any(own.type != OverrideType.CHANGE for own in values):
            values = []
        options = tuple(text for text, own in zip(texts, overrides, strict=True) if own not in values)
        if options not in composed:
            composed[options] = _own(loader.load_sweep_config(config, list(options)))
        own = copy.deepcopy(composed[options])
        loader._apply_overrides_to_config(values, own)
        yield own


def _is_value(loader: Any, override: Override) -> bool:  # noqa: ANN401
    """Tell a setting's value from the choice of a config file, and from Hydra's own settings."""
    key = override.key_or_group
    return key.partition(".")[0] != "hydra" and not loader.repository.group_exists(key)


def _engine(config: DictConfig) -> Engine:
    """Name the launcher of a sweep, and what it is set to."""
    own: Any = OmegaConf.to_container(config.hydra.launcher, resolve=True)
    return Engine(str(config.hydra.runtime.choices["hydra/launcher"]), own or {})


def _own(config: DictConfig) -> DictConfig:
    """Leave Hydra's own part out."""
    return OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])


def _explained(message: str) -> str:
    """Turn Hydra's message into one line with the nearest valid word."""
    if found := re.search(r"Could not override '([^']+)'", message):
        return _unknown(found[1])
    if found := re.search(r"Could not find '([^']+)/([^']+)'", message):
        group, option = found.groups()
        options = re.findall(r"^\t(\S+)$", message, re.MULTILINE)
        return f"{group}={option} is not an option; {nearest(option, options)}"
    return short(said(message))


def _unknown(key: str) -> str:
    """Say what is wrong with a key: no such setting, or one of another normalizer."""
    group, _, option = key.partition(".")
    if group == "hydra":
        return f"{key} is not a key of the chosen file; configs/hydra/launcher/ has those of each launcher"
    if group != "norm":
        return f"{key} is not a setting; {nearest(key, _keys())}"
    if having := owners(option):
        return f"{key} is a setting of norm={' and norm='.join(having)}, not of the chosen one; remove it"
    return f"{key} is not a setting of any normalizer; {nearest(option, options())}"


def _keys() -> list[str]:
    """List every key of the default config, dotted."""
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        config = _own(_hydra().compose_config(CONFIG, [], RunMode.RUN, with_log_configuration=False))
        return _dotted(config)


def _dotted(tree: DictConfig, prefix: str = "") -> list[str]:
    keys = []
    for key, node in tree.items_ex(resolve=False):
        keys.append(prefix + str(key))
        if isinstance(node, DictConfig):
            keys += _dotted(node, keys[-1] + ".")
    return keys


def _hydra() -> Hydra:
    hydra = GlobalHydra.instance().hydra
    if hydra is None:
        raise RuntimeError("Hydra must be initialized before configs are composed")
    return hydra
