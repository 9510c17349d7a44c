"""Architectures of GGUF files: which of them we read, what sets them apart, what a file says of its model."""

from typing import Any

from congling.core.errors import UserError
from congling.interop.gguf.contents import require_model
from congling.interop.gguf.file import GGUFFile

SOFTMAX, SIGMOID = 1, 2
"""How a router scores experts, as ``expert_gating_func`` says it."""
SCALED_EXPERTS = frozenset({"deepseek", "dots1", "glm4moe"})
MIXTURES = SCALED_EXPERTS | {"qwen3moe"}
PLAIN_MLP = frozenset({"gpt2", "starcoder2"})
LAYER_NORM = PLAIN_MLP | {"stablelm"}
NORM_PLACEMENT = {"olmo2": "post", "glm4": "sandwich", "gemma3": "sandwich"}
"""Of the architectures in which it is not that before each sublayer."""
_DENSE = frozenset({"llama", "qwen2", "qwen3", "baichuan", "refact", "ernie4_5", "internlm2"})
MULTIPLIED = frozenset({"granite", "minicpm"})
PARTIAL_ROTARY = frozenset({"chatglm", "glm4", "stablelm"})
"""Architectures in which a part of each head may turn."""
_OF_THEIR_OWN = frozenset({"smollm3", "hunyuan-dense", "chatglm"}) | NORM_PLACEMENT.keys()
READABLE = _DENSE | MULTIPLIED | _OF_THEIR_OWN | LAYER_NORM | MIXTURES
SCALED_NORMAL = frozenset({"gpt2"}) | NORM_PLACEMENT.keys()
CHAT = "congling.chat"
"""Our key for whether the model was tuned for its chat template, which its tokenizer has in any case."""


def architecture_of(file: GGUFFile) -> str:
    """The name of the file's architecture.

    Raises:
        UserError: it is none that we read, or the file holds no model.
    """
    kind = file.text("general.type", "model")
    if kind != "model":
        raise UserError("this GGUF file holds something other than a model", where=file.path, value=kind)
    architecture = file.text("general.architecture")
    if architecture not in READABLE:
        hint = f"readable: {', '.join(sorted(READABLE))}"
        raise UserError("no architecture we can read", where=file.path, value=architecture, hint=hint)
    if file.integer("split.count", 1) != 1:
        raise UserError("one of several parts of a model", where=file.path, hint="merge them with gguf-split")
    return architecture


def facts_of(file: GGUFFile) -> dict[str, Any]:
    """What a file says of its model besides numbers: ``name``, ``architecture``, and ``chat``, whether it was
    tuned for its chat template. Where that is not said, a template speaks for it.

    Raises:
        UserError: as ``architecture_of``, or the file holds a trainer's checkpoint or a vocabulary alone.
    """
    require_model(file)
    # A name may be any bytes; in messages and manifests it must be text.
    name = file.text("general.name", file.path.stem).encode("utf-8", "replace").decode()
    chat = file.flag(CHAT, "tokenizer.chat_template" in file.fields)
    return {"name": name, "architecture": architecture_of(file), "chat": chat}
