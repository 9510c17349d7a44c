"""One whole, small file or folder of each format, for mutants to be made of."""

import gzip
import hashlib
import io
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import sentencepiece
import torch

from congling.core import artifact
from congling.interop import adapter_directory, adapters
from congling.interop.foreign import ForeignModel
from congling.interop.gguf import model as gguf_model
from congling.interop.hf import model as hf_model
from congling.interop.llama2c import model as llama2c_model
from congling.model.checkpoint import save_model
from congling.model.config import ModelConfig
from congling.model.families import FAMILIES
from congling.model.transformer import Transformer
from congling.tokenizer import store, training
from congling.tokenizer.base import Tokenizer
from congling.tokenizer.config import TokenizerConfig
from congling.transform.adapter import Adapter, Factors

TEXT = "从零开始学写字。学而时习之，不亦说乎？云对雨，雪对风，晚照对晴空。hello world 123\n" * 12


def tokenizer(folder: Path, kind: str = "bpe") -> Tokenizer:
    """A vocabulary of a few pieces."""
    training.train(
        TokenizerConfig(kind=kind, vocab_size=None if kind == "character" else 320),  # type: ignore[arg-type]
        lambda: iter([TEXT]),
        folder,
    )
    return store.load(folder)


def model(vocab_size: int, family: str = "llama", **sizes: object) -> Transformer:
    """A model of a few thousand weights."""
    shape = {
        "vocab_size": vocab_size,
        "max_position_embeddings": 32,
        "num_hidden_layers": 2,
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_attention_heads": 2,
    } | sizes
    built = Transformer(FAMILIES[family](**shape))  # type: ignore[arg-type]
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.2)
    return built.eval()


def checkpoint(folder: Path, kind: str = "bpe") -> Path:
    """A checkpoint directory."""
    words = tokenizer(folder / "tokenizer", kind)
    with artifact.writing(folder / "checkpoint", "checkpoint", facts={"chat": False}) as path:
        save_model(model(words.vocab_size), path)
        (path / "tokenizer").mkdir()
        for file in (folder / "tokenizer").iterdir():
            if file.name != "report.json":
                (path / "tokenizer" / file.name).write_bytes(file.read_bytes())
    reseal(folder / "checkpoint")
    return folder / "checkpoint"


def reseal(folder: Path) -> None:
    """Write the checksums of the files as they are, as whoever alters them on purpose would.

    Time and command are settled too: mutants are the same in every run.
    """
    for manifest in sorted(folder.rglob(artifact.MANIFEST), key=lambda path: -len(path.parts)):
        files = sorted(file for file in manifest.parent.rglob("*") if file.is_file() and file != manifest)
        content = json.loads(manifest.read_text()) | {"created": "2026-01-01T00:00:00+00:00", "command": []}
        content["files"] = {
            file.relative_to(manifest.parent).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
            for file in files
        }
        manifest.write_text(json.dumps(content))


def foreign(kind: str = "bpe", **sizes: object) -> ForeignModel:
    """A tiny model with its tokenizer, for the writers."""
    with tempfile.TemporaryDirectory() as folder:
        words = tokenizer(Path(folder) / "tokenizer", kind)
    built = model(words.vocab_size, **sizes)  # type: ignore[arg-type]
    return ForeignModel(built.config, dict(built.state_dict()), words, {"name": "victim"})


def gguf(folder: Path, kind: str = "bpe", type: str = "F32", **sizes: object) -> Path:
    """A GGUF model file."""
    gguf_model.write(foreign(kind, **sizes), folder / "model.gguf", type)
    return folder / "model.gguf"


def hf(folder: Path, **sizes: object) -> Path:
    """A Hugging Face folder."""
    hf_model.write(foreign(**sizes), folder / "hf")
    return folder / "hf"


def llama2c(folder: Path, version: int) -> Path:
    """A folder with ``model.bin`` and ``tokenizer.bin``."""
    llama2c_model.write(foreign("character"), folder / "llama2c", version=version)
    return folder / "llama2c"


def tokenizer_json(folder: Path) -> Path:
    """A folder as Hugging Face has it, with no model."""
    (folder / "tokenizer-json").mkdir()
    tokenizer(folder / "made")
    shutil.copy(folder / "made" / "tokenizer.json", folder / "tokenizer-json")
    settings = {"eos_token": "<|endoftext|>", "bos_token": {"content": "<|im_start|>"}, "add_bos_token": True}
    (folder / "tokenizer-json" / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder / "tokenizer-json"


def sentencepiece_model(folder: Path, algorithm: str, **options: object) -> Path:
    """A ``.model`` file as ``spm_train`` writes it."""
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT.split("。")),
        model_writer=written,
        model_type=algorithm,
        minloglevel=2,
        **options,
    )
    (folder / "tokenizer.model").write_bytes(written.getvalue())
    return folder / "tokenizer.model"


def adapter_base() -> ModelConfig:
    """The model that the adapters below are for."""
    return model(300).config


def adapter() -> Adapter:
    """Factors for some of its tensors."""
    weights = model(300).state_dict()
    torch.manual_seed(1)
    names = [name for name in weights if ".attention." in name or ".gate." in name]
    return Adapter(
        {
            name: Factors(torch.randn(4, weights[name].shape[1]), torch.randn(weights[name].shape[0], 4), 0.5)
            for name in names
        }
    )


def foreign_adapter(folder: Path, kind: str) -> Path:
    """An adapter as another program has it."""
    adapters.write(adapter(), adapter_base(), kind, folder / kind)  # type: ignore[arg-type]
    return folder / kind


def adapter_folder(folder: Path) -> Path:
    """An adapter directory of ours."""
    base = adapter_directory.Base("0" * 64, "base", adapter_base())
    return adapter_directory.write(folder / "adapter", adapter(), base)


def torch_archive(folder: Path) -> Path:
    """A checkpoint of llama2.c's training script."""
    weights, blocks = model(300).state_dict(), {"attention_norm": "attention_norm", "ffn_norm": "mlp_norm"}
    blocks |= {
        f"attention.w{short}": f"attention.{name}"
        for short, name in {"q": "query", "k": "key", "v": "value", "o": "output"}.items()
    }
    blocks |= {f"feed_forward.w{i}": f"mlp.{name}" for i, name in ((1, "gate"), (2, "down"), (3, "up"))}
    names = {"tok_embeddings": "embedding", "norm": "norm", "output": "head"}
    names |= {
        f"layers.{i}.{theirs}": f"blocks.{i}.{ours}" for i in range(2) for theirs, ours in blocks.items()
    }
    state = {
        f"{theirs}.weight": weights.get(f"{ours}.weight", weights["embedding.weight"])
        for theirs, ours in names.items()
    }
    arguments = {"dim": 32, "n_layers": 2, "n_heads": 2, "n_kv_heads": 2, "max_seq_len": 32, "dropout": 0.0}
    torch.save({"model": state, "model_args": arguments, "iter_num": 5}, folder / "ckpt.pt")
    return folder / "ckpt.pt"


ROWS = [
    {"messages": [{"role": "user", "content": "云"}, {"role": "assistant", "content": "雨", "loss": False}]},
    {"instruction": "对下联：雪", "input": "", "output": "风", "history": [["天", "地"]], "kind": "对联"},
    {"prompt": "去", "chosen": "来", "rejected": "回", "score_chosen": 1.5},
    {"conversations": [{"from": "human", "value": "问"}, {"from": "gpt", "value": "答"}], "tools": "[]"},
    {"question": "一加一？", "A": "一", "B": "二", "answer": "B", "id": 7},
    {"title": "云对雨", "paragraphs": ["雪对风", "晚照对晴空"], "author": "车万育"},
    {"text": TEXT, "meta": {"a": [1, None, True]}},
]


def rows_file(folder: Path, name: str) -> Path:
    """Rows or texts in a file of this name."""
    import csv

    import zstandard

    path, buffer = folder / name, io.StringIO()
    if ".csv" in name:
        writer = csv.DictWriter(buffer, ["instruction", "output", "id"])
        writer.writeheader()
        writer.writerows({"instruction": f"问{i}，“云”", "output": "答\n雨", "id": i} for i in range(9))
    elif ".jsonl" in name:
        buffer.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS * 2))
    else:
        buffer.write(json.dumps(ROWS) if ".json" in name else TEXT)
    content = buffer.getvalue().encode("gb18030" if "gbk" in name else "utf-8")
    if name.endswith(".parquet"):
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table({"instruction": ["问"] * 9, "output": [f"答{i}" for i in range(9)]}), path)
        return path
    packed = {".gz": gzip.compress, ".zst": zstandard.compress}.get(path.suffix, bytes)
    path.write_bytes(packed(content))
    return path


def recipe_file(folder: Path) -> Path:
    """A recipe with most of its keys."""
    (folder / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    return folder / "recipe.toml"


RECIPE = """
budget = "15m"
samples = ["却说宝玉", "林黛玉"]
exports = ["gguf", "hf"]
[data]
sources = ["book.txt"]
documents = "chapter"
piece = "4k"
split = {validation = 0.1, test = 2, order = "last", seed = 3}
[tokenizer]
kind = "bpe"
vocab_size = 4096
[model]
family = "qwen3"
num_hidden_layers = 6
hidden_size = 192
num_attention_heads = 6
tie_word_embeddings = true
options = {rope_theta = 10000.0}
[train]
max_steps = 400
max_length = 128
per_device_train_batch_size = 16
max_grad_norm = 1.0
ema_decay = 0.99
optimizer = {kind = "muon", learning_rate = 0.02, betas = [0.8, 0.95]}
schedule = {kind = "wsd", warmup_ratio = 0.02, decay_ratio = 0.5}
"""


def template_file(folder: Path) -> Path:
    """A chat template with most of what they use."""
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    return folder / "chat_template.jinja"


TEMPLATE = """\
{%- set ns = namespace(system='', last=messages | length - 1) %}
{%- macro turn(role, text) %}{{ '<|im_start|>' ~ role ~ '\\n' ~ text | trim ~ '<|im_end|>\\n' }}{% endmacro %}
{%- for message in messages if message.role == 'system' %}{% set ns.system = ns.system + message.content %}
{%- endfor %}
{{- turn('system', ns.system or 'You are {}.'.format('helpful')) }}
{%- for message in messages[::-1] | reverse %}
{%- if message['role'] in ['user', 'assistant'] and not loop.first %}
{{- turn(message['role'], message['content'].split('</think>')[-1].lstrip('\\n')) }}
{%- if loop.index0 == ns.last and tools is defined and tools %}{{ tools | tojson(indent=2) }}{% endif %}
{%- elif message.role == 'tool' %}{{ raise_exception('no tools: %s' % message.role) }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
"""


def run_directory(folder: Path) -> Path:
    """What a run leaves behind, as far as reports read it."""
    from support.synthetic import make_run

    return make_run(folder / "run", steps=40)


FORMATS: dict[str, Callable[[Path], Path]] = {
    "checkpoint": checkpoint,
    "gguf": gguf,
    "gguf-experts": lambda folder: gguf(folder, "character", "Q8_0", family="deepseek-moe", num_experts=4),
    "gguf-gpt2": lambda folder: gguf(folder, "character", "F16", family="gpt2"),
    "hf": hf,
    "hf-experts": lambda folder: hf(folder, family="qwen3-moe", num_experts=4, tie_word_embeddings=False),
    "adapter": adapter_folder,
    "adapter-gguf": lambda folder: foreign_adapter(folder, "gguf-lora").rename(folder / "lora.gguf"),
    "adapter-ggla": lambda folder: foreign_adapter(folder, "ggla"),
    "adapter-peft": lambda folder: foreign_adapter(folder, "peft"),
    "sentencepiece-unigram": lambda folder: sentencepiece_model(folder, "unigram", vocab_size=40),
    "sentencepiece-bpe": lambda folder: sentencepiece_model(
        folder, "bpe", vocab_size=340, byte_fallback=True, normalization_rule_name="identity"
    ),
    "tokenizer-json": tokenizer_json,
    "llama2c-0": lambda folder: llama2c(folder, 0),
    "llama2c-1": lambda folder: llama2c(folder, 1),
    "llama2c-2": lambda folder: llama2c(folder, 2),
    "torch": torch_archive,
    "rows-jsonl": lambda folder: rows_file(folder, "rows.jsonl"),
    "rows-json": lambda folder: rows_file(folder, "rows.json"),
    "rows-csv": lambda folder: rows_file(folder, "rows.gbk.csv"),
    "rows-gz": lambda folder: rows_file(folder, "rows.jsonl.gz"),
    "rows-zst": lambda folder: rows_file(folder, "text.txt.zst"),
    "rows-parquet": lambda folder: rows_file(folder, "rows.parquet"),
    "rows-txt": lambda folder: rows_file(folder, "text.gbk.txt"),
    "recipe": recipe_file,
    "template": template_file,
    "run": run_directory,
}
"""What writes the whole file of a format into an empty folder."""
