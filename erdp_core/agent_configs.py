"""What each method can be told: one class a method, the only place where its defaults live.

The defaults are the papers' common settings; `hyperparameters` holds what differs from domain to domain.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from erdp_core.errors import ConfigError
from erdp_core.settings import check, number


@dataclass(frozen=True)
class PolicyConfig:
    """What every method has: networks, batches, the policy's optimiser."""

    width: int = number(256, 1, 8192)
    """Units of each hidden layer, of the policy and of the critics."""
    layers: int = number(3, 1, 16)
    """Hidden layers, of the policy and of the critics."""
    batch_size: int = number(256, 1, 65536)
    actor_lr: float = number(3e-4, 0.0, 1.0)
    grad_norm: float = number(0.0, 0.0, 1e6)
    """Limit of the gradient norm, of the actor and of all critics together; 0 means no limit."""
    lr_decay: Literal["off", "cosine"] = "off"
    """`cosine`: the learning rates of policy and critics fall to 0 over the run's steps as a half cosine."""

    def __post_init__(self) -> None:
        check("agent", self)


@dataclass(frozen=True)
class ValueConfig(PolicyConfig):
    """What every method with critics has beside it."""

    gamma: float = number(0.99, 0.0, 1.0)
    tau: float = number(0.005, 0.0, 1.0)
    """Step of the target critics towards the critics, each update."""
    critic_lr: float = number(3e-4, 0.0, 1.0)


@dataclass(frozen=True)
class DiffusionPolicyConfig(PolicyConfig):
    """What ERDP and behaviour cloning by its policy share: the SDE and the noise network's loss."""

    T: int = number(5, 1, 1000)
    """Diffusion steps."""
    diffusion_loss: Literal["likelihood", "noise"] = "likelihood"
    """`noise`: mean (eps_phi - eps)^2; `likelihood`: IR-SDE's maximum-likelihood loss."""
    action_clip: bool = False
    """Clamp the estimate of a_0 to [-1, 1] at every sampling step (the final action always is)."""
    grad_norm: float = number(4.0, 0.0, 1e6)


@dataclass(frozen=True)
class BcDiffusionConfig(DiffusionPolicyConfig):
    """Behaviour cloning with ERDP's SDE: the diffusion loss alone, one sample to act."""


@dataclass(frozen=True)
class ErdpConfig(DiffusionPolicyConfig, ValueConfig):
    """Entropy-regularised diffusion policy with Q-ensembles, https://arxiv.org/abs/2402.04080.

    actor:   L_diff - lambda E[LCB(s, a_0^) - alpha log p(a_1^ | a_T, s)]            (Eq. 15)
    critic:  mean over batch and members of (Q^m - r - gamma Q_target^m(s', a'))^2   (Eq. 16)
    LCB:     mean_m Q_m - beta std_m Q_m                                             (Eq. 17)
    """

    M: int = number(64, 1, 1024)
    """Critics of the ensemble."""
    alpha: float = number(0.01, 0.0, 100.0)
    """Temperature of the entropy; where it is automatic, what it begins with."""
    temperature: Literal["fixed", "automatic"] = "fixed"
    """`automatic`: alpha(s) is a network that aims at `entropy_target` (Eq. 45). See state_alpha.py."""
    entropy_target: float = number(-1.0, -1000.0, 1000.0)
    """For each dimension of the action. The paper says only that it is a function of their number."""
    alpha_lr: float = number(3e-4, 0.0, 1.0)
    """Learning rate of the automatic temperature."""
    beta: float = number(4.0, 0.0, 100.0)
    """Pessimism of the lower confidence bound."""
    eta: float = number(1.0, 0.0, 1000.0)
    """Weight of the Q loss against the diffusion loss."""
    pessimism: Literal["lcb", "min"] = "lcb"
    """What the policy improves, and acts by: the lower confidence bound, or the least of the members."""
    targets: Literal["independent", "shared"] = "independent"
    """`shared`: all members back up the same pessimistic value of the target critics, not each its own."""
    max_q_backup: bool = False
    """Back up the maximum over `max_q_actions` sampled next actions, per member."""
    max_q_actions: int = number(10, 1, 1000)
    objective: Literal["released", "paper"] = "released"
    """Scaling of the Q and entropy terms: as published in code, or as printed (Eq. 15). See agent.py."""
    entropy: Literal["released", "paper"] = "released"
    """Form of log p(a_1 | a_T): as published in code, or as printed (Eq. 14). See entropy.py."""
    candidates: int = number(50, 1, 10000)
    """Actions sampled to act; one is chosen with softmax(LCB of the target critics). 1: no choice."""
    ema_decay: float = number(0.995, 0.0, 1.0)
    """Decay of the averaged policy that samples the actions of the critics' targets."""
    ema_every: int = number(5, 1, 1_000_000)
    ema_from: int = number(1000, 0, 1_000_000_000)
    """First step of the averaging; before it the averaged policy is the initial one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        needed = {"released": 3, "paper": 2}[self.entropy]
        if self.alpha != 0 and self.T < needed:
            raise ConfigError(
                f"agent.entropy={self.entropy} needs agent.T >= {needed}, but agent.T={self.T}: "
                f"raise agent.T or set agent.alpha=0 (it is {self.alpha})"
            )
        if self.temperature == "automatic" and self.alpha == 0:
            raise ConfigError(
                "agent.temperature=automatic begins with agent.alpha, which is 0: give agent.alpha a value above 0"
            )


@dataclass(frozen=True)
class DiffusionQlConfig(ValueConfig):
    """Diffusion-QL, https://arxiv.org/abs/2208.06193; with eta = 0, behaviour cloning by its policy.

    actor:   mean (eps_phi - eps)^2 - eta E[Q_i(s, a)] / E|Q_j(s, a)|, a sampled with gradients, {i, j} = {1, 2}
    critic:  sum over both of mean (Q_i - r - gamma min_j Q_target_j(s', a'))^2
    """

    T: int = number(5, 1, 1000)
    """Diffusion steps."""
    eta: float = number(1.0, 0.0, 1000.0)
    """Weight of the Q loss against the diffusion loss."""
    max_q_backup: bool = False
    """Back up the maximum over `max_q_actions` sampled next actions, per critic."""
    max_q_actions: int = number(10, 1, 1000)
    candidates: int = number(50, 1, 10000)
    """Actions sampled to act; one is chosen with softmax(min of the target critics). 1: no choice."""
    ema_decay: float = number(0.995, 0.0, 1.0)
    """Decay of the averaged policy that samples the actions of the critics' targets."""
    ema_every: int = number(5, 1, 1_000_000)
    ema_from: int = number(1000, 0, 1_000_000_000)
    """First step of the averaging; before it the averaged policy is the initial one."""


@dataclass(frozen=True)
class BcConfig(PolicyConfig):
    """Behaviour cloning with a Gaussian of one std an action dimension: E[-log N(a | tanh(mean(s)), std)]."""

    layers: int = number(2, 1, 16)


@dataclass(frozen=True)
class Td3BcConfig(ValueConfig):
    """TD3+BC, https://arxiv.org/abs/2106.06860.

    actor:   -q_weight E[Q_1(s, pi(s))] / E|Q_1(s, pi(s))| + E (pi(s) - a)^2, every `policy_every` steps
    critic:  sum over both of mean (Q_i - r - gamma min_j Q_target_j(s', pi_target(s') + clipped noise))^2
    """

    layers: int = number(2, 1, 16)
    q_weight: float = number(2.5, 0.0, 1000.0)
    """The paper's alpha."""
    policy_noise: float = number(0.2, 0.0, 10.0)
    """Standard deviation of the noise on the targets' actions."""
    noise_clip: float = number(0.5, 0.0, 10.0)
    """Largest noise on the targets' actions."""
    policy_every: int = number(2, 1, 1000)
    """Updates of the critics for one of the policy and the targets."""
    normalise_states: bool = True
    """Networks see (s - mean) / (std + 1e-3) of the data's states."""


@dataclass(frozen=True)
class ImplicitQConfig(ValueConfig):
    """What the methods with values by implicit Q-learning share, https://arxiv.org/abs/2110.06169.

    value:   E |expectile - 1(u < 0)| u^2, u = min Q_target(s, a) - V(s)
    critic:  sum over both of mean (Q_i - r - gamma V(s'))^2
    """

    lr_decay: Literal["off", "cosine"] = "cosine"
    """`cosine`: the policy's learning rate falls to 0 over the run's steps as a half cosine."""
    expectile: float = number(0.7, 0.5, 1.0)
    reward_scale: float = number(1.0, 0.0, 1e6)
    """Rewards are multiplied by this ..."""
    reward_shift: float = number(0.0, -1e6, 1e6)
    """... and this is added ..."""
    normalise_returns: bool = False
    """... or they are multiplied by 1000 / (largest return - smallest return of the data's episodes)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.normalise_returns and self.reward_scale != 1:
            raise ConfigError(
                f"agent.reward_scale={self.reward_scale:g} does nothing beside agent.normalise_returns=true: leave it "
                "out or set agent.normalise_returns=false"
            )


@dataclass(frozen=True)
class IqlConfig(ImplicitQConfig):
    """Implicit Q-learning, https://arxiv.org/abs/2110.06169.

    actor:   E -min(exp(inverse_temperature A(s, a)), 100) log pi(a | s), A = min Q_target - V
    """

    layers: int = number(2, 1, 16)
    inverse_temperature: float = number(3.0, 0.0, 1000.0)
    """The paper's beta."""


@dataclass(frozen=True)
class IdqlConfig(ImplicitQConfig):
    """IDQL, https://arxiv.org/abs/2304.10573: behaviour cloning by diffusion, the best of its samples by Q.

    actor:   mean (eps_phi - eps)^2; an average of its weights acts
    """

    T: int = number(5, 1, 1000)
    """Diffusion steps."""
    candidates: int = number(64, 1, 10000)
    """Actions sampled to act, the one with the largest min of the target critics is taken. 1: no choice."""
    actor_tau: float = number(0.001, 0.0, 1.0)
    """Step of the policy that acts towards the one that learns, each update; as in the released code."""


@dataclass(frozen=True)
class EdpConfig(ImplicitQConfig):
    """IQL+EDP, https://arxiv.org/abs/2305.20081: implicit Q-learning with a diffusion policy.

    actor:   E min(exp(inverse_temperature A(s, a)), 100) (eps_phi - eps)^2, A = min Q_target - V
    """

    T: int = number(5, 1, 1000)
    """Diffusion steps."""
    inverse_temperature: float = number(3.0, 0.0, 1000.0)
    candidates: int = number(10, 1, 10000)
    """Actions sampled to act; one is chosen with softmax(min of the target critics). 1: no choice."""


@dataclass(frozen=True)
class EntropyConfig(ValueConfig):
    """What the methods with a squashed Gaussian of learned temperature share, as in SAC.

    temperature:  alpha E[-log pi(a | s) - H], H being -(action size)
    """

    temperature_lr: float = number(3e-4, 0.0, 1.0)


@dataclass(frozen=True)
class CqlConfig(EntropyConfig):
    """CQL(H), https://arxiv.org/abs/2006.04779.

    actor:   E[alpha log pi(a | s) - min_i Q_i(s, a)]; for `cloning_steps` log pi of the data's actions in place of Q
    critic:  sum over both of mean (Q_i - r - gamma min_j Q_target_j(s', a'))^2
             + conservative_weight (E log sum_a exp Q_i(s, a) - E Q_i(s, a of the data))
    The sum is over `sampled_actions` each of uniform ones, the policy's at s and those at s', by their densities.
    """

    actor_lr: float = number(1e-4, 0.0, 1.0)
    temperature_lr: float = number(1e-4, 0.0, 1.0)
    conservative_weight: float = number(5.0, 0.0, 1000.0)
    """The paper's alpha."""
    sampled_actions: int = number(10, 1, 1000)
    cloning_steps: int = number(40_000, 0, 1_000_000_000)
    """At the start, in which the policy clones."""


@dataclass(frozen=True)
class MsgConfig(EntropyConfig):
    """MSG, https://arxiv.org/abs/2205.13703: independent critics, a policy by their lower confidence bound.

    actor:   E[alpha log pi(a | s) - (mean_m Q_m - beta std_m Q_m)]
    critic:  mean over batch and members of (Q^m - r - gamma Q_target^m(s', a'))^2
             + conservative_weight (E Q^m(s, a of the policy) - E Q^m(s, a of the data))
    """

    M: int = number(64, 1, 1024)
    """Critics of the ensemble."""
    beta: float = number(4.0, 0.0, 100.0)
    """Pessimism of the lower confidence bound (the paper's beta is its negative)."""
    conservative_weight: float = number(0.1, 0.0, 1000.0)
    """The paper's alpha."""


@dataclass(frozen=True)
class GaussianEnsembleConfig(ValueConfig):
    """ERDP with a squashed Gaussian in place of the diffusion: the Gaussian policy of the ERDP paper's Table 5.

    actor:   E[-log pi(a of the data | s)] - eta E[LCB(s, a)] / E|Q| - alpha E[H] / E|H|
    critic, LCB: as ERDP's
    """

    grad_norm: float = number(4.0, 0.0, 1e6)
    M: int = number(64, 1, 1024)
    """Critics of the ensemble."""
    alpha: float = number(0.01, 0.0, 100.0)
    """Temperature of the entropy."""
    beta: float = number(4.0, 0.0, 100.0)
    """Pessimism of the lower confidence bound."""
    eta: float = number(1.0, 0.0, 1000.0)
    """Weight of the Q loss against cloning."""


AgentConfig = (
    ErdpConfig
    | BcDiffusionConfig
    | DiffusionQlConfig
    | BcConfig
    | Td3BcConfig
    | IqlConfig
    | CqlConfig
    | MsgConfig
    | IdqlConfig
    | EdpConfig
    | GaussianEnsembleConfig
)
METHODS: Mapping[str, type[AgentConfig]] = {
    "erdp": ErdpConfig,
    "bc-diffusion": BcDiffusionConfig,
    "diffusion-ql": DiffusionQlConfig,
    "bc": BcConfig,
    "td3-bc": Td3BcConfig,
    "iql": IqlConfig,
    "cql": CqlConfig,
    "msg": MsgConfig,
    "idql": IdqlConfig,
    "edp": EdpConfig,
    "gaussian-ensemble": GaussianEnsembleConfig,
}
ALGORITHM_VERSIONS: Mapping[str, int] = dict.fromkeys(METHODS, 1)
"""Raised whenever a change makes the same run come out with other numbers; part of a run's id."""
PACKED_NUMBERS = frozenset(
    {"alpha", "beta", "eta", "gamma", "tau", "actor_lr", "critic_lr", "grad_norm", "ema_decay", "q_weight",
     "policy_noise", "noise_clip", "expectile", "inverse_temperature", "reward_scale", "reward_shift",
     "temperature_lr", "conservative_weight", "actor_tau", "entropy_target", "alpha_lr"}
)  # fmt: skip
"""Settings that may differ between the runs of a pack: they are vectors [R], not structure."""
