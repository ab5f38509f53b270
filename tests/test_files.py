"""Files that appear whole or not at all, one process at a time, and the places at which tests end a process."""

import errno
import os
import stat

import pytest

from temporal import _files
from temporal._failpoints import failpoint
from temporal._files import leftovers, lock, write_atomically


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_and_the_one_before_kept(tmp_path):
    file, before = tmp_path / "a.txt", tmp_path / "before.txt"
    for content in (b"one", b"two", b"three"):
        write_atomically(file, lambda opened, content=content: opened.write(content), keep=before)
    assert file.read_bytes() == b"three" and before.read_bytes() == b"two"
    assert names(tmp_path) == ["a.txt", "before.txt"]


def test_file_and_folder_are_on_the_disk_before_it_returns(tmp_path, monkeypatch):
    """In this order: the content, the new name, the folder that holds the name."""
    order = []
    sync, rename = os.fsync, os.replace

    def fsync(opened):
        order.append("folder" if stat.S_ISDIR(os.fstat(opened).st_mode) else "file")
        sync(opened)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", lambda a, b: (order.append("rename"), rename(a, b)))
    write_atomically(tmp_path / "a.txt", lambda opened: opened.write(b"one"))
    assert order == ["file", "rename", "folder"]


@pytest.mark.parametrize("place", ["write a.txt", "written a.txt", "kept a.txt"])
def test_no_room_keeps_what_is_there(tmp_path, monkeypatch, place):
    file, before = tmp_path / "a.txt", tmp_path / "before.txt"
    write_atomically(file, lambda opened: opened.write(b"one"))
    monkeypatch.setenv("TEMPORAL_FAILPOINT", f"full {place} 1")
    with pytest.raises(OSError, match=r"a.txt: cannot be written \(No space left on device\)") as refused:
        write_atomically(file, lambda opened: opened.write(b"two" * 10000), keep=before)
    assert refused.value.errno == errno.ENOSPC
    kept = before if place.startswith("kept") else file
    assert kept.read_bytes() == b"one" and names(tmp_path) == [kept.name]
    write_atomically(file, lambda opened: opened.write(b"two"))  # the failpoint was for one time
    assert file.read_bytes() == b"two"


def test_what_is_no_file_is_not_replaced(tmp_path):
    """A device above all: renaming a file over /dev/null, as root, would take it from everybody."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises(ValueError, match=f"{name}: is not a file"):
            write_atomically(tmp_path / name, lambda opened: opened.write(b"one"))
    assert names(tmp_path) == ["folder", "pipe"]
    with pytest.raises(FileNotFoundError, match=r"nowhere/a.txt: cannot be written \(No such file or directory\)"):
        write_atomically(tmp_path / "nowhere" / "a.txt", lambda opened: opened.write(b"one"))


def test_leftovers_are_those_of_processes(tmp_path):
    for name in (".a.txt.123", ".a.txt", "a.txt.123", ".hidden"):
        (tmp_path / name).touch()
    assert [path.name for path in leftovers(tmp_path)] == [".a.txt.123"]


def test_a_lock_is_one_holders(tmp_path, monkeypatch):
    with open(tmp_path / "lock", "wb") as first, open(tmp_path / "lock", "wb") as second:
        assert lock(first) and not lock(second)
        first.close()
        assert lock(second)

    class WithoutLocks:
        LOCK_EX = LOCK_NB = 0

        def flock(self, file, how):
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(_files, "fcntl", WithoutLocks())  # as some network file systems are mounted
    with open(tmp_path / "lock", "wb") as file:
        assert lock(file)


def test_a_failpoint_acts_when_its_time_has_come(tmp_path, monkeypatch):
    failpoint("somewhere")  # nothing is set
    monkeypatch.setenv("TEMPORAL_FAILPOINT", "full here 2+")
    failpoint("there"), failpoint("here")
    for _ in range(2):
        with pytest.raises(OSError, match="No space left"):
            failpoint("here")
    monkeypatch.setenv("TEMPORAL_FAILPOINT", f"trace {tmp_path / 'places'}")
    failpoint("here"), failpoint("there")
    assert (tmp_path / "places").read_text() == "here\nthere\n"
