"""Every verb in a line, grouped by what a person wants; kept here so that help reads no other file."""

GROUPS: dict[str, dict[str, str]] = {
    "Train from texts": {
        "train": "From text files to a model with a report, in one command",
        "plan": "Show what a run will be and cost, before anything is trained",
        "data": "Look at a corpus, make documents of it; make rows to practise on",
        "tokenizer": "Learn a vocabulary from documents",
        "tokenize": "Turn documents into token files",
        "pretrain": "Train on token files, from random weights or a checkpoint",
        "distill": "Train a small model to say what a larger one would",
    },
    "Tune a model": {
        "sft": "Train on questions and answers, or on texts; an adapter, or all of it",
        "dpo": "Train on preferences: DPO, IPO, ORPO, SimPO, KTO",
        "reward": "Train a reward model on preferences",
        "grpo": "Train on rewards, answers compared with each other",
        "ppo": "Train on rewards, with a value head",
        "pairs": "Make preferences of a model's own answers",
        "prune": "Make a smaller model of a trained one",
    },
    "Use it and look at it": {
        "generate": "Continue a text with a trained model",
        "chat": "Talk to a trained model",
        "eval": "Score a model on held-out text, or by tasks",
        "explain": "Say what a finished run means: symptom, cause, cure",
        "report": "Write the report page of a run",
        "compare": "Set runs side by side",
    },
    "Take it away, bring one here": {
        "convert": "Take a model or adapter to llama.cpp, Hugging Face, llama2.c, Ollama",
        "import": "Bring a model of another program here",
    },
    "Keep house": {
        "runs": "List the runs in a folder",
        "clean": "Show what can be removed, and remove it",
        "doctor": "Say what is wrong with this installation, and what mends it",
        "completion": "Let the shell complete verbs, options and keys",
    },
    "As llama.cpp's former trainers": {
        "train-text-from-scratch": "Train a llama model from random weights",
        "finetune": "Train an adapter on a GGUF model",
        "export-lora": "Merge adapters into a GGUF model",
    },
}
VERBS = {name: line for group in GROUPS.values() for name, line in group.items()}


def module_of(verb: str) -> str:
    """The module of a verb's stage; a verb that is a word of Python has an underscore behind it."""
    return "congling.stages." + verb.replace("-", "_") + ("_" if verb == "import" else "")
