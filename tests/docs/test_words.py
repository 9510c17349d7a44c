"""One word for one thing: pages and the program's texts keep to the glossary, and to the field's words."""

import ast
import re
from pathlib import Path

import pytest

from congling.core.renamed import RENAMED, Renamed

ROOT = Path(__file__).parents[2]
PAGES = {
    "en": [
        path
        for place in ("README.md", "docs/README.md", "docs/en/*.md", "examples/*.toml")
        for path in sorted(ROOT.glob(place))
    ],
    "zh": [
        path
        for place in ("README.zh-CN.md", "docs/README.zh-CN.md", "docs/zh/*.md")
        for path in sorted(ROOT.glob(place))
    ],
}
SOURCES = sorted((ROOT / "src/congling").rglob("*.py"))
EVERYWHERE = {  # what is not written in pages, docstrings and messages, and what is written instead
    r"\bproducts? of matri|\bmatrix products?\b|\bbf16 products?\b": "matrix multiplication",
    r"\bby heart\b": "memorise",
    r"\b(a|the|no|this|trained|learnt|better|likes) judges?\b|\bjudge's\b": "reward model",
    r"\bmarks? of (a|the) (chat )?template\b": "special token",
    r"\bcaged?\b": "sandbox",
    r"\bhand(s|ed|ing)? on\b": "result, export",
    r"\b(nats|bits) an? (\w+ )?(token|character|byte)\b": "per token, per character",
    r"\b(adds?|added|channels?|mean) (to|of) the stream\b": "residual stream",
    r"\bgives? way to\b": "is replaced by",
    r"\bweights of (now|the moment)\b": "current policy",
    r"\bleaving the base\b": "KL penalty",
    r"\b[\d.]+ [kM] values\b": "parameters",
    r"\btables? of vectors\b": "embedding",
    r"\b(a|the|each|every|first|last|best|third|held-out|earlier|no) looks?\b(?! (at|for))": "evaluation",
}
IN_PAGES = {
    r"\bpieces?\b": "token, n-gram, part",
    r"\bto go on\b|\bgoes on (after|from|where|with|to)\b|\bgone on\b": "resume, continue",
    r"\bprice\b": "penalty, cost",
    r"\blikelier\b|\blikeliest\b": "more probable, greedy",
    r"\bverbs?\b": "subcommand",
    r"\bbears?\b": "allow",
    r"\bof ours\b": "made here",
    r"\bthe stream\b": "residual stream",
}
IN_CHINESE = {
    "词元": "token",
    "动词": "子命令",
    "裁判": "奖励模型",
    "笼子": "沙箱",
    "附加项|附加依赖": "可选依赖",
    "随机线|瞎猜": "随机基线",
    "参照线": "参考线",
    "字对(?!得)": "双字",
    "留出的题目|留出的问题": "验证集提示",
    "查看时|一次查看": "评测",
    "背书|背下来|背诵": "死记、过拟合",
    "一动不动": "冻结",
    "付价|付的价": "惩罚",
    "点名": "指出",
    "毛病": "问题",
    "交付|交出": "结果",
    "外来": "外部",
    "遮去": "dropout",
    "样文": "样例",
    "老师": "教师",
    r"\d ?[kM] 个值|个值可学": "万参数",
}
TABLES = {  # of the page about other names: where a key stands, and the classes it belongs to
    "`[model]`": ("ModelRecipe",),
    "`[model.options]`": ("ModelRecipe.options",),
    "`[train]`": ("TrainConfig",),
    "`[train.optimizer]`": ("MuonConfig", "AdamWConfig"),
    "`[train.schedule]`": ("WSDConfig", "CosineConfig"),
    "`[adapter]`": ("AdapterConfig",),
    "`sft`": ("TuningRecipe", "SFTRecipe"),
    "`[preference]`": ("PreferenceConfig",),
    "`[reward]`": ("RewardConfig",),
    "`[rollout]`": ("RolloutConfig",),
    "`[grpo]`": ("PolicyConfig", "GRPOConfig"),
    "`[ppo]`": ("PolicyConfig", "PPOConfig"),
    "`[distill]`": ("DistillConfig",),
    "`prune`": ("Sizes",),
}
FILES = {
    "ModelConfig", "AttentionConfig", "GatedMLPConfig", "PlainMLPConfig", "MoEConfig", "SoftmaxRouterConfig",
    "SigmoidRouterConfig", "RMSNormConfig", "LayerNormConfig", "RotaryConfig", "LinearScaling",
    "Llama3Scaling", "ScaledNormalConfig", "SFTConfig",
}  # fmt: skip
"""Classes that nobody writes by hand: parts of ``model.json``, which is read by the same table."""


def name(path):
    return path.relative_to(ROOT).as_posix()


def prose(path):
    """A page without its programs, commands and names."""
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
    return " ".join(re.sub(r"`[^`\n]+`", "`…`", text).split())


def avoided(text, patterns):
    found = {
        (match[0], word) for pattern, word in patterns.items() for match in re.finditer(pattern, text, re.I)
    }
    return {f"{written!r}: write {word}" for written, word in found}


@pytest.mark.parametrize("page", PAGES["en"], ids=name)
def test_english_pages_use_the_words_of_the_field(page):
    assert avoided(prose(page), EVERYWHERE | IN_PAGES) == set()


@pytest.mark.parametrize("page", PAGES["zh"], ids=name)
def test_chinese_pages_use_the_words_of_the_field(page):
    assert avoided(prose(page), IN_CHINESE) == set()


@pytest.mark.parametrize(
    "package", sorted({path.relative_to(ROOT / "src/congling").parts[0] for path in SOURCES})
)
def test_docstrings_and_messages_use_the_words_of_the_field(package):
    wrong = {}
    for path in SOURCES:
        if path.relative_to(ROOT / "src/congling").parts[0] != package:
            continue
        texts = (
            node.value
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        )
        text = " ".join(" | ".join(texts).split())
        if found := avoided(re.sub(r"`[^`]+`|runs/judge", "`…`", text), EVERYWHERE):
            wrong[name(path)] = found
    assert wrong == {}


def glossary(language):
    text = (ROOT / f"docs/{language}/glossary.md").read_text(encoding="utf-8")
    return re.findall(r"^\| (?!-|term|术语)(.+?) \| (.+?) \| (.+) \|$", text, re.M)


def test_the_glossaries_name_the_same_terms_in_order():
    english, chinese = glossary("en"), glossary("zh")
    assert [row[:2] for row in english] == [row[:2] for row in chinese]
    terms = [row[0].lower() for row in english]
    assert terms == sorted(terms) and len(terms) == len(set(terms))


@pytest.mark.parametrize("language", PAGES)
def test_every_term_of_the_glossary_is_used(language):
    pages = (page for page in PAGES[language] if page.name != "glossary.md")
    text = " ".join(prose(page) for page in pages).lower()
    for row in glossary(language):
        words = re.split(r", |、", re.sub(r" \(.+\)", "", row[language == "zh"]).lower())
        assert any(word in text for word in words), row


def _now(found):
    """What a key is called now, as the page writes it."""
    if callable(found):
        return " / ".join(sorted({f"`{found({'family': family})}`" for family in ("qwen3", "qwen3-moe")}))
    new = found if isinstance(found, Renamed) else Renamed(found)
    values = ", ".join(f"`{old}` = `{str(value).lower()}`" for old, value in new.values.items())
    return f"`{new.name}`" + (f" ({values})" if values else "")


@pytest.mark.parametrize("language", PAGES)
def test_earlier_names_are_those_of_the_table_in_the_program(language):
    assert {kind for kinds in TABLES.values() for kind in kinds} | FILES == set(RENAMED)
    text = (ROOT / f"docs/{language}/coming-from.md").read_text(encoding="utf-8")
    for table, kinds in TABLES.items():
        keys = {old: new for kind in kinds for old, new in RENAMED[kind].items()}
        row = "; ".join(f"`{old}` → {_now(new)}" for old, new in keys.items())
        assert f"\n| {table} | {row} |\n" in text
