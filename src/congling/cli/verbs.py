"""Every subcommand in a line, grouped by purpose; kept here so that help reads no other file."""

GROUPS: dict[str, dict[str, str]] = {
    "Train from texts": {
        "train": "From text files to a model with a report, in one command",
        "plan": "Show what a run will be and cost, before anything is trained",
        "data": "Inspect a corpus, make documents of it; generate rows of the small world",
        "tokenizer": "Train a tokenizer on documents",
        "tokenize": "Turn documents into token files",
        "pretrain": "Train on token files, from random weights or a checkpoint",
        "distill": "Train a small model on the probabilities of a larger one",
    },
    "Fine-tune a model": {
        "sft": "Supervised fine-tuning, LoRA or full, on questions and answers or texts",
        "dpo": "Train on preferences: DPO, IPO, ORPO, SimPO, KTO",
        "reward": "Train a reward model on preferences",
        "grpo": "Reinforcement learning: answers are compared with each other",
        "ppo": "Reinforcement learning with a value head",
        "pairs": "Sample preference pairs from a model",
        "prune": "Structured pruning: make a smaller model of a trained one",
        "quantize": "Put a trained model in fewer bits: GPTQ, AWQ, LLM.int8, …",
        "extend": "Let a model read longer texts than it was trained on",
    },
    "Use and evaluate": {
        "generate": "Continue a text with a trained model",
        "chat": "Talk to a trained model",
        "eval": "Evaluate a model on held-out text, or by tasks",
        "explain": "Say what a finished run means: symptom, cause, cure",
        "report": "Write the report page of a run",
        "compare": "Set runs side by side",
        "damage": "Say what a quantised model lost, and which layer lost it",
    },
    "Export and import": {
        "convert": "Export a model or adapter to llama.cpp, Hugging Face, llama2.c, Ollama",
        "import": "Import a model of another program",
    },
    "Manage runs and the installation": {
        "runs": "List the runs in a folder",
        "clean": "Show what can be removed, and remove it",
        "doctor": "Say what is wrong with this installation, and what mends it",
        "completion": "Let the shell complete subcommands, options and keys",
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
