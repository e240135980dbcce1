"""Every setting of a run, and the only place where a default lives.

The defaults of the classes are the paper's common setting (arXiv 2402.04080, appendix and Table 6); `DOMAINS` holds
what differs from domain to domain, `PROFILES` what a smaller profile shrinks.
"""

import dataclasses
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from erdp_core.errors import ConfigError, suggestion
from erdp_core.tasks import Task


def _number(default: Any, low: float, high: float) -> Any:
    return field(default=default, metadata={"low": low, "high": high})


def _check(prefix: str, config: Any) -> None:
    """Check each field of a config against its declared type, choices and limits; whole numbers become floats."""
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        checked = _check_value(f"{prefix}.{item.name}", value, type(config), item.name)
        object.__setattr__(config, item.name, checked)


def _check_value(key: str, value: Any, cls: type[Any], name: str) -> Any:
    """The value as its field holds it. Raises ConfigError that names what is allowed."""
    hint = typing.get_type_hints(cls)[name]
    if typing.get_origin(hint) is Literal:
        choices = typing.get_args(hint)
        if value not in choices:
            raise ConfigError(f"{key}={value!r} is not one of {', '.join(map(str, choices))}")
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ConfigError(f"{key}={value!r} is not of type {hint.__name__}")
    limits = cls.__dataclass_fields__[name].metadata
    if "low" in limits and not limits["low"] <= value <= limits["high"]:
        raise ConfigError(f"{key}={value!r} is outside [{limits['low']}, {limits['high']}]")
    return value


@dataclass(frozen=True)
class DiffusionPolicyConfig:
    """What every method with a diffusion policy has: the SDE, the noise network and its optimiser."""

    T: int = _number(5, 1, 1000)
    """Diffusion steps."""
    width: int = _number(256, 1, 8192)
    """Units of each hidden layer, of the noise network and of the critics."""
    layers: int = _number(3, 1, 16)
    """Hidden layers, of the noise network and of the critics."""
    diffusion_loss: Literal["likelihood", "noise"] = "likelihood"
    """`noise`: mean (eps_phi - eps)^2; `likelihood`: IR-SDE's maximum-likelihood loss."""
    action_clip: bool = False
    """Clamp the estimate of a_0 to [-1, 1] at every sampling step (the final action always is)."""
    batch_size: int = _number(256, 1, 65536)
    actor_lr: float = _number(3e-4, 0.0, 1.0)
    grad_norm: float = _number(4.0, 0.0, 1e6)
    """Limit of the gradient norm, of the actor and of all critics together; 0 means no limit."""
    lr_decay: Literal["off", "cosine"] = "off"
    """`cosine`: both learning rates fall to 0 over the run's steps as a half cosine."""

    def __post_init__(self) -> None:
        _check("agent", self)


@dataclass(frozen=True)
class BcDiffusionConfig(DiffusionPolicyConfig):
    """Behaviour cloning with ERDP's SDE: the diffusion loss alone, one sample to act."""


@dataclass(frozen=True)
class ErdpConfig(DiffusionPolicyConfig):
    """Entropy-regularised diffusion policy with Q-ensembles, https://arxiv.org/abs/2402.04080.

    actor:   L_diff - lambda E[LCB(s, a_0^) - alpha log p(a_1^ | a_T, s)]            (Eq. 15)
    critic:  mean over batch and members of (Q^m - r - gamma Q_target^m(s', a'))^2   (Eq. 16)
    LCB:     mean_m Q_m - beta std_m Q_m                                             (Eq. 17)
    """

    M: int = _number(64, 1, 1024)
    """Critics of the ensemble."""
    alpha: float = _number(0.01, 0.0, 100.0)
    """Temperature of the entropy."""
    beta: float = _number(4.0, 0.0, 100.0)
    """Pessimism of the lower confidence bound."""
    eta: float = _number(1.0, 0.0, 1000.0)
    """Weight of the Q loss against the diffusion loss."""
    gamma: float = _number(0.99, 0.0, 1.0)
    tau: float = _number(0.005, 0.0, 1.0)
    """Step of the target critics towards the critics, each update."""
    critic_lr: float = _number(3e-4, 0.0, 1.0)
    max_q_backup: bool = False
    """Back up the maximum over `max_q_actions` sampled next actions, per member."""
    max_q_actions: int = _number(10, 1, 1000)
    objective: Literal["released", "paper"] = "released"
    """Scaling of the Q and entropy terms: as published in code, or as printed (Eq. 15). See agent.py."""
    entropy: Literal["released", "paper"] = "released"
    """Form of log p(a_1 | a_T): as published in code, or as printed (Eq. 14). See entropy.py."""
    candidates: int = _number(50, 1, 10000)
    """Actions sampled to act; one is chosen with softmax(LCB of the target critics). 1: no choice."""
    ema_decay: float = _number(0.995, 0.0, 1.0)
    """Decay of the averaged policy that samples the actions of the critics' targets."""
    ema_every: int = _number(5, 1, 1_000_000)
    ema_from: int = _number(1000, 0, 1_000_000_000)
    """First step of the averaging; before it the averaged policy is the initial one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        needed = {"released": 3, "paper": 2}[self.entropy]
        if self.alpha != 0 and self.T < needed:
            raise ConfigError(
                f"agent.entropy={self.entropy} needs agent.T >= {needed}, but agent.T={self.T}: "
                f"raise agent.T or set agent.alpha=0 (it is {self.alpha})"
            )


@dataclass(frozen=True)
class TrainerConfig:
    """How long to train, and how often to evaluate and checkpoint."""

    steps: int = _number(1_000_000, 1, 1_000_000_000)
    interval: int = _number(50_000, 1, 1_000_000_000)
    """Steps from one evaluation (and checkpoint) to the next."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of what the critics' hidden layers multiply; weights, sums, Q and everything of the policy are float32."""

    def __post_init__(self) -> None:
        _check("trainer", self)
        if self.steps % self.interval:
            raise ConfigError(
                f"trainer.steps={self.steps} is not a multiple of trainer.interval={self.interval}: change one of them"
            )


@dataclass(frozen=True)
class EvaluationConfig:
    """What one evaluation is."""

    episodes: int = _number(100, 1, 100_000)
    one_candidate: bool = False
    """Also evaluate the policy's own sample (candidates = 1), to tell learning from re-ranking."""

    def __post_init__(self) -> None:
        _check("evaluation", self)


AgentConfig = BcDiffusionConfig | ErdpConfig
ALGORITHM_VERSIONS: Mapping[str, int] = {"erdp": 1, "bc-diffusion": 1}
"""Raised whenever a change makes the same run come out with other numbers; part of a run's id."""
METHODS: Mapping[str, type[AgentConfig]] = {"erdp": ErdpConfig, "bc-diffusion": BcDiffusionConfig}


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


# What differs from domain to domain: Table 6 of the paper (arXiv 2402.04080, appendix), lengths and episodes from its
# text. `pointmaze` is ours and follows AntMaze, without the maximum in the backup (as Table 6 for the umaze) and with
# Gym's eta: at 2, in the small profile, one of three seeds never left a score of 0 on the umaze.
DOMAINS: Mapping[str, Mapping[str, Any]] = {
    "gym": {
        "agent": {"actor_lr": 3e-4, "eta": 1.0, "max_q_backup": False, "grad_norm": 4.0,
                  "diffusion_loss": "likelihood", "action_clip": False, "T": 5},
        "trainer": {"steps": 2_000_000, "interval": 50_000},
        "evaluation": {"episodes": 10},
    },
    "antmaze": {
        "agent": {"actor_lr": 3e-4, "eta": 2.0, "max_q_backup": True, "grad_norm": 4.0,
                  "diffusion_loss": "noise", "action_clip": True, "T": 5},
        "trainer": {"steps": 1_000_000, "interval": 50_000},
        "evaluation": {"episodes": 100},
    },
    "adroit": {
        "agent": {"actor_lr": 3e-5, "eta": 0.1, "max_q_backup": False, "grad_norm": 8.0,
                  "diffusion_loss": "noise", "action_clip": True, "T": 10},
        "trainer": {"steps": 1_000_000, "interval": 50_000},
        "evaluation": {"episodes": 100},
    },
    "kitchen": {
        "agent": {"actor_lr": 3e-4, "eta": 0.005, "max_q_backup": False, "grad_norm": 10.0,
                  "diffusion_loss": "likelihood", "action_clip": False, "T": 10},
        "trainer": {"steps": 1_000_000, "interval": 50_000},
        "evaluation": {"episodes": 100},
    },
    "pointmaze": {
        "agent": {"actor_lr": 3e-4, "eta": 1.0, "max_q_backup": False, "grad_norm": 4.0,
                  "diffusion_loss": "noise", "action_clip": True, "T": 5},
        "trainer": {"steps": 1_000_000, "interval": 50_000},
        "evaluation": {"episodes": 100},
    },
}  # fmt: skip

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
            "agent": {"M": 4, "width": 128},
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
            "agent": {"M": 2, "width": 32, "batch_size": 32, "candidates": 4},
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
    "offline": "each run's first evaluation at which its diffusion loss has settled, else its last",
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
        DOMAINS[task.domain],
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
                _check_value(f"{group}.{name}", value, cls, name)


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


# Settings that may differ between the runs of a pack: they are vectors [R], not structure.
PACKED_NUMBERS = frozenset({"alpha", "beta", "eta", "gamma", "tau", "actor_lr", "critic_lr", "grad_norm", "ema_decay"})


def structure(config: RunConfig) -> dict[str, Any]:
    """What the runs of a pack must share: the config without its packed numbers."""
    record = config.to_dict()
    record["agent"] = {name: value for name, value in record["agent"].items() if name not in PACKED_NUMBERS}
    return record
