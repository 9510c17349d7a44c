import json
import os
import subprocess
import sys

import pytest

from congling.core import artifact
from congling.core.errors import UserError


def make(path, text="text", **options):
    with artifact.writing(path, "shards", **options) as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "a.txt").write_text(text, encoding="utf-8")
    return artifact.opened(path, "shards", verify=True)


def test_written_then_opened(tmp_path):
    parent = make(tmp_path / "parent", "other")
    facts = {"tokens": 3}
    made = make(tmp_path / "made", parents={"documents": parent}, facts=facts)
    assert made.facts == facts
    assert made.parents == {"documents": parent.fingerprint}
    assert list(made.files) == ["sub/a.txt"]
    assert made.fingerprint != parent.fingerprint
    assert made.fingerprint == make(tmp_path / "again").fingerprint


def test_a_failure_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), artifact.writing(tmp_path / "made", "shards"):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_failed_overwrite_keeps_the_old(tmp_path):
    old = make(tmp_path / "made")
    with pytest.raises(RuntimeError), artifact.writing(tmp_path / "made", "shards", overwrite=True):
        raise RuntimeError
    assert artifact.opened(tmp_path / "made", "shards", verify=True).fingerprint == old.fingerprint
    assert make(tmp_path / "made", "new", overwrite=True).fingerprint != old.fingerprint
    assert len(list(tmp_path.iterdir())) == 1


def test_a_killed_writer_leaves_no_finished_directory(tmp_path):
    code = (
        "import os,signal,pathlib,sys\nfrom congling.core import artifact\n"
        "with artifact.writing(pathlib.Path(sys.argv[1]), 'shards') as folder:\n"
        "    (folder/'a').write_text('x')\n    os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "made")], check=False, env=os.environ)
    assert not artifact.exists(tmp_path / "made")
    assert make(tmp_path / "made").kind == "shards"


def test_existing_output_is_refused(tmp_path):
    make(tmp_path / "made")
    with pytest.raises(UserError, match="exists already"):
        make(tmp_path / "made")


@pytest.mark.parametrize(
    "damage", [lambda file: file.write_text("tex", encoding="utf-8"), lambda file: file.unlink()]
)
def test_damage_is_detected(tmp_path, damage):
    made = make(tmp_path / "made")
    damage(tmp_path / "made" / "sub" / "a.txt")
    with pytest.raises(UserError, match="missing|checksum"):
        made.verify()


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ("", "manifest cannot be read"),
        ("[1]", "manifest cannot be read"),
        ('{"kind": "shards", "format_version": "x", "parents": {}, "files": {}}', "manifest cannot be read"),
        ('{"kind": "run", "format_version": 1, "parents": {}, "files": {}}', "is a run directory"),
        ('{"kind": "shards", "format_version": 99, "parents": {}, "files": {}}', "newer congling"),
        ('{"kind": "shards", "format_version": 1, "parents": {}, "files": {"../x": "0"}}', "outside"),
        ("[" * 100_000, "manifest cannot be read"),
        (
            '{"kind": "shards", "format_version": 1, "parents": {}, "files": {}, "facts": 3}',
            "manifest cannot be read",
        ),
    ],
)
def test_hostile_manifests(tmp_path, manifest, message):
    (tmp_path / artifact.MANIFEST).write_text(manifest, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        artifact.opened(tmp_path, "shards")


def test_missing_directories(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        artifact.opened(tmp_path / "none", "shards")
    with pytest.raises(UserError, match="holds no finished shards"):
        artifact.opened(tmp_path, "shards")


def test_the_manifest_is_plain_json(tmp_path):
    make(tmp_path / "made")
    manifest = json.loads((tmp_path / "made" / artifact.MANIFEST).read_text(encoding="utf-8"))
    assert manifest["format_version"] == artifact.FORMAT_VERSION


def test_a_failure_leaves_no_empty_folders(tmp_path):
    for folder in (tmp_path / "runs" / "book", tmp_path):
        with pytest.raises(ZeroDivisionError), artifact.writing(folder / "made", "shards"):
            raise ZeroDivisionError
    assert tmp_path.is_dir() and not list(tmp_path.iterdir())
