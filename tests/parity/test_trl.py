"""Preferences, reward models and GRPO against TRL: the same weights and the same rows give the same loss and
the same gradients, log-probabilities, masks and packing included.

TRL's own methods run on stand-ins that hold the attributes they read: building its trainers costs seconds and
proves nothing more. Our side goes the whole way, from packed rows through our model.
"""

# P pairs, S sequences, T time

import contextlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from congling.data.problems import Place
from congling.data.tuning.examples import Example
from congling.data.tuning.kl_examples import kl_examples
from congling.data.tuning.pair_batches import PairBatches, Rated, RatedBatches
from congling.data.tuning.preference_rows import QuestionRow
from congling.data.tuning.preferences import Question
from congling.infer.reward_model import scored_at_its_end
from congling.interop.foreign import ForeignModel
from congling.interop.hf.model import write
from congling.model.families import FAMILIES
from congling.model.transformer import Transformer
from congling.train.backends.single import Single
from congling.train.config import TrainConfig
from congling.train.objectives.config import GRPOConfig, PreferenceConfig, RolloutConfig
from congling.train.objectives.policy import Policy
from congling.train.objectives.preference import pair_losses, preference, sequence_sums
from congling.train.objectives.reward import BradleyTerry
from congling.train.rl.advantage import GroupAdvantage
from congling.train.rl.reference import Reference, RolloutScorer, reference_sums
from congling.train.rl.rollout_buffer import Rollout
from congling.train.rl.rollouts import RolloutBatches
from congling.transform.scalar_head import attach_head

transformers = pytest.importorskip("transformers", reason="TRL trains models of transformers")
pytest.importorskip("trl", reason="what losses are compared with is trl")

from trl import DPOTrainer, GRPOTrainer, KTOTrainer, RewardTrainer  # noqa: E402
from trl.experimental.cpo import CPOTrainer  # noqa: E402
from trl.experimental.orpo import ORPOTrainer  # noqa: E402
from trl.trainer.utils import add_fused_lm_head  # noqa: E402

VOCABULARY, CONTEXT, PAD, TEMPERATURE = 61, 48, 0, 0.7
CLOSE: dict[str, float] = {"rtol": 1e-5, "atol": 1e-5}
PLACE = Single(TrainConfig(max_steps=1, max_length=CONTEXT, device="cpu", precision="fp32")).to_device


@dataclass
class Models:
    """One model twice, ours and theirs, and what it was before it was trained a little."""

    ours: Transformer
    base: Transformer
    theirs: Any
    their_base: Any
    folder: Path

    def compare(self, loss: Tensor, their_loss: Tensor) -> None:
        """Losses, and gradients: those of both ends of the model, and the length of all together."""
        torch.testing.assert_close(loss.double(), their_loss.double(), **CLOSE)
        for model in (self.ours, self.theirs):
            model.zero_grad()
        loss.backward()
        their_loss.backward()
        head, embedding = self.theirs.get_output_embeddings(), self.theirs.get_input_embeddings()
        torch.testing.assert_close(self.ours.output_layer().weight.grad, head.weight.grad, **CLOSE)
        torch.testing.assert_close(self.ours.embedding.weight.grad, embedding.weight.grad, **CLOSE)
        torch.testing.assert_close(length(self.ours), length(self.theirs), rtol=1e-4, atol=1e-6)
        assert length(self.ours) > 1e-3


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return made(tmp_path_factory.mktemp("trl"))


@pytest.fixture(scope="module")
def cooler(tmp_path_factory: pytest.TempPathFactory) -> Models:
    """The same, of which TRL takes probabilities at another temperature."""
    return made(tmp_path_factory.mktemp("trl"), TEMPERATURE)


def made(root: Path, temperature: float = 1.0) -> Models:
    config = FAMILIES["llama"](
        vocab_size=VOCABULARY,
        max_position_embeddings=CONTEXT,
        num_hidden_layers=2,
        hidden_size=32,
        num_attention_heads=2,
        tie_word_embeddings=False,
    )
    base, ours = Transformer(config), Transformer(config)
    base.initialise(1)
    generator = torch.Generator().manual_seed(2)
    ours.load_state_dict(base.state_dict())
    with torch.no_grad():
        for parameter in (*base.parameters(), *ours.parameters()):
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    loaded = []
    for name, model in (("ours", ours), ("base", base)):
        write(ForeignModel(config, model.state_dict()), root / name)
        their = transformers.AutoModelForCausalLM.from_pretrained(root / name, dtype=torch.float32)
        add_fused_lm_head(their, temperature, outputs=("log_probs", "entropy", "mean_logits", "is_top1"))
        loaded.append(their)
    return Models(ours, base, *loaded, root / "ours")


def length(model: Any) -> Tensor:
    """Of all gradients together."""
    return torch.stack([one.grad.norm() for one in model.parameters() if one.grad is not None]).norm()


def example(random: np.random.Generator, prompt: Sequence[int] | int, answer: int) -> Example:
    """A random answer to a prompt, given or random."""
    asked = random.integers(1, VOCABULARY, prompt) if isinstance(prompt, int) else np.asarray(prompt)
    ids = np.concatenate([asked, random.integers(1, VOCABULARY, answer)]).astype(np.int32)
    learnt = np.zeros(len(ids), bool)
    learnt[len(asked) :] = True
    return Example(ids, learnt, 0, "rows:1")


def pairs() -> list[tuple[Example, Example]]:
    random = np.random.default_rng(3)
    found = []
    for prompt, better, worse in ((3, 4, 9), (7, 12, 2), (1, 5, 5), (10, 20, 1)):
        asked = random.integers(1, VOCABULARY, prompt)
        found.append((example(random, asked, better), example(random, asked, worse)))
    return found


def padded(examples: Sequence[Example]) -> dict[str, Tensor]:
    """Rows as TRL's collators make them: filled up on the right."""
    longest = max(len(one.input_ids) for one in examples)
    rows: dict[str, list[np.ndarray]] = {"input_ids": [], "attention_mask": [], "completion_mask": []}
    for one in examples:
        beyond = longest - len(one.input_ids)
        rows["input_ids"].append(np.pad(one.input_ids.astype(np.int64), (0, beyond), constant_values=PAD))
        rows["attention_mask"].append(np.pad(np.ones(len(one.input_ids), np.int64), (0, beyond)))
        rows["completion_mask"].append(np.pad(one.loss_mask.astype(np.int64), (0, beyond)))
    return {name: torch.from_numpy(np.stack(row)) for name, row in rows.items()}


def stub(model: Any, **more: Any) -> SimpleNamespace:
    """What the methods of TRL's trainers read of their trainer."""
    accelerator = SimpleNamespace(
        device=torch.device("cpu"),
        num_processes=1,
        gather=lambda x: x,
        gather_for_metrics=lambda x: x,
        reduce=lambda x, reduction: x,
        autocast=contextlib.nullcontext,
        unwrap_model=lambda x: x,
    )
    facts = {
        "model": model,
        "accelerator": accelerator,
        "aux_loss_enabled": False,
        "_total_train_tokens": 0,
        "_tp_size": 1,
        "_metrics": defaultdict(lambda: defaultdict(list)),
        "precompute_ref_logps": False,
        "args": SimpleNamespace(gradient_checkpointing_kwargs=None),
    }
    return SimpleNamespace(**facts | more)


def our_pair_loss(models: Models, config: PreferenceConfig) -> Tensor:
    """Mean over packed pairs, from the rows on."""
    rows = pairs()
    flat = [one for pair in rows for one in pair]
    reference = None
    if config.refers:
        reference = reference_sums(models.base, flat, context=CONTEXT, pad=PAD, place=PLACE)
    batches = PairBatches(rows, context=CONTEXT, rows=4, accumulation=1, seed=0, pad=PAD, reference=reference)
    batch = PLACE(batches(0)[0])
    assert batch.tokens.shape[0] < batch.sequences, "several answers share a row"
    return preference(config)(models.ours, batch).total / batch.count


@pytest.mark.parametrize("loss", ["dpo", "ipo"])
@pytest.mark.parametrize("beta", [0.1, 0.5])
def test_dpo_and_ipo_are_those_of_trl(models: Models, loss: str, beta: float):
    kind = {"dpo": "sigmoid", "ipo": "ipo"}[loss]
    trainer = stub(
        models.theirs,
        ref_model=models.their_base,
        beta=beta,
        loss_types=[kind],
        loss_weights=[1.0],
        f_divergence_type="reverse_kl",
        ld_alpha=None,
        use_weighting=False,
        label_smoothing=0.0,
    )
    rows = pairs()
    inputs = padded([*(better for better, _ in rows), *(worse for _, worse in rows)])
    theirs = DPOTrainer._compute_loss(trainer, models.theirs, inputs, False)  # type: ignore[arg-type]
    models.compare(our_pair_loss(models, PreferenceConfig(loss_type=loss, beta=beta)), theirs)


def test_rpo_is_the_weighted_sum_with_the_plain_loss_of_trl(models: Models):
    trainer = stub(
        models.theirs,
        ref_model=models.their_base,
        beta=0.1,
        loss_types=["sigmoid", "sft"],
        loss_weights=[1.0, 0.7],
        f_divergence_type="reverse_kl",
        ld_alpha=None,
        use_weighting=False,
        label_smoothing=0.0,
    )
    # Theirs is a mean over all tokens, ours over pairs: with one pair they are the same.
    (better, worse), *_ = rows = pairs()[:1]
    theirs = DPOTrainer._compute_loss(trainer, models.theirs, padded([better, worse]), False)  # type: ignore[arg-type]
    config = PreferenceConfig(rpo_alpha=0.7)
    reference = reference_sums(models.base, [better, worse], context=CONTEXT, pad=PAD, place=PLACE)
    batches = PairBatches(rows, context=CONTEXT, rows=1, accumulation=1, seed=0, pad=PAD, reference=reference)
    models.compare(preference(config)(models.ours, PLACE(batches(0)[0])).total, theirs)


def _numbers() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    found = -30 * torch.rand(12, generator=generator)
    return found.requires_grad_(), torch.arange(3.0, 15.0)


def _same_gradient(loss: Tensor, theirs: Tensor, found: Tensor) -> None:
    torch.testing.assert_close(loss, theirs, **CLOSE)
    ours, other = (torch.autograd.grad(one.mean(), found, retain_graph=True)[0] for one in (loss, theirs))
    torch.testing.assert_close(ours, other, **CLOSE)
    assert ours.abs().max() > 1e-3


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_label_smoothing_is_that_of_trl(smoothing: float):
    found, lengths = _numbers()
    reference = found.detach().roll(1)
    ours, _ = pair_losses(PreferenceConfig(beta=0.3, label_smoothing=smoothing), found, lengths, reference)
    gains = found - reference
    trainer = stub(None, alpha=0.0, beta=0.3, label_smoothing=smoothing, loss_type="sigmoid")
    theirs, *_ = CPOTrainer.cpo_loss(trainer, gains[0::2], gains[1::2])  # type: ignore[arg-type]
    _same_gradient(ours, theirs, found)


@pytest.mark.parametrize("margin", [0.0, 0.5, 1.6])
def test_simpo_is_that_of_trl_whose_gamma_is_the_margin(margin: float):
    found, lengths = _numbers()
    ours, _ = pair_losses(
        PreferenceConfig(loss_type="simpo", beta=2.5, simpo_gamma=margin), found, lengths, None
    )
    trainer = stub(None, alpha=0.0, beta=2.5, simpo_gamma=margin, label_smoothing=0.0, loss_type="simpo")
    means = found / lengths
    theirs, *_ = CPOTrainer.cpo_loss(trainer, means[0::2], means[1::2])  # type: ignore[arg-type]
    _same_gradient(ours, theirs, found)


def test_orpo_is_that_of_trl_with_the_loss_of_the_answer(models: Models):
    found, lengths = _numbers()
    ours, _ = pair_losses(PreferenceConfig(loss_type="orpo", beta=0.4), found, lengths, None)
    means = found / lengths
    theirs, *_ = ORPOTrainer.odds_ratio_loss(stub(None, beta=0.4), means[0::2], means[1::2])  # type: ignore[arg-type]
    _same_gradient(ours, -means[0::2] - theirs, found)


@pytest.mark.parametrize("loss", ["orpo", "simpo"])
def test_means_over_answers_are_those_of_trl(models: Models, loss: str):
    rows = pairs()
    inputs = padded([*(better for better, _ in rows), *(worse for _, worse in rows)])
    outputs = models.theirs(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])
    labels = inputs["input_ids"].masked_fill(inputs["completion_mask"] == 0, -100)
    means = ORPOTrainer.get_batch_logps(outputs.logits, labels, average_log_prob=True)
    better, worse = means.chunk(2)
    if loss == "orpo":
        odds, *_ = ORPOTrainer.odds_ratio_loss(stub(None, beta=0.1), better, worse)  # type: ignore[arg-type]
        theirs = (-better - odds).mean()
    else:
        trainer = stub(None, alpha=0.0, beta=2.0, simpo_gamma=1.0, label_smoothing=0.0, loss_type="simpo")
        theirs = CPOTrainer.cpo_loss(trainer, better, worse)[0].mean()  # type: ignore[arg-type]
    models.compare(our_pair_loss(models, PreferenceConfig(loss_type=loss)), theirs)


@pytest.mark.parametrize("weights", [(1.0, 1.0), (1.5, 0.5)])
def test_kto_is_that_of_trl(models: Models, weights: tuple[float, float]):
    random = np.random.default_rng(4)
    rated = [
        Rated(example(random, prompt, answer), good)
        for prompt, answer, good in ((3, 4, True), (5, 8, False), (2, 11, True), (9, 3, False), (4, 4, False))
    ]
    others = kl_examples(rated, CONTEXT)
    rows, beyond = padded([one.example for one in rated]), padded(others)
    inputs = rows | {f"KL_{name}": value for name, value in beyond.items()}
    inputs["label"] = torch.tensor([one.good for one in rated])
    trainer = stub(
        models.theirs,
        ref_model=models.their_base,
        calculate_KL=True,
        beta=0.3,
        loss_type="kto",
        desirable_weight=weights[0],
        undesirable_weight=weights[1],
    )
    trainer._compute_kl_logps = partial(KTOTrainer._compute_kl_logps, trainer)
    theirs = KTOTrainer._compute_loss(trainer, models.theirs, inputs, False)  # type: ignore[arg-type]
    config = PreferenceConfig(
        loss_type="kto", beta=0.3, desirable_weight=weights[0], undesirable_weight=weights[1]
    )
    flat = [*(one.example for one in rated), *others]
    reference = reference_sums(models.base, flat, context=CONTEXT, pad=PAD, place=PLACE)
    batches = RatedBatches(
        rated, others, context=CONTEXT, rows=5, accumulation=1, seed=0, pad=PAD, reference=reference
    )
    batch = PLACE(batches(0)[0])
    loss = preference(config)(models.ours, batch)
    drift = (sequence_sums(models.ours, batch)[0] - batch.reference)[len(rated) :].mean()
    assert float(loss.metrics["drift"]) == pytest.approx(max(0.0, float(drift)) * len(rated), abs=1e-5)
    models.compare(loss.total / batch.count, theirs)


@pytest.mark.parametrize("centre", [0.0, 0.05])
def test_reward_models_are_those_of_trl(models: Models, centre: float):
    their = transformers.AutoModelForSequenceClassification.from_pretrained(
        models.folder, num_labels=1, dtype=torch.float32, pad_token_id=PAD
    )
    ours: Any = models.ours
    head = attach_head(ours, 7)
    try:
        with torch.no_grad():
            their.score.weight.copy_(head.weight)
        rows = pairs()
        inputs = padded([*(better for better, _ in rows), *(worse for _, worse in rows)])
        del inputs["completion_mask"]
        trainer = stub(their, args=SimpleNamespace(center_rewards_coefficient=centre or None))
        theirs = RewardTrainer.compute_loss(trainer, their, inputs)  # type: ignore[arg-type]
        ends = [(scored_at_its_end(better, PAD), scored_at_its_end(worse, PAD)) for better, worse in rows]
        batches = PairBatches(ends, context=CONTEXT, rows=4, accumulation=1, seed=0, pad=PAD, reference=None)
        batch = PLACE(batches(0)[0])
        loss = BradleyTerry(centre)(ours, batch).total / batch.count
        torch.testing.assert_close(loss, theirs, **CLOSE)
        ours.zero_grad()
        loss.backward()
        theirs.backward()
        torch.testing.assert_close(head.weight.grad, their.score.weight.grad, **CLOSE)
        embedding = their.get_input_embeddings().weight.grad
        torch.testing.assert_close(ours.embedding.weight.grad, embedding, **CLOSE)
        assert head.weight.grad.abs().max() > 1e-3
    finally:
        del ours.scalar_head


GROUP, LONGEST = 3, 8


def answered(models: Models, temperature: float) -> tuple[list[Question], list[Example], Rollout]:
    """Two prompts with three answers each, as the base wrote them, and rewards of which one is missing."""
    random = np.random.default_rng(6)
    questions, examples = [], []
    for prompt in (2, 5):
        asked = random.integers(1, VOCABULARY, prompt)
        questions.append(Question(tuple(asked.tolist()), QuestionRow((), None, Place("rows", 1))))
        examples += [example(random, asked, int(answer)) for answer in random.integers(1, LONGEST + 1, GROUP)]
    rewards = np.array([1.0, 0.0, 0.25, 3.0, -1.0, 0.5])
    looks = RolloutScorer(models.base, SINGLE, PAD, temperature)
    old = [np.zeros(one.targets) for one in examples]
    found = Rollout(examples, np.zeros(6, int), rewards, np.ones(6, bool), old)
    moved = looks.reference(found, Reference(models.base))
    found.old = [old + random.normal(0, 0.3, len(old)).astype(np.float32) for old in moved]
    return questions, examples, found


SINGLE = Single(TrainConfig(max_steps=1, max_length=CONTEXT, device="cpu", precision="fp32"))


@pytest.mark.parametrize("loss_type", ["grpo", "dapo", "dr_grpo"])
@pytest.mark.parametrize(("fresh", "more"), [
    (True, {}), (False, {}), (False, {"beta": 0.2, "epsilon_high": 0.28}), (True, {"beta": 0.2}),
    (False, {"scale_rewards": "batch", "epsilon": 0.1}), (True, {"scale_rewards": "none"}),
])  # fmt: skip
def test_grpo_is_that_of_trl(cooler: Models, loss_type: Any, fresh: bool, more: dict[str, Any]):
    compare_grpo(cooler, GRPOConfig(loss_type=loss_type, **more), fresh, TEMPERATURE)


def test_the_entropy_that_grpo_keeps_up_is_that_of_trl(models: Models):
    compare_grpo(models, GRPOConfig(loss_type="dapo", entropy_coef=0.05), True, 1.0)


def compare_grpo(models: Models, config: GRPOConfig, fresh: bool, temperature: float) -> None:
    questions, examples, found = answered(models, temperature)
    rollout = RolloutConfig(
        prompts_per_step=2, num_generations=GROUP, max_completion_length=LONGEST, temperature=temperature
    )
    looks = RolloutScorer(models.ours, SINGLE, PAD, temperature)
    reference = Reference(models.base) if config.beta else None
    found = GroupAdvantage(config, rollout, looks, reference)(found)
    tokenizer: Any = SimpleNamespace(pad_id=PAD)
    rollouts = RolloutBatches(
        models.ours, tokenizer, questions, partial(np.zeros), lambda x: x, rollout, SINGLE, seed=0
    )  # type: ignore[arg-type]
    batches = [SINGLE.to_device(one) for one in rollouts.batches_of(found, fresh=fresh)]
    objective = Policy(config, temperature)
    count = sum(batch.count for batch in batches)
    ours = sum(objective(models.ours, batch).total for batch in batches) / count
    models.compare(ours, their_grpo(models, config, examples, found, fresh))


def their_grpo(
    models: Models, config: GRPOConfig, examples: Sequence[Example], found: Rollout, fresh: bool
) -> Tensor:
    """TRL's loss; prompts are filled up on the left, answers on the right."""
    trainer = stub(
        models.theirs,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        beta=config.beta,
        importance_sampling_level="token",
        loss_type=config.loss_type,
        use_vllm=False,
        epsilon_low=config.epsilon,
        epsilon_high=config.above,
        max_completion_length=LONGEST,
        current_gradient_accumulation_steps=1,
        _entropy_bonus_enabled=bool(config.entropy_coef),
        entropy_coef=config.entropy_coef,
        use_adaptive_entropy=False,
        args=SimpleNamespace(delta=None, use_bias_correction_kl=False, steps_per_generation=1),
    )
    trainer.accelerator.sync_gradients = True
    score = getattr(
        GRPOTrainer._get_per_token_logps_and_entropies,
        "__wrapped__",
        GRPOTrainer._get_per_token_logps_and_entropies,
    )
    trainer._get_per_token_logps_and_entropies = partial(score, trainer)
    prompts = [one.input_ids[~one.loss_mask] for one in examples]
    longest = max(map(len, prompts))

    def right(rows: Sequence[np.ndarray], dtype: Any) -> Tensor:
        width = max(map(len, rows))
        return torch.from_numpy(np.stack([np.pad(row.astype(dtype), (0, width - len(row))) for row in rows]))

    left = [np.pad(row.astype(np.int64), (longest - len(row), 0)) for row in prompts]
    answers = [one.input_ids[one.loss_mask] for one in examples]
    inputs = {
        "prompt_ids": torch.from_numpy(np.stack(left)),
        "prompt_mask": torch.from_numpy(np.stack(left)).ne(0).long(),
        "completion_ids": right(answers, np.int64),
        "completion_mask": right([np.ones(len(row)) for row in answers], np.int64),
        "advantages": their_advantages(torch.from_numpy(found.rewards).float(), config.scale_rewards),
        "num_items_in_batch": torch.tensor(float(sum(map(len, answers)))),
    }
    if not fresh:
        inputs["old_per_token_logps"] = right(found.old, np.float32)
    if config.beta:
        full = [
            torch.cat([inputs[f"{part}_{name}"] for part in ("prompt", "completion")], 1)
            for name in ("ids", "mask")
        ]
        with torch.no_grad():
            scored = score(trainer, models.their_base, *full, max(map(len, answers)))
        inputs["ref_per_token_logps"] = scored[0]
    return GRPOTrainer._compute_loss(trainer, models.theirs, inputs)  # type: ignore[arg-type]


def their_advantages(rewards: Tensor, scale: str) -> Tensor:
    """As in ``GRPOTrainer._generate_and_score_completions``."""
    groups = rewards.view(-1, GROUP)
    spread = groups.std(dim=1) if scale == "group" else rewards.std().expand(len(groups))
    centred = groups - groups.mean(dim=1, keepdim=True)
    return (centred if scale == "none" else centred / (spread[:, None] + 1e-4)).view(-1)
