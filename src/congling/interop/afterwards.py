"""What a person does next with an export: how far it reads, and the command in the program it is for."""

import re
import shlex
from pathlib import Path

from congling.core.units import plural
from congling.interop.foreign import ForeignModel
from congling.interop.hf import position_writing
from congling.interop.llama2c import model as llama2c
from congling.interop.ollama import MODELFILE
from congling.tokenizer.base import Tokenizer

CHINESE = (
    "却说那日天气晴和，众人在园中闲坐说话，只见一个小丫头笑嘻嘻地走来。"
    "今天上午九点，大家在会议室讨论了新项目的进展，决定下周三之前完成第一版，再请三位同事检查。"
)
ENGLISH = "It was a warm day, and everybody sat in the garden and talked when a girl came along with a smile."
"""What characters a token stands for is counted on: prose old and new, as no model's own text is at hand."""
_PROMPTS = {CHINESE: "从前", ENGLISH: "Once"}
_STOPS = {
    "gguf": "llama.cpp stops there unless it is started with --context-shift, which forgets the beginning",
    "ollama": "Ollama stops there (num_ctx in the Modelfile)",
    "hf": "transformers goes on beyond, into positions it was never trained on",
    "llama2c": "run.c stops there",
}


def limit(model: ForeignModel, to: str) -> str:
    """How much the model reads and writes in all, in a sentence."""
    context = position_writing.context(model.config) if to == "hf" else model.config.max_position_embeddings
    length = f"reads {context:,} {plural(context, 'token')}, prompt and answer together"
    if model.tokenizer is not None:
        characters = _rounded(context * _characters_per_token(model.tokenizer))
        length = (
            f"reads {context:,} {plural(context, 'token')}, about {characters:,} "
            f"{plural(characters, 'character')}, prompt and answer together"
        )
    return f"{length}; {_STOPS[to]}"


def commands(model: ForeignModel, to: str, out: Path, *, version: int = 0) -> list[str]:
    """Command lines that run an exported model; of some programs two, for what they became and once were."""
    tokenizer, context = model.tokenizer, model.config.max_position_embeddings
    start = _PROMPTS[_language(tokenizer)] if tokenizer is not None else _PROMPTS[ENGLISH]
    new, file, chat = min(200, max(1, context // 2)), shlex.quote(str(out)), bool(model.facts.get("chat"))
    match to:
        case "gguf" if chat:
            return [f"llama-cli -m {file} --ctx-size {context}"]
        case "gguf":
            rest = f"-m {file} --ctx-size {context} -n {new} -p {start}"
            return [f"llama-completion {rest}", f"llama-cli {rest} -no-cnv    # before December 2025"]
        case "ollama":
            name = _name(out)
            return [f"ollama create {name} -f {shlex.quote(str(out / MODELFILE))} && ollama run {name}"]
        case "hf":
            asked = f"[{{'role': 'user', 'content': {start!r}}}]" if chat else repr(start)
            code = (
                "from transformers import pipeline; "
                f"print(pipeline('text-generation', {str(out)!r})({asked}, max_new_tokens={new})"
                "[0]['generated_text'])"
            )
            return [_python(code)]
        case _:
            program = "./runq" if version == 2 else "./run"
            files = f"{shlex.quote(str(out / llama2c.MODEL))} -z {shlex.quote(str(out / llama2c.TOKENIZER))}"
            return [f"{program} {files} -i {start}" if tokenizer is not None else f"{program} {files}"]


def adapter_commands(to: str, out: Path, base: str | None) -> list[str]:
    """Command lines that run an exported adapter with its base, where its place is known, else ``BASE``."""
    file, below = shlex.quote(str(out)), shlex.quote(base or "BASE.gguf")
    match to:
        case "gguf-lora":
            if base is not None and not base.endswith(".gguf"):
                below = "BASE.gguf"  # llama.cpp reads no other kind
            return [f"llama-cli -m {below} --lora {file}"]
        case "ggla":
            return [f"./main -m BASE.gguf --lora {file}    # llama.cpp of 2023"]
        case _:
            code = (
                "from transformers import AutoModelForCausalLM; from peft import PeftModel; model = "
                f"PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained('BASE-hf'), {str(out)!r})"
            )
            return ["congling convert BASE --to hf --out BASE-hf", _python(code)]


def _python(code: str) -> str:
    """A command line for a line of Python, readable where no name in it needs quoting."""
    plain = not set(code) & set('"$`\\!')
    return f'python -c "{code}"' if plain else f"python -c {shlex.quote(code)}"


def _characters_per_token(tokenizer: Tokenizer) -> float:
    text = _language(tokenizer)
    return len(text) / max(1, len(tokenizer.encode(text)))


def _language(tokenizer: Tokenizer) -> str:
    """The text in a language that the vocabulary was made for: spelt in bytes, Chinese takes two tokens or
    three a character."""
    return CHINESE if len(tokenizer.encode(CHINESE)) < 1.5 * len(CHINESE) else ENGLISH


def _rounded(number: float) -> int:
    """Two digits of a number are all that "about" promises."""
    whole = max(1, round(number))
    return int(round(whole, -max(0, len(str(whole)) - 2)))


def _name(out: Path) -> str:
    """A name for Ollama, which takes few characters."""
    return re.sub(r"[^a-z0-9._-]+", "-", out.resolve().name.lower()).strip("-._") or "congling"
