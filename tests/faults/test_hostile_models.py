"""Models, adapters, tokenizers, rows and recipes made to break a reader: they load or give one clear error,
in a second, within the file's size and 64 MiB.

``CONGLING_FUZZ=20000`` tries so many mutants of each format instead of a few. A mutant that once did harm
stays in ``seeds/FORMAT/``.
"""

import hashlib
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.opening import Opener, Program, complaint, mutant_of, size_of
from support.victims import FORMATS, reseal

SEEDS = Path(__file__).parent / "seeds"
MUTANTS = int(os.environ.get("CONGLING_FUZZ", "100"))


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    started = Program(tmp_path_factory.mktemp("program"))
    yield started
    started.close()


@pytest.fixture(scope="module", params=sorted(FORMATS))
def opener(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, program: Program
) -> Opener:
    folder = tmp_path_factory.mktemp(request.param)
    whole = FORMATS[request.param](folder)
    reseal(folder)
    return Opener(program, request.param, whole)


def test_mutants(opener: Opener, tmp_path: Path) -> None:
    harmful: list[str] = []
    known: set[bytes] = set()
    for seed in range(MUTANTS):
        target = tmp_path / opener.whole.name
        mutant_of(opener.whole, target, random.Random(f"{opener.kind} {seed}"))
        answer = opener.open(target)
        wrong = complaint(answer, size_of(target), opener.kind)
        if wrong is not None:
            key = hashlib.sha256(wrong[-300:].encode()).digest()
            if key not in known:  # one mutant of a kind is enough to mend it
                harmful.append(f"seed {seed}: {wrong[-1500:]}")
            known.add(key)
            if kept := os.environ.get("CONGLING_FUZZ_KEEP"):
                place = Path(kept) / opener.kind / str(seed) / target.name
                place.parent.mkdir(parents=True, exist_ok=True)
                target.rename(place)
        shutil.rmtree(target, ignore_errors=True) if target.is_dir() else target.unlink(missing_ok=True)
    assert not harmful, f"{len(harmful)} kinds of harm in {MUTANTS} mutants\n\n" + "\n\n".join(harmful)


def test_mutants_that_did_harm_once(opener: Opener) -> None:
    for path in sorted((SEEDS / opener.kind).glob("*")):
        wrong = complaint(opener.open(path), size_of(path), opener.kind)
        assert wrong is None, f"{path.name}: {wrong}"
