"""The one atomic write: the old content or the new one, whatever happens in between."""

import errno
import os

import pytest

from augcam.atomic import atomic_file, remove_leftovers, write_atomically


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_content_is_replaced_and_nothing_lies_beside_it(tmp_path):
    path = tmp_path / "new" / "metrics.json"
    write_atomically(path, "one")
    write_atomically(path, "ärger".encode())
    assert path.read_text(encoding="utf-8") == "ärger"
    assert names(path.parent) == ["metrics.json"]


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "full"), RuntimeError("x"), KeyboardInterrupt()]
)
def test_what_stops_half_way_leaves_the_old_content(tmp_path, error):
    path = tmp_path / "last.ckpt"
    write_atomically(path, "old")

    def half():
        with atomic_file(path) as file:
            file.write(b"ne")
            raise error

    with pytest.raises(type(error)):
        half()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["last.ckpt"]


def test_an_error_of_the_disk_names_the_file(tmp_path, monkeypatch):
    def full(_descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        write_atomically(tmp_path / "metrics.json", "new")
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(tmp_path / "metrics.json")
    assert names(tmp_path) == []


def test_the_content_is_on_the_disk_before_the_rename_and_the_folder_after_it(
    tmp_path, monkeypatch
):
    happened = []
    fsync, replace = os.fsync, os.replace

    def synced(descriptor):
        happened.append("folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file")  # noqa: PTH112
        fsync(descriptor)

    def renamed(source, target):
        happened.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    write_atomically(tmp_path / "metrics.json", "new")
    assert happened == ["file", "rename", "folder"]


@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
def test_the_content_before_is_kept_under_another_name(tmp_path, monkeypatch, links):
    if not links:
        monkeypatch.setattr(
            os, "link", lambda *_: (_ for _ in ()).throw(OSError(errno.EPERM, "no"))
        )
    last, previous = tmp_path / "last.ckpt", tmp_path / "previous.ckpt"
    for content in ("1", "2", "3"):
        with atomic_file(last, keep=previous) as file:
            file.write(content.encode())
    assert (last.read_text(), previous.read_text()) == ("3", "2")
    assert names(tmp_path) == ["last.ckpt", "previous.ckpt"]


def test_leftovers_of_killed_processes_are_removed_and_nothing_else(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    kept = ["metrics.json", ".lock", ".notes.txt", "checkpoints/last.ckpt", ".env.1", "a.json.7"]
    for name in [*kept, ".metrics.json.123", "checkpoints/.last.ckpt.4567"]:
        (tmp_path / name).write_text("x")
    remove_leftovers(tmp_path)
    left = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert left == set(kept)
