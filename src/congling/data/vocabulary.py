"""A vocabulary learnt from a documents directory: from its training part, measured on the held-out one."""

from collections.abc import Iterator
from pathlib import Path

from congling.core import artifact
from congling.data.corpus import documents as read
from congling.data.split_files import Split
from congling.tokenizer.config import TokenizerConfig
from congling.tokenizer.training import Trained, train


def learn(
    documents: Path | str, out: Path | str, config: TokenizerConfig | None = None, *, overwrite: bool = False
) -> Trained:
    """Learn a tokenizer from the training documents and measure it on the held-out ones.

    Raises:
        UserError: the documents are missing or hold no text, or ``out`` exists.
    """
    parent = artifact.opened(documents, "documents")

    def texts(split: Split) -> Iterator[str]:
        return (document.text for document in read(documents, split))

    return train(
        config or TokenizerConfig(),
        lambda: texts("train"),
        out,
        parents={"documents": parent},
        held_out=lambda: texts("validation"),
        overwrite=overwrite,
    )
