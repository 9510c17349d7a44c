"""Shared by all tests: one thread a process, the real corpora, the program as a person calls it."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

# No deadlines: a busy machine is no bug. CI tries the same examples every time.
settings.register_profile("desk", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "desk")


# Begun in the background, a shell lets us ignore what tests send to us and to the programs that they start.
for name, usual in (("SIGINT", signal.default_int_handler), ("SIGHUP", signal.SIG_DFL)):
    number = getattr(signal, name, None)
    if number is not None and signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, usual)

# Processes that tests start import what they share, as tests do: ``support``.
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, (str(Path(__file__).parent), os.environ.get("PYTHONPATH")))
)


@pytest.fixture(scope="session")
def corpora() -> Path:
    """Folder of real corpora named by CONGLING_CORPORA; a test that needs it is skipped without it."""
    folder = os.environ.get("CONGLING_CORPORA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("CONGLING_CORPORA names no folder of real corpora")
    return Path(folder)


Called = subprocess.CompletedProcess[str]


@pytest.fixture(scope="session")
def program() -> Path:
    """The installed program."""
    return Path(sys.executable).with_name("congling")


@pytest.fixture
def call(program: Path, tmp_path: Path) -> Callable[..., Called]:
    """Call ``congling`` with these arguments and return what it said."""

    def called(*arguments: str, **variables: str) -> Called:
        return subprocess.run(
            [str(program), *arguments],
            cwd=tmp_path,
            env={**os.environ, "COLUMNS": "80", "NO_COLOR": "1", **variables},
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=120,
            stdin=subprocess.DEVNULL,
            check=False,
        )

    return called


@pytest.fixture(scope="session")
def inputs(tmp_path_factory):
    """Thirty lines of eight characters, read, learnt and tokenised: what `pretrain` trains on."""
    from congling.data import corpus, shards
    from congling.data.config import DataConfig
    from congling.methods.inputs import open_inputs
    from congling.tokenizer import training
    from congling.tokenizer.config import TokenizerConfig

    root, draw = tmp_path_factory.mktemp("inputs"), random.Random(0)
    lines = ["".join(draw.choice("天地山水花鸟风月") for _ in range(40)) for _ in range(30)]
    (root / "text.txt").write_text("\n".join(lines), encoding="utf-8")
    corpus.make(DataConfig(sources=(str(root / "text.txt"),), documents="line"), root / "documents")

    def texts():
        return (document.text for document in corpus.documents(root / "documents", "train"))

    training.train(TokenizerConfig(kind="character"), texts, root / "tokenizer")
    shards.write(root / "documents", root / "tokenizer", root / "shards")
    return open_inputs(root / "shards", root / "tokenizer")
