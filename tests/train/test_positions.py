"""Which rows get drawn positions, and how the curve of CLEX learns from them."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from congling.core.errors import UserError
from congling.core.rundir import RunDirectory
from congling.data.batches import CorpusBatches
from congling.data.position_sampling import PositionSampling
from congling.data.token_split import TokenSplit
from congling.model.checkpoint import save_model
from congling.model.clex import ClexPositions
from congling.model.transformer import Transformer
from congling.train.backends.single import Single
from congling.train.config import AdamWConfig, MuonConfig
from congling.train.loop import Trainer
from congling.train.objectives.next_token import next_token
from congling.train.optim.build import build_optimizers
from congling.train.optim.clipping import clip, clipped_together
from congling.train.optim.roles import roles
from congling.train.positions import sampling_of
from congling.train.runs.checkpoints import save
from congling.train.runs.resuming import resume
from support.training_doubles import CONTEXT, VOCABULARY, settings, small_model

LONG = 4 * CONTEXT
CLEX = {"rope_type": "clex", "max_factor": 3, "original_max_position_embeddings": CONTEXT}


def corpus() -> TokenSplit:
    draw = np.random.default_rng(0)
    ends = np.arange(1, 201, dtype=np.int64) * 20
    return TokenSplit(draw.integers(1, VOCABULARY, 4000).astype(np.uint16), ends, ends, ends, 0, VOCABULARY)


def clex(**scaling: Any) -> Transformer:
    config = small_model(max_position_embeddings=LONG).config
    model = Transformer(config.replace(positions={"rope_scaling": CLEX | scaling}))
    model.initialise(1)
    return model


def trainer(model: Transformer, *, rows: int = 2, accumulation: int = 2, **changes: Any) -> Trainer:
    config = settings(
        **{"per_device_train_batch_size": rows, "gradient_accumulation_steps": accumulation, **changes}
    )
    batches = CorpusBatches(
        corpus(),
        context=CONTEXT,
        rows=rows,
        accumulation=accumulation,
        document_mask=config.document_mask,
        sampling=sampling_of(config, model.config),
    )
    return Trainer(model, batches, next_token, config, Single(config))


def test_a_clex_model_is_trained_with_them_and_others_when_asked():
    model, plain = clex().config, small_model(max_position_embeddings=LONG).config
    assert sampling_of(settings(seed=5), model) == PositionSampling("randomized", 3 * CONTEXT, 5)
    assert sampling_of(settings(position_sampling="none"), model) is None
    assert sampling_of(settings(), plain) is None
    assert sampling_of(settings(position_sampling="pose"), plain) == PositionSampling("pose", LONG)
    full = settings(max_length=3 * CONTEXT)
    assert sampling_of(full, model) is None  # rows are as long as the curve
    with pytest.raises(UserError, match="no positions to draw"):
        sampling_of(full.replace(position_sampling="randomized"), model)
    with pytest.raises(UserError, match="rotate"):
        sampling_of(settings(position_sampling="pose"), small_model("gpt2").config)


@pytest.mark.parametrize("optimizer", [AdamWConfig(weight_decay=0.5), MuonConfig()])
def test_the_curve_has_a_rate_of_its_own_and_no_decay(optimizer: AdamWConfig | MuonConfig):
    model = clex()
    found = roles(model)
    assert {name for name, role in found.items() if role == "curve"} == {"positions.up", "positions.down"}
    for given, wanted in ((None, 2e-5), (0.25, 0.25)):
        before = {name: one.detach().clone() for name, one in model.named_parameters()}
        for one in model.parameters():
            one.grad = torch.ones_like(one)
        for each in build_optimizers(model, optimizer.replace(positions_learning_rate=given)):
            each.step(0, 1.0, torch.tensor(0.0))
        for name in ("positions.up", "positions.down"):
            change = before[name] - dict(model.named_parameters())[name]
            torch.testing.assert_close(change, torch.full_like(change, wanted), rtol=1e-2, atol=1e-8)


def test_the_curves_gradient_is_clipped_apart_from_all_others():
    model = clex()
    for name, one in model.named_parameters():
        one.grad = torch.full_like(one, 1e3 if name.startswith("positions") else 1e-4)
    groups = clipped_together(model)
    small = model.embedding.weight.grad.clone()  # type: ignore[union-attr]
    norm, skip = clip(groups, 1.0)
    assert norm < 0.1 and skip == 0
    assert torch.equal(model.embedding.weight.grad, small)  # type: ignore[arg-type]
    curve = torch.cat([one.grad.flatten() for one in groups[1]])  # type: ignore[union-attr]
    assert float(curve.norm()) == pytest.approx(1.0, rel=1e-4)
    groups[1][0].grad[0, 0] = float("inf")  # type: ignore[index]
    assert clip(groups, 1.0)[1] == 1
    assert len(clipped_together(small_model())) == 1


@pytest.mark.parametrize("masked", [False, True])
def test_the_curve_learns_and_a_step_is_the_same_however_it_is_cut(masked: bool):
    results = []
    for rows, accumulation in ((4, 1), (2, 2)):
        one = trainer(clex(), rows=rows, accumulation=accumulation, max_steps=5, document_mask=masked)
        one.run()
        results.append({name: value.detach().clone() for name, value in one.model.named_parameters()})
    for name, value in results[0].items():
        torch.testing.assert_close(value, results[1][name], rtol=2e-3, atol=2e-5)
    assert results[0]["positions.down"].abs().max() > 1e-5
    assert all(value.isfinite().all() for value in results[0].values())


def test_recomputed_blocks_give_the_same_gradients():
    found = []
    for on in (False, True):
        model = clex().train()
        model.checkpoint_blocks(on)
        draw = torch.Generator().manual_seed(0)
        for one in model.parameters():
            torch.nn.init.normal_(one, std=0.1, generator=draw)
        batch = next(
            one
            for step in range(20)
            for one in trainer(model).batches(step, 0, 1)
            if one.positions is not None and one.positions.max() > 2 * CONTEXT
        )
        placed = Single(settings()).to_device(batch)
        next_token(model, placed).total.backward()
        found.append([one.grad for one in model.parameters()])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)
    assert found[0][1].abs().max() > 0


def weights(one: Trainer) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in one.model.state_dict().items()}


def test_a_resumed_run_ends_with_the_same_bits_and_the_average_follows_the_curve(tmp_path: Path):
    (tmp_path / "checkpoints").mkdir()
    run, changes = RunDirectory(tmp_path), {"ema_decay": 0.9, "optimizer": AdamWConfig(learning_rate=0.01)}
    whole, first = (trainer(clex(), max_steps=6, **changes) for _ in range(2))
    whole.run([lambda one: save(one, run, save_model, tokenizer=None, parents={}) if one.step == 3 else None])
    again = trainer(clex(), max_steps=6, **changes)
    assert resume(again, run, {}) == 3
    again.run()
    assert all(torch.equal(value, weights(again)[name]) for name, value in weights(whole).items())
    with whole.evaluated_model(), again.evaluated_model():
        averaged = weights(whole)
        assert all(torch.equal(value, weights(again)[name]) for name, value in averaged.items())
    for name in ("positions.up", "positions.down"):
        assert not torch.equal(averaged[name], weights(whole)[name])
        assert not torch.equal(weights(first)[name], weights(whole)[name])


def test_compiled_blocks_learn_the_same(monkeypatch: pytest.MonkeyPatch):
    # Without code generation, which takes long: tracing and gradients are what can go wrong here.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    changes = {"max_steps": 4, "optimizer": AdamWConfig(learning_rate=0.01, positions_learning_rate=1e-3)}
    plain, compiled = (trainer(clex(), torch_compile=on, **changes) for on in ("off", "on"))
    plain.run(), compiled.run()
    found, expected = weights(compiled), weights(plain)
    assert max((found[name] - expected[name]).abs().max().item() for name in expected) <= 1e-4
    assert expected["positions.down"].abs().max() > 1e-4


def test_the_curve_stays_float32_under_autocast():
    model = clex().train()
    torch.nn.init.normal_(model.positions.down, std=0.02, generator=torch.Generator().manual_seed(0))
    assert isinstance(model.positions, ClexPositions)
    plain = model.positions.curve(3)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model.positions.curve(3), plain)
    one = trainer(model, max_steps=3, precision="bf16")
    one.run()
    assert all(value.dtype == torch.float32 and value.isfinite().all() for value in weights(one).values())
    assert model.positions.down.abs().max() > 0
