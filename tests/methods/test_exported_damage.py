"""What an export lost, in card and JSON: the numbers of ``damage`` on the same tokens; or a command."""

import json
import shutil
from pathlib import Path
from random import Random

import pytest
from typer.testing import CliRunner

from congling.cli import application
from congling.core.document import plain
from congling.core.errors import Interrupted
from congling.data import corpus, shards
from congling.data.config import DataConfig, SplitConfig
from congling.methods import conversion, exported_damage, quantize
from congling.methods.conversion import Conversion
from congling.methods.damage import Settings, run
from support import tiny_checkpoint

LETTERS = "从零开始学而时习之不亦说乎云对雨雪风晚照晴空"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base with shards beside it, and what was made of it in four bits."""
    folder = tmp_path_factory.mktemp("exported") / "book"
    tiny_checkpoint.write(folder / "run" / "base")
    random = Random(0)
    lines = ["".join(random.choices(LETTERS, k=60)) for _ in range(60)]
    (folder / "lines.txt").write_text("\n".join(lines), encoding="utf-8")
    config = DataConfig(
        sources=(str(folder / "lines.txt"),),
        documents="line",
        overlap=1.0,
        split=SplitConfig(validation=0.3),
    )
    corpus.make(config, folder / "documents")
    shards.write(folder / "documents", folder / "run" / "base" / "tokenizer", folder / "shards")
    quantize.run(folder / "run" / "base", folder / "q", quantize.chosen("rtn", ["bits=4"]))
    return folder


def expected(root: Path, quantised: Path) -> dict:
    settings = Settings(limit_tokens=exported_damage.TOKENS, layers=False, texts=False)
    return plain(run(root / "run" / "base", [quantised], settings).models[0].damage)


def told(done: Conversion) -> dict:
    place = done.path / "parity.json" if done.path.is_dir() else Path(f"{done.path}.parity.json")
    return json.loads(place.read_text(encoding="utf-8"))["damage"]


def test_a_file_says_what_damage_finds_on_the_same_tokens(root: Path, tmp_path: Path):
    words = ["convert", str(root / "run" / "base"), "--to", "gguf", "--type", "Q4_0", "--json"]
    done = CliRunner().invoke(application(words), [*words, "--out", str(tmp_path / "q4.gguf")])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)["damage"]
    known = expected(root, tmp_path / "q4.gguf")
    assert {name: found[name] for name in known} == known
    assert known["kl"]["value"] > 0 and found["tokens"] == known["kl"]["n"] > 256
    assert "split of book/shards, in windows of 64" in found["text"] and str(root) not in found["text"]
    assert json.loads((tmp_path / "q4.gguf.parity.json").read_text(encoding="utf-8"))["damage"] == found
    shown = CliRunner().invoke(application(words), [*words[:-1], "--out", str(tmp_path / "again.gguf")])
    assert f"damage: on {found['text']}" in shown.output.replace("\n", " ")
    assert shown.output.rstrip().endswith(
        f"congling damage {root / 'run' / 'base'} {tmp_path / 'again.gguf'}"
    )


@pytest.mark.parametrize("type", ["gptq", "awq"])
def test_the_card_of_a_folder_says_it_of_the_model_it_was_quantised_from(
    root: Path, tmp_path: Path, type: str
):
    done = conversion.run(root / "q", "hf", tmp_path / "folder", type=type)
    assert done.damage is not None and done.next[-1].startswith("congling damage ")
    known = expected(root, root / "q")
    assert told(done)["kl"]["value"] == pytest.approx(known["kl"]["value"], rel=1e-4)
    assert told(done)["nats"]["value"] == pytest.approx(known["nats"]["value"], rel=1e-3, abs=1e-6)
    assert told(done)["agreement"]["value"] == pytest.approx(known["agreement"]["value"])
    card = (done.path / "README.md").read_text(encoding="utf-8")
    assert done.damage.line in card and "no result is recorded here" not in card.partition("## Use")[0]
    assert done.damage.damage.verdict in card and str(root) not in card


def test_codes_kept_in_a_file_are_measured_against_what_they_were_made_of(root: Path, tmp_path: Path):
    done = conversion.run(root / "q", "gguf", tmp_path / "q.gguf")
    assert told(done)["kl"]["value"] == pytest.approx(expected(root, root / "q")["kl"]["value"], rel=1e-3)


def test_without_shards_or_the_base_there_is_a_command(root: Path, tmp_path: Path):
    alone = tiny_checkpoint.write(tmp_path / "deep" / "run" / "base")
    made = conversion.run(alone, "gguf", tmp_path / "a.gguf", type="Q4_0")
    assert made.damage is None
    assert made.next[-1] == f"congling damage {alone} {made.path} --data TEXT"
    quantize.run(alone, tmp_path / "q", quantize.chosen("rtn", ["bits=4"]))
    shutil.rmtree(alone)
    gone = conversion.run(tmp_path / "q", "hf", tmp_path / "folder", type="gptq")
    assert gone.damage is None
    assert gone.next[-1] == f"congling damage BASE {tmp_path / 'q'} --data TEXT"
    assert "no result is recorded here" in (gone.path / "README.md").read_text().partition("## Use")[0]


def test_another_model_in_the_place_of_the_base_is_not_taken_for_it(tmp_path: Path):
    base = tiny_checkpoint.write(tmp_path / "base")
    quantize.run(base, tmp_path / "q", quantize.chosen("rtn", ["bits=4"]))
    source = conversion.source_of(tmp_path / "q")
    assert exported_damage.base_of(source) == base
    shutil.rmtree(base)
    tiny_checkpoint.write(base, hidden_size=32)
    assert exported_damage.base_of(source) is None


def test_nothing_is_measured_where_it_was_not_asked_for_or_takes_long(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    base = root / "run" / "base"
    plain_export = conversion.run(base, "gguf", tmp_path / "f16.gguf", type="F16")
    assert plain_export.damage is None and not any("damage" in line for line in plain_export.next)
    silent = conversion.run(base, "gguf", tmp_path / "a.gguf", type="Q4_0", verify=False)
    assert silent.damage is None and not Path(f"{silent.path}.parity.json").exists()
    assert silent.next[-1] == f"congling damage {base} {silent.path}"
    monkeypatch.setattr(exported_damage, "MOST_SECONDS", 0.0)
    slow = conversion.run(base, "gguf", tmp_path / "b.gguf", type="Q4_0")
    assert slow.damage is None and slow.next[-1] == f"congling damage {base} {slow.path}"


def test_what_cannot_be_measured_is_said_and_the_export_stays(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    base = root / "run" / "base"
    monkeypatch.setattr("congling.evals.damage.FEWEST_TOKENS", 10**6)
    done = conversion.run(base, "gguf", tmp_path / "a.gguf", type="Q4_0")
    assert "was not measured: the held-out text is too short" in done.notes[-1] and done.path.is_file()

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(exported_damage, "load_checkpoint", stop)
    with pytest.raises(Interrupted, match="is written, but what its fewer bits cost was not measured"):
        conversion.run(base, "gguf", tmp_path / "b.gguf", type="Q4_0")
