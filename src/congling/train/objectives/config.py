"""Tables of the methods that learn from preferences and rewards; no torch, so that ``--help`` stays quick."""

from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat

from congling.core.config import Config
from congling.train.config import Small

PreferenceLoss = Literal["dpo", "ipo", "kto", "orpo", "simpo"]


class PreferenceConfig(Config):
    """Table ``[preference]``: how a better and a worse answer become a loss."""

    loss_type: PreferenceLoss = "dpo"
    """``dpo`` (Rafailov et al. 2023), ``ipo`` (Azar et al. 2023), ``kto`` (Ethayarajh et al. 2024; takes
    answers that are good or bad, not pairs), ``orpo`` (Hong et al. 2024), ``simpo`` (Meng et al. 2024). The
    last two need no reference."""
    beta: PositiveFloat | None = None
    """How strongly the model is held to its reference: smaller lets it go further. Left out, 0.1; 2.0 for
    ``simpo``."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    """Share of preferences that may be wrong (``dpo``)."""
    simpo_gamma: NonNegativeFloat = 1.0
    """``simpo``: by how much the better answer should win, in units of beta times nats per token."""
    rpo_alpha: NonNegativeFloat = 0.0
    """Weight of the plain loss of the better answer, in nats per token (RPO, Pang et al. 2024): keeps its
    probability from falling along with that of the worse one. ``orpo`` has it in any case."""
    desirable_weight: PositiveFloat = 1.0
    """``kto``: weight of good answers."""
    undesirable_weight: PositiveFloat = 1.0
    """``kto``: weight of bad answers."""

    @property
    def strength(self) -> float:
        """``beta`` with its default filled in."""
        return self.beta if self.beta is not None else (2.0 if self.loss_type == "simpo" else 0.1)

    @property
    def refers(self) -> bool:
        """Whether the probabilities of the base are needed."""
        return self.loss_type in ("dpo", "ipo", "kto")


class RolloutConfig(Config):
    """Table ``[rollout]``: what a model writes to be rewarded."""

    prompts_per_step: Small = 8
    """Prompts of a step, over all processes."""
    num_generations: Small = 8
    """Answers to each prompt."""
    max_completion_length: Small = 64
    """Longest answer, in tokens."""
    temperature: PositiveFloat = 1.0
    """Of sampling; probabilities are those at this temperature throughout."""
    top_k: Small | None = None
    """Sample among the likeliest k alone; with a cut the probabilities are still those of all tokens."""
    num_iterations: Small = 1
    """Steps that learn from the same answers; after the first the model has moved, and clipping counts."""
    truncated_reward: float | None = None
    """Reward of an answer that the limit cut off, in place of its own; left out, it is judged like any."""


class PPORolloutConfig(RolloutConfig):
    """The same for PPO, which compares with expectations instead of other answers, and learns twice."""

    prompts_per_step: Small = 32
    num_generations: Small = 2
    num_iterations: Small = 2


class PolicyConfig(Config):
    """What GRPO and PPO share: the clipped objective (Schulman et al. 2017) and the pull to the reference."""

    epsilon: PositiveFloat = 0.2
    """How far below 1 the ratio of new to old probability may fall before it stops counting."""
    epsilon_high: PositiveFloat | None = None
    """The same above 1, where it differs: DAPO's clip-higher (Yu et al. 2025) is 0.28."""
    beta: NonNegativeFloat = 0.0
    """Weight of the divergence from the base, nats per token; 0 needs no second model."""
    entropy_coef: NonNegativeFloat = 0.0
    """Weight of the entropy, which is then kept up."""

    @property
    def above(self) -> float:
        """``epsilon_high`` with its default filled in."""
        return self.epsilon if self.epsilon_high is None else self.epsilon_high


class GRPOConfig(PolicyConfig):
    """Table ``[grpo]``: answers to the same prompt are compared with each other (Shao et al. 2024)."""

    loss_type: Literal["grpo", "dapo", "dr_grpo"] = "dapo"
    """What one answer weighs: ``grpo`` each the same, ``dapo`` by its length (Yu et al. 2025), ``dr_grpo``
    by its length over the longest possible (Liu et al. 2025)."""
    scale_rewards: Literal["group", "batch", "none"] = "group"
    """What advantages are divided by: the deviation of their group, of the batch, or nothing (Dr. GRPO)."""
    dynamic_sampling: bool = False
    """Leave out groups whose answers all have the same reward, which teach nothing, and draw other prompts in
    their place (DAPO's dynamic sampling)."""
    soft_punish_cache: int = Field(default=0, ge=0, le=2**20)
    """Tokens before the limit within which the reward falls linearly by up to 1 (DAPO's soft overlong
    punishment); 0 is off."""


class PPOConfig(PolicyConfig):
    """Table ``[ppo]``: a value head says what to expect (Schulman et al. 2017, Ziegler et al. 2019)."""

    beta: NonNegativeFloat = 0.05
    """Price of a nat by which an answer is likelier than for the base, taken off the reward at each token."""
    gamma: float = Field(default=1.0, gt=0, le=1)
    """What a reward is worth one token later."""
    lam: float = Field(default=0.95, ge=0, le=1)
    """Lambda of generalised advantage estimation (Schulman et al. 2015)."""
    vf_coef: NonNegativeFloat = 0.1
    """Weight of the value head's loss."""
    cliprange_value: PositiveFloat = 0.2
    """How far a value may move from the one of the rollout before it stops counting."""
    whiten_advantages: bool = True
    """Bring advantages to mean 0 and deviation 1 over a rollout."""
