"""A run's settings, from a task, a method and a profile: `resolve`.

The methods' own settings and their defaults are in `agent_configs`, what differs from domain to domain in
`hyperparameters`; `PROFILES` holds what a smaller profile shrinks.
"""

import dataclasses
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from erdp_core.agent_configs import METHODS, PACKED_NUMBERS, AgentConfig
from erdp_core.errors import ConfigError, suggestion
from erdp_core.hyperparameters import agent_settings, schedule
from erdp_core.settings import check, check_value, number
from erdp_core.tasks import Task


@dataclass(frozen=True)
class TrainerConfig:
    """How long to train, and how often to evaluate and checkpoint."""

    steps: int = number(1_000_000, 1, 1_000_000_000)
    interval: int = number(50_000, 1, 1_000_000_000)
    """Steps from one evaluation (and checkpoint) to the next."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of what the critics' hidden layers multiply; weights, sums, Q and everything of the policy are float32."""

    def __post_init__(self) -> None:
        check("trainer", self)
        if self.steps % self.interval:
            raise ConfigError(
                f"trainer.steps={self.steps} is not a multiple of trainer.interval={self.interval}: change one of them"
            )


@dataclass(frozen=True)
class EvaluationConfig:
    """What one evaluation is."""

    episodes: int = number(100, 1, 100_000)
    one_candidate: bool = False
    """Also evaluate the policy's own sample (candidates = 1), to tell learning from re-ranking."""

    def __post_init__(self) -> None:
        check("evaluation", self)


@dataclass(frozen=True)
class RunConfig:
    """The resolved settings of a run: everything but its task, data and seed."""

    method: str
    agent: AgentConfig
    trainer: TrainerConfig
    evaluation: EvaluationConfig

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ConfigError(f"unknown method {self.method!r}: {suggestion(self.method, METHODS)}")
        if type(self.agent) is not METHODS[self.method]:
            raise ConfigError(f"method {self.method!r} does not go with {type(self.agent).__name__}")

    def to_dict(self) -> dict[str, Any]:
        """Plain nested dictionaries, ready for JSON."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_dict(record: Mapping[str, Any]) -> "RunConfig":
        """The inverse of `to_dict`. Raises ConfigError for unknown or invalid settings."""
        method = record["method"]
        if method not in METHODS:
            raise ConfigError(f"unknown method {method!r}: {suggestion(method, METHODS)}")
        return RunConfig(
            method,
            _build("agent", METHODS[method], record["agent"]),
            _build("trainer", TrainerConfig, record["trainer"]),
            _build("evaluation", EvaluationConfig, record["evaluation"]),
        )


def _build(prefix: str, cls: type[Any], settings: Mapping[str, Any]) -> Any:
    names = {item.name for item in dataclasses.fields(cls)}
    for name in settings:
        if name not in names:
            raise ConfigError(f"unknown setting {prefix}.{name}: {suggestion(name, names)}")
    return cls(**settings)


# What a profile changes, for all domains ("*") and then for one. `paper` changes nothing. `quick` trains Gym's and
# Kitchen's policies with the noise loss, as the likelihood loss of Table 6 needs several times its steps: on
# medium-replay data of Hopper, behaviour cloning of that size came to the data's mean return at 30,000 steps with the
# one, at 200,000 with the other. (What minimises the likelihood loss takes optimal sampling through a_t up to 9 times
# as wide as those trained on.) Adroit's rate of Table 6, a tenth of the others', is made for a million steps: on pen's
# demonstrations, behaviour cloning scored 1 after 10,000 steps with it, 40 with the others'.
PROFILES: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "paper": {},
    "quick": {
        "*": {
            "agent": {"M": 4, "width": 128, "cloning_steps": 2_000},
            "trainer": {"steps": 50_000, "interval": 5_000},
            "evaluation": {"episodes": 10, "one_candidate": True},
        },
        "pointmaze": {
            "agent": {"width": 64},
            "trainer": {"steps": 7_500, "interval": 1_500},
            "evaluation": {"episodes": 20},
        },
        "gym": {"agent": {"diffusion_loss": "noise"}},
        "antmaze": {"agent": {"max_q_actions": 4}, "evaluation": {"episodes": 20}},
        "adroit": {"agent": {"actor_lr": 3e-4}},
        "kitchen": {"agent": {"diffusion_loss": "noise"}, "evaluation": {"episodes": 5}},  # half a second an episode
    },
    "smoke": {
        "*": {
            "agent": {"M": 2, "width": 32, "batch_size": 32, "candidates": 4, "cloning_steps": 10},
            "trainer": {"steps": 40, "interval": 20},
            "evaluation": {"episodes": 2, "one_candidate": True},
        },
    },
}

# How a run's evaluations become its score; the words follow "scores are" in a caption. See results/estimators.py.
PROTOCOLS: Mapping[str, str] = {
    "paper": "each run's best evaluation in training",
    "last": "each run's last evaluation",
    "last-k": "the mean of each run's last 5 evaluations",
    "offline": "chosen by diffusion loss alone: each run's first evaluation at which it has settled, for diffusion-ql "
    "that of the k-th lowest with k as published, else the last",
}


def resolve(task: Task, method: str, profile: str, settings: Sequence[str] = ()) -> RunConfig:
    """The config of one cell: class defaults, domain, task, profile, then `--set key=value`, the later the stronger.

    A setting that belongs to some other method is left out for this one, so that one `--set agent.alpha=0.05` serves
    a table of several methods. Raises ConfigError for names that no method knows and for invalid values.
    """
    if profile not in PROFILES:
        raise ConfigError(f"unknown profile {profile!r}: {suggestion(profile, PROFILES)}")
    if method not in METHODS:
        raise ConfigError(f"unknown method {method!r}: {suggestion(method, METHODS)}")
    layers: list[Mapping[str, Any]] = [
        schedule(task.domain),
        {"agent": agent_settings(method, task)},
        task.settings,
        PROFILES[profile].get("*", {}),
        PROFILES[profile].get(task.domain, {}),
        parse_settings(settings),
    ]
    classes: dict[str, type[Any]] = {"agent": METHODS[method], "trainer": TrainerConfig, "evaluation": EvaluationConfig}
    merged: dict[str, dict[str, Any]] = {}
    for group, cls in classes.items():
        known = {item.name for item in dataclasses.fields(cls)}
        merged[group] = {
            name: value for layer in layers for name, value in layer.get(group, {}).items() if name in known
        }
    return RunConfig.from_dict({"method": method, **merged})


def parse_settings(settings: Sequence[str]) -> dict[str, dict[str, Any]]:
    """`["agent.alpha=0.05"]` as `{"agent": {"alpha": 0.05}}`, each value read as its field's type.

    Raises ConfigError for an unknown key (the nearest is named) and for a value of the wrong type.
    """
    fields = _fields()
    parsed: dict[str, dict[str, Any]] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise ConfigError(f"--set takes KEY=VALUE, for example agent.alpha=0.05; got {setting!r}")
        if key not in fields:
            raise ConfigError(f"unknown setting {key!r}: {suggestion(key, fields)}")
        group, name = key.split(".", 1)
        parsed.setdefault(group, {})[name] = _parse_value(key, text, fields[key])
    return parsed


def check_layer(layer: Mapping[str, Any]) -> None:
    """Raise ConfigError for a layer of settings with a name that no method knows, or a value that none could take."""
    groups: dict[str, tuple[type[Any], ...]] = {**_OTHER_CLASSES, "agent": tuple(METHODS.values())}
    for group, values in layer.items():
        if group not in groups:
            if not isinstance(values, Mapping):
                raise ConfigError(f"setting {group!r} is in no group: put it into {', '.join(sorted(groups))}")
            raise ConfigError(f"unknown settings {group!r}: {suggestion(group, groups)}")
        if not isinstance(values, Mapping):
            raise ConfigError(f"settings {group}={values!r} are no names with values")
        for name, value in values.items():
            owners = [cls for cls in groups[group] if name in {item.name for item in dataclasses.fields(cls)}]
            if not owners:
                raise ConfigError(f"unknown setting {group}.{name}: {suggestion(f'{group}.{name}', _fields())}")
            for cls in owners:
                check_value(f"{group}.{name}", value, cls, name)


def check_settings(settings: Sequence[str], methods: Sequence[str]) -> None:
    """Raise ConfigError for a setting that no chosen method has, or that no method could take."""
    parsed = parse_settings(settings)
    keys = [setting.partition("=")[0] for setting in settings]
    for key in keys:
        if keys.count(key) > 1:
            raise ConfigError(f"--set gives {key} twice")
    for name in parsed.get("agent", {}):
        owners = [method for method, cls in METHODS.items() if name in {item.name for item in dataclasses.fields(cls)}]
        if not set(methods) & set(owners):
            named = f"{', '.join(owners)}, not of {', '.join(methods)}"
            raise ConfigError(f"agent.{name} is a setting of {named}: leave it out")
    check_layer(parsed)  # clashes of settings are for `resolve`: here each value stands alone


_OTHER_CLASSES: Mapping[str, tuple[type[Any], ...]] = {"trainer": (TrainerConfig,), "evaluation": (EvaluationConfig,)}


def numeric_settings(method: str) -> dict[str, type]:
    """The settings of a method that are numbers, `agent.alpha` and so on, each with its type: float or int."""
    hints = typing.get_type_hints(METHODS[method])
    return {f"agent.{name}": hint for name, hint in hints.items() if hint in (float, int)}


def _fields() -> dict[str, Any]:
    """The type of every setting of any method, by its name on the command line."""
    return {
        f"{group}.{name}": hint
        for group, classes in {"agent": tuple(METHODS.values()), **_OTHER_CLASSES}.items()
        for cls in classes
        for name, hint in typing.get_type_hints(cls).items()
    }


def _parse_value(key: str, text: str, hint: Any) -> Any:
    if typing.get_origin(hint) is Literal:
        return text
    if hint is bool:
        if text.lower() not in ("true", "false"):
            raise ConfigError(f"{key}={text!r} is not of type bool: use true or false")
        return text.lower() == "true"
    try:
        if not text.isascii() or "_" in text:
            raise ValueError
        return hint(text)
    except ValueError:
        raise ConfigError(f"{key}={text!r} is not of type {hint.__name__}") from None


def structure(config: RunConfig) -> dict[str, Any]:
    """What the runs of a pack must share: the config without its packed numbers."""
    record = config.to_dict()
    record["agent"] = {name: value for name, value in record["agent"].items() if name not in PACKED_NUMBERS}
    return record
