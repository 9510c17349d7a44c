import errno
import json
import os
import subprocess
import sys
from pathlib import Path

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


def as_read(path):
    """All that an artifact says, or that it is refused."""
    try:
        found = artifact.opened(path, "shards", verify=True)
    except UserError:
        return None
    return found.kind, found.fingerprint, found.parents, found.files, found.facts


@pytest.mark.parametrize("bit", [0, 1, 5, 7])
def test_no_flip_in_a_manifest_is_believed(tmp_path, bit):
    parent = make(tmp_path / "parent", "other")
    make(tmp_path / "made", parents={"documents": parent}, facts={"tokens": 3, "chat": True, "share": 0.25})
    file = tmp_path / "made" / artifact.MANIFEST
    whole, content = as_read(tmp_path / "made"), file.read_bytes()
    for place in range(len(content)):
        flipped = bytearray(content)
        flipped[place] ^= 1 << bit
        file.write_bytes(flipped)
        assert as_read(tmp_path / "made") in (None, whole), f"byte {place}: {bytes(flipped)!r}"


def test_a_manifest_that_a_program_wrote_anew_is_read_and_its_files_are_checked(tmp_path):
    make(tmp_path / "made", facts={"step": 1})
    file = tmp_path / "made" / artifact.MANIFEST
    content = json.loads(file.read_text(encoding="utf-8"))
    content["facts"]["step"] = 2
    file.write_text(json.dumps(content), encoding="utf-8")
    assert artifact.opened(tmp_path / "made", "shards", verify=True).facts == {"step": 2}
    content["files"]["sub/a.txt"] = "0" * 64
    file.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(UserError, match="checksum"):
        artifact.opened(tmp_path / "made", "shards", verify=True)


@pytest.mark.parametrize("version", ["1e999", "9" * 5000, '"x"', "null", "[1]"])
def test_numbers_that_are_none_are_one_error(tmp_path, version):
    text = f'{{"kind": "shards", "format_version": {version}, "parents": {{}}, "files": {{}}}}'
    (tmp_path / artifact.MANIFEST).write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match="manifest cannot be read"):
        artifact.opened(tmp_path, "shards")


def test_a_listed_file_that_is_gone_is_noticed_before_anything_is_read(tmp_path):
    make(tmp_path / "made")
    (tmp_path / "made" / "sub" / "a.txt").unlink()
    with pytest.raises(UserError, match="missing"):
        artifact.opened(tmp_path / "made", "shards")


def test_links_are_followed_inside_a_directory_and_not_out_of_it(tmp_path):
    make(tmp_path / "made")
    file = tmp_path / "made" / "sub" / "a.txt"
    file.rename(tmp_path / "made" / "inside")
    file.symlink_to("../inside")
    assert (
        artifact.opened(tmp_path / "made", "shards", verify=True).checked("sub/a.txt").read_text() == "text"
    )
    (tmp_path / "made" / "inside").rename(tmp_path / "outside")  # the same content, so the checksum is right
    for target in (tmp_path / "outside", "../../outside"):
        file.unlink()
        file.symlink_to(target)
        with pytest.raises(UserError, match=r"leads out of this directory: 'sub/a\.txt'"):
            artifact.opened(tmp_path / "made", "shards")
    file.unlink()
    file.parent.rmdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "outside").rename(tmp_path / "elsewhere" / "a.txt")
    file.parent.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="leads out"):
        artifact.opened(tmp_path / "made", "shards")


def test_the_directory_itself_may_be_named_through_a_link(tmp_path):
    make(tmp_path / "made")
    (tmp_path / "link").symlink_to("made")
    assert artifact.opened(tmp_path / "link", "shards", verify=True).kind == "shards"


def test_a_copy_holds_what_the_manifest_lists_and_nothing_else(tmp_path):
    made = make(tmp_path / "made")
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "made" / "extra").symlink_to(tmp_path / "secret")
    artifact.copy(made, tmp_path / "copy")
    assert artifact.opened(tmp_path / "copy", "shards", verify=True).fingerprint == made.fingerprint
    assert not (tmp_path / "copy" / "extra").exists()
    (tmp_path / "made" / "sub" / "a.txt").write_text("tixt")
    with pytest.raises(UserError, match="checksum"):
        artifact.copy(made, tmp_path / "again")


def test_what_was_moved_aside_and_never_replaced_comes_back(tmp_path, capsys):
    old = make(tmp_path / "made")
    (tmp_path / "made").rename(tmp_path / ".made.old-999999999")
    assert artifact.opened(tmp_path / "made", "shards", verify=True).fingerprint == old.fingerprint
    assert "is back" in capsys.readouterr().err and [file.name for file in tmp_path.iterdir()] == ["made"]


def test_a_folder_that_may_not_be_entered_is_one_error(tmp_path, monkeypatch):
    make(tmp_path / "made")

    def denied(*_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(tmp_path / "made"))

    for method in ("is_file", "read_bytes"):
        with monkeypatch.context() as patched:
            patched.setattr(Path, method, denied)
            with pytest.raises(UserError, match="Permission denied"):
                artifact.exists(tmp_path / "made") if method == "is_file" else make_open(tmp_path / "made")


def make_open(path):
    return artifact.opened(path, "shards")
