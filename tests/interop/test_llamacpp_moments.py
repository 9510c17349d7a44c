"""The order of Adam's moments in the old trainers' checkpoints, as measured on build 1446."""

import numpy as np
import pytest

from congling.interop.gguf.file import Field, GGUFFile, write_gguf
from congling.interop.llamacpp_checkpoint import (
    MOMENTS,
    ORDER,
    Moments,
    Progress,
    Slot,
    moments_of,
    tensor,
    training_fields,
    training_tensors,
)
from congling.interop.llamacpp_moments import WALKS, Walk
from congling.llamacpp_trainers.arguments import parse
from congling.llamacpp_trainers.options import ScratchOptions
from congling.llamacpp_trainers.scratch_model import new_config, slots_of

SIZES = ["--embd", "32", "--head", "2", "--layer", "2", "--ff", "64", "--ctx", "16"]
TOP = ["ffn_down", "ffn_gate", "ffn_norm", "attn_output"]
WHOLE = ["attn_output", "ffn_norm", "ffn_up", "ffn_gate", "ffn_down"]


def blocks(layers, names):
    return [f"blk.{layer}.{name}" for layer in layers for name in names]


MEASURED = {
    Walk(flash=True): ["output", "output_norm", *blocks((1, 0), [*TOP, "attn_q", "attn_norm"]), "token_embd",
                       *blocks((0, 1), ["attn_k", "attn_v", "ffn_up"])],
    Walk(flash=False): ["output", "output_norm", *blocks((1, 0), [*TOP, "attn_norm"]), "token_embd",
                        *blocks((0, 1), ["attn_v", "attn_k", "attn_q", "ffn_up"])],
    Walk(flash=True, left_to_right=False): [
        "token_embd", *blocks((0, 1), ["attn_v", "attn_norm", "attn_k", "attn_q", *WHOLE]), "output_norm",
        "output"],
    Walk(flash=False, left_to_right=False): [
        "token_embd", *blocks((0, 1), ["attn_norm", "attn_q", "attn_k", "attn_v", *WHOLE]), "output_norm",
        "output"],
}  # fmt: skip


def model_slots():
    return slots_of(new_config(parse(ScratchOptions, SIZES), 50))


def adapter_slots():
    """Factors as ``finetune`` has them; a norm's two change places here."""
    found = []
    for slot in model_slots():
        sides = ("b", "a") if len(slot.shape) == 1 else ("a", "b")
        for side, name, size in zip(
            sides, ("lora_a", "lora_b"), (slot.shape[-1], slot.shape[0]), strict=True
        ):
            found.append(Slot(f"{slot.key}.{side}", f"{slot.name}.{name}", (size, 4)))
    return found


def distinguishable(slots):
    """Moments that say where they belong: the slot's number, and a rising part; the embedding has gaps."""
    first = {slot.key: np.full(slot.size, i + 1.0) for i, slot in enumerate(slots)}
    second = {key: values + np.arange(values.size) / values.size for key, values in first.items()}
    for slot in slots:
        if slot.name.startswith("token_embd"):
            second[slot.key][-2 * slot.shape[-1] :] = 0  # tokens that the text never had
    shaped = [
        {slot.key: slot.from_file(table[slot.key].astype(np.float32)) for slot in slots}
        for table in (first, second)
    ]
    return Moments(shaped[0], shaped[1], 0)


def old_file(path, slots, moments, walk):
    """As the former program writes it: in the order of its walk, without a word about it."""
    stems = {name: place for place, name in enumerate(MEASURED[walk])}

    def place(slot):
        stem, _, factor = slot.name.partition(".weight")
        second = factor == ".lora_b"
        return stems[stem], second if walk.left_to_right else not second

    ordered = sorted(slots, key=place)
    tensors = [
        tensor(name, np.concatenate([slot.to_file(table[slot.key]).reshape(-1) for slot in ordered]))
        for name, table in zip(MOMENTS, (moments.first, moments.second), strict=True)
    ]
    fields = training_fields(Progress(iterations=9), slots, 0, flash=True)
    kept = {key: field for key, field in fields.items() if not key.startswith("congling.")}
    write_gguf(path, {"training.type": Field("string", "train_model")} | kept, tensors, overwrite=True)
    return GGUFFile.open(path)


@pytest.mark.parametrize("walk", WALKS)
@pytest.mark.parametrize("slots", [model_slots(), adapter_slots()], ids=["model", "adapter"])
def test_moments_of_the_former_programs_reach_their_tensors(tmp_path, slots, walk):
    moments = distinguishable(slots)
    found = moments_of(old_file(tmp_path / "old.gguf", slots, moments, walk), slots, flash=walk.flash)
    assert found is not None
    read, seen = found
    assert (seen, read.since) == (walk, 0)
    for slot in slots:
        assert np.array_equal(read.first[slot.key], moments.first[slot.key]), slot.name
        assert np.array_equal(read.second[slot.key], moments.second[slot.key]), slot.name


def test_the_zeros_of_unseen_tokens_tell_the_walk_whatever_the_flag(tmp_path):
    slots = model_slots()
    for walk in (Walk(flash=True), Walk(flash=False), Walk(flash=True, left_to_right=False)):
        file = old_file(tmp_path / "old.gguf", slots, distinguishable(slots), walk)
        found = moments_of(file, slots, flash=walk.flash if not walk.left_to_right else not walk.flash)
        assert found is not None
        assert found[1] == walk


@pytest.mark.parametrize("flash", [True, False])
@pytest.mark.parametrize("slots", [model_slots(), adapter_slots()], ids=["model", "adapter"])
def test_what_is_written_lies_as_the_former_programs_read_it(tmp_path, slots, flash):
    moments, past = distinguishable(slots), np.zeros(0, np.float32)
    written = {one.name: one.data() for one in training_tensors(slots, moments, past, flash=flash)}
    theirs = old_file(tmp_path / "old.gguf", slots, moments, Walk(flash))
    for name in MOMENTS:
        assert np.array_equal(written[name], theirs.array(name))
    fields = training_fields(Progress(), slots, 7, flash=flash)
    assert fields[ORDER].value == ("2" if flash else "1")


def test_another_optimizer_has_no_moments(tmp_path):
    fields = {"optimizer.type": Field("string", "lbfgs")}
    write_gguf(tmp_path / "l.gguf", fields, [tensor("x", np.zeros(4, np.float32))])
    assert moments_of(GGUFFile.open(tmp_path / "l.gguf"), model_slots(), flash=True) is None
