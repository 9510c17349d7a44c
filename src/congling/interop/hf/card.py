"""The model card of a Hugging Face folder: what is known of the model, and what is not."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from congling.core import files
from congling.core.artifact import write_text
from congling.interop.foreign import ForeignModel
from congling.model.counts import active_parameters, parameters
from congling.model.mlp_config import MoEConfig
from congling.quant.config import FACT

_NEEDED = {
    "GPTQ": "On a CPU with `pip install auto-round auto-round-lib`:\n",
    "AWQ": "On a CPU with `pip install auto-round auto-round-lib`:\n",
    "CT": "With `pip install compressed-tensors`:\n",
    "BNB": "With `pip install bitsandbytes`:\n",
}
"""By the type of the weights: what reads them besides transformers."""
_SETTINGS = (
    "bits",
    "group_size",
    "sym",
    "rounding",
    "damp_percent",
    "llm_int8_threshold",
    "smoothing_strength",
)


NOT_MEASURED = "What it lost is measured by `congling damage`; no result is recorded here."


def card(model: ForeignModel, architecture: str, type: str, notes: Sequence[str] = ()) -> str:
    """``README.md`` with the front matter of model hubs; numbers are counted, never estimated.

    ``notes`` say what had to be changed on the way.
    """
    name = str(model.facts.get("name") or "model")
    parts = [
        _front_matter(),
        f"# {name}\n",
        _origin(model, notes),
        _sizes(model, architecture, type),
        *_fewer_bits(model),
        _loading(model, type),
    ]
    parts.append("## Limits\n\n" + _limits(model))
    return "\n".join(parts)


def record_damage(folder: Path, measured: str) -> None:
    """Put into the card of a folder in few bits what it lost, in a sentence."""
    file = folder / "README.md"
    write_text(file, files.text(file).replace(NOT_MEASURED, measured))


def _front_matter() -> str:
    return "---\nlibrary_name: transformers\npipeline_tag: text-generation\ntags:\n- congling\n---\n"


def _origin(model: ForeignModel, notes: Sequence[str]) -> str:
    facts = model.facts
    lines = [
        f"Read from {facts['architecture']} by congling."
        if "architecture" in facts
        else "Written by congling."
    ]
    if "step" in facts and "tokens" in facts:
        lines.append(f"Trained for {int(facts['step']):,} steps, {int(facts['tokens']):,} tokens of text.")
    lines += [f"- {note}" for note in [*(facts.get("notes") or ()), *notes]]
    return "\n\n".join(lines) + "\n"


def _sizes(model: ForeignModel, architecture: str, type: str) -> str:
    config = model.config
    rows = [
        ("Class", f"`{architecture}`"),
        ("Parameters", f"{parameters(config):,}"),
        ("Context", f"{config.max_position_embeddings:,} tokens"),
        ("Vocabulary", f"{config.vocab_size:,}"),
        ("Layers × width", f"{config.num_hidden_layers} × {config.hidden_size}"),
        (
            "Heads (key/value heads)",
            f"{config.attention.num_attention_heads} ({config.attention.num_key_value_heads})",
        ),
        ("Weights", type),
    ]
    if isinstance(config.mlp, MoEConfig):
        rows.insert(2, ("Parameters used by a token", f"{active_parameters(config):,}"))
        rows.append(
            ("Experts (used by a token)", f"{config.mlp.num_experts} ({config.mlp.num_experts_per_tok})")
        )
    table = "\n".join(f"| {key} | {value} |" for key, value in rows)
    return f"| | |\n|---|---|\n{table}\n"


def _fewer_bits(model: ForeignModel) -> list[str]:
    """How the layers came to be in few bits, and what they were calibrated on, as far as that is known."""
    made = model.facts.get(FACT)
    if not model.layers or not isinstance(made, Mapping) or "method" not in made:
        return []
    settings = ", ".join(f"{key} {made[key]}" for key in _SETTINGS if key in made)
    lines = ["## Fewer bits\n", f"By {made['method']} ({settings})." if settings else f"By {made['method']}."]
    if "tokens" in made:
        lines.append(
            f"Calibrated on {made['tokens']} tokens of `{Path(str(made.get('text'))).name}`: "
            f"script {made.get('script')}, chat template {made.get('template', 'not known')}."
        )
    notes = made.get("notes")
    lines += [f"- {note}" for note in notes] if isinstance(notes, list) else []
    lines.append(NOT_MEASURED + "\n")
    return ["\n".join(lines)]


def _loading(model: ForeignModel, type: str) -> str:
    names, given, more = "AutoModelForCausalLM, AutoTokenizer", "", ""
    if type in ("GPTQ", "AWQ"):  # on a CPU by the kernels of auto-round
        names = f"{names}, AutoRoundConfig"
        given = ', device_map="cpu", quantization_config=AutoRoundConfig()'
    if type == "BNB":
        more = ".eval()"  # while training, bitsandbytes computes another product
    lines = [
        "## Use\n",
        *([_NEEDED[type]] if type in _NEEDED else []),
        "```python",
        f"from transformers import {names}\n",
        f'model = AutoModelForCausalLM.from_pretrained("this folder"{given}){more}',
    ]
    if model.tokenizer is not None:
        lines += [
            'tokenizer = AutoTokenizer.from_pretrained("this folder")',
            'ids = tokenizer("从前", return_tensors="pt")',
            "print(tokenizer.decode(model.generate(**ids, max_new_tokens=50)[0]))",
        ]
    return "\n".join([*lines, "```\n"])


def _limits(model: ForeignModel) -> str:
    tuned = (
        "The model was tuned on conversations in its chat template."
        if model.facts.get("chat")
        else "The model continues text; it is not known to have been tuned on conversations."
    )
    return (
        f"{tuned} No scores of tasks are recorded here, and no licence: whoever publishes this folder adds "
        "both, according to the text the model was trained on.\n"
    )
