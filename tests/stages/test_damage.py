"""``damage`` as a person calls it: a table, a page, a document, and an exit status."""

import json
from pathlib import Path
from random import Random

import pytest
import typer

from congling.core import document
from congling.core.errors import UserError
from congling.methods import conversion
from congling.stages import damage
from support import tiny_checkpoint

LETTERS = "从零开始学而时习之不亦说乎云对雨雪风晚照晴空"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("damage")
    tiny_checkpoint.write(root / "base")
    conversion.run(root / "base", "gguf", root / "q4.gguf", type="Q4_0", verify=False)
    random = Random(1)
    text = "\n".join("".join(random.choices(LETTERS, k=60)) for _ in range(9))
    (root / "held.txt").write_text(text, encoding="utf-8")
    return root


def call(files: Path, **options: object) -> None:
    damage.command(files / "base", [files / "q4.gguf"], data=[str(files / "held.txt")], **options)  # type: ignore[arg-type]


def test_a_table_and_the_verdict_are_printed(files, capsys):
    call(files)
    told = capsys.readouterr().out
    for title in ("Damage", "Bits a weight", "One layer at a time", "By position", "What they write"):
        assert title in told
    assert "Matrices of" not in told
    assert "q4.gguf: " in told


def test_the_page_has_all_tables_and_both_charts(files, tmp_path, capsys):
    call(files, out=tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text("utf-8")
    assert "q4.gguf against base" in page
    assert "Matrices of q4.gguf" in page
    assert "‖W−Ŵ‖² / ‖W‖²" in page
    assert {file.name for file in (tmp_path / "page-charts").iterdir()} == {"layers.svg", "positions.svg"}
    assert "One layer at a time" in (tmp_path / "page.md").read_text("utf-8")
    with pytest.raises(UserError, match="exists"):
        call(files, out=tmp_path / "page.html")


def test_one_document_tells_the_same_twice(files, capsys):
    texts = []
    for _ in range(2):
        with document.only_document(True):
            call(files, as_json=True)
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]
    found = json.loads(texts[0])
    (model,) = found["models"]
    assert model["damage"]["kl"]["low"] < model["damage"]["kl"]["value"]
    assert model["verdict"] == "damaged"
    assert [layer["name"] for layer in model["layers"]["layers"]][1:3] == ["block 1", "block 2"]
    assert found["page"] is None
    assert found["weights"]["mlp"] > found["weights"]["attention"] > 0


def test_too_much_kl_is_an_exit_status(files, capsys):
    with pytest.raises(typer.Exit) as ended:
        call(files, layers=False, texts=False, most_kl=1e-6)
    assert ended.value.exit_code == 1
    assert "KL above 1e-06 nats per token: q4.gguf" in capsys.readouterr().err
    call(files, layers=False, texts=False, most_kl=1e6)
