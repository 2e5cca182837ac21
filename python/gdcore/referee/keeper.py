"""Starts a kernel's process with as few rights as the system lets it take away, and waits for it.

It is run as a script by a Python without packages, so it imports the standard library alone. What
could not be done is written, as sentences, to the descriptor `status`.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import select
import shutil
import signal
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, NoReturn

_IS_LINUX = sys.platform == "linux"
_NEWNS, _NEWIPC, _NEWUSER, _NEWPID, _NEWNET = (
    0x00020000,
    0x08000000,
    0x10000000,
    0x20000000,
    0x40000000,
)
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_BIND, _MS_REC, _MS_PRIVATE = 1, 2, 4, 4096, 16384, 1 << 18
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_CAPBSET_DROP = 1, 4, 24
_PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 36, 38
_SYS_MOUNT_SETATTR, _AT_RECURSIVE, _AT_FDCWD = 442, 0x8000, -100
_USERS = (61184, 65519)  # numbers that systemd, too, gives to services without a user of their own
_CPU_SECONDS = 3600
_FILES = 512
_POOLS = 4  # threads for each processor, which count as processes: libraries start them unasked
_PERSISTENCE = 10.0  # seconds
_DEPTH, _ENTRIES = 8, 1000  # closed directories on a path, and entries of one

_APART = {
    _NEWPID: "it shares process numbers with other programs, and may signal those of its user",
    _NEWNET: "it may use the network",
    _NEWIPC: "it may use System V memory of its user",
}
_WITH_FILES = "it sees all files that its user may read, and may write those that its user may"


class _MountAttributes(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "userns")]


def main(config: dict[str, Any]) -> NoReturn:
    """Start the process that `config` describes, and end when it has ended or the parent has."""
    said: list[str] = []
    apart = _separate(said) if _IS_LINUX else 0
    if not _IS_LINUX:
        said.append("memory, files and other processes are not kept from it on this system")
    if _IS_LINUX:
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        _prctl(_PR_SET_DUMPABLE, 0)  # what it starts may be of the same user
    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    pid = os.fork()
    if not pid:
        try:
            _become(config, apart, said)
        except BaseException as error:
            _say(config, {"failed": f"{type(error).__name__}: {error}"})
        os._exit(127)
    for each in config["pass"]:
        os.close(each)
    _say(config, {"worker": pid, "own_pids": bool(apart & _NEWPID)})
    _wait(config, pid, wake)
    _kill_children(pid)
    shutil.rmtree(config["folder"], ignore_errors=True)  # the parent may not be there to do so
    os._exit(0)


def _say(config: dict[str, Any], message: dict[str, Any]) -> None:
    with suppress(OSError):
        os.write(config["status"], json.dumps(message).encode() + b"\n")


def _wait(config: dict[str, Any], pid: int, wake: int) -> None:
    """Say how the process ended, and wait until the parent has closed its end of `life`."""
    while True:
        for ended, status in _ended():
            if ended == pid:
                _say(config, {"status": status})
        ready = select.select([config["life"], wake], [], [])[0]
        if config["life"] in ready:
            return
        os.read(wake, 512)


def _ended() -> Iterator[tuple[int, int]]:
    """Yield the children that have ended, with how."""
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            yield pid, status


def _kill_children(pid: int) -> None:
    """Kill all children, then those that these leave to this process, until there are none."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    end = time.monotonic() + _PERSISTENCE
    while time.monotonic() < end:
        list(_ended())
        try:
            with open(f"/proc/self/task/{os.getpid()}/children") as file:
                children = file.read().split()
        except OSError:
            return
        if not children:
            return
        for child in map(int, children):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(child, signal.SIGKILL)


def _separate(said: list[str]) -> int:
    """Give what is started from now on namespaces of its own; return which."""
    flags = _NEWPID | _NEWNET | _NEWIPC
    if os.geteuid():
        user, group = os.geteuid(), os.getegid()
        if _libc("unshare", _NEWUSER | flags):
            said.extend(_APART.values())
            return 0
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{user} {user} 1"),
            ("gid_map", f"{group} {group} 1"),
        ):
            with suppress(OSError), open(f"/proc/self/{name}", "w") as file:
                file.write(text)
        return flags
    apart = 0
    for flag, lack in _APART.items():
        if _libc("unshare", flag):
            said.append(lack)
        else:
            apart |= flag
    return apart


def _become(config: dict[str, Any], apart: int, said: list[str]) -> None:
    """Take rights away from this process, and run the kernel's Python in it."""
    os.setsid()
    if not os.geteuid():
        with suppress(OSError):
            os.setgroups([])
    if _IS_LINUX and not _libc("unshare", _NEWNS):
        _close_files(config, apart, said)
    else:
        said.append(_WITH_FILES)
        said += [f"it may read {path}" for path in config["hidden"]]
    os.chdir(config["folder"])
    _limit(config, said)
    if _IS_LINUX:
        _become_nobody(config, said)
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    for each in config["pass"]:
        os.set_inheritable(each, True)
    _say(config, {"limits": said})
    os.set_inheritable(config["status"], False)
    os.set_inheritable(config["life"], False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
    os.execve(config["command"][0], config["command"], config["environment"])


def _close_files(config: dict[str, Any], apart: int, said: list[str]) -> None:
    """Make all file systems read-only but a folder in memory; hide some files."""
    _mount(None, "/", None, _MS_REC | _MS_PRIVATE)
    attributes = _MountAttributes(set=_MS_RDONLY)
    if _libc(
        "syscall", _SYS_MOUNT_SETATTR, _AT_FDCWD, b"/", _AT_RECURSIVE,
        ctypes.byref(attributes), ctypes.sizeof(attributes),
    ):  # fmt: skip
        said.append("it may write files that its user may write")
    for path in config["hidden"]:
        if _mount("/dev/null", path, None, _MS_BIND):
            said.append(f"it may read {path}")
    room = f"size={config['room']},mode=1777"
    if _mount("tmpfs", config["folder"], "tmpfs", _MS_NOSUID | _MS_NODEV, room):
        said.append("its temporary files are on the disk")
    if os.path.isdir("/dev/shm") and _mount("tmpfs", "/dev/shm", "tmpfs", _MS_NOSUID, room):
        said.append("it sees shared memory with a name")
    reachable = not os.geteuid() and not _obstacle(config["folder"], _user(config))[1]
    if reachable:  # else the folder would be covered with what is below a closed directory
        for path in config["readable"]:
            with suppress(OSError):  # what stays covered is found later
                _uncover(path, _user(config), config["folder"])
    if apart & _NEWPID and _mount("proc", "/proc", "proc", 0):
        said.append("it sees the names of other processes")


def _uncover(path: str, user: int, folder: str) -> None:
    """Let another user reach a file below directories that are closed to others.

    An empty directory takes the place of the closed one, with what is needed of it and no more.
    """
    for _ in range(_DEPTH):
        if _readable_to(user, path):
            return
        real = os.path.realpath(path)
        closed, name = _obstacle(real, user)
        if closed == real:
            _copy_over(real, folder)
            return
        is_parent = os.path.join(closed, name) == real
        names = os.listdir(closed) if is_parent else [name]  # a file beside its modules
        if len(names) > _ENTRIES or _replaced(closed, names):
            return


def _obstacle(path: str, user: int) -> tuple[str, str]:
    """Return the first directory on a path that is closed, and what comes after it."""
    at = "/"
    for name in path.strip("/").split("/"):
        if not _may(user, _is_open, at):
            return at, name
        at = os.path.join(at, name)
    return path, ""


def _is_open(directory: str) -> bool:
    return os.access(directory, os.X_OK, effective_ids=True)


def _replaced(closed: str, names: list[str]) -> int:
    """Mount an empty directory over a closed one, and mount some of its entries in it."""
    entries = [(name, os.open(f"{closed}/{name}", os.O_PATH | os.O_NOFOLLOW)) for name in names]
    failed = _mount("tmpfs", closed, "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=755")
    for name, entry in entries:
        here, there = f"/proc/self/fd/{entry}", f"{closed}/{name}"
        if not failed and stat.S_ISLNK(os.fstat(entry).st_mode):
            os.symlink(os.readlink("", dir_fd=entry), there)
        elif not failed:
            os.mkdir(there) if stat.S_ISDIR(os.fstat(entry).st_mode) else os.mknod(there)
            failed = _mount(here, there, None, _MS_BIND | _MS_REC)
        os.close(entry)
    return failed


def _copy_over(path: str, folder: str) -> None:
    """Put a copy that all may read in the place of a file."""
    copy = f"{folder}/{abs(hash(path))}"
    shutil.copyfile(path, copy)
    os.chmod(copy, 0o444)
    _mount(copy, path, None, _MS_BIND)


def _limit(config: dict[str, Any], said: list[str]) -> None:
    """Set limits that the kernel's process cannot raise."""
    limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: config["file_size"],
        resource.RLIMIT_CPU: _CPU_SECONDS,
        resource.RLIMIT_NOFILE: _FILES,
        resource.RLIMIT_NPROC: config["processes"]
        + config["others"]
        + _POOLS * (os.cpu_count() or 1),
    }
    for kind, most in limits.items():
        before = resource.getrlimit(kind)[1]
        if before != resource.RLIM_INFINITY:
            most = min(most, before)
        try:
            resource.setrlimit(kind, (most, most))
        except (OSError, ValueError) as error:
            said.append(f"limit {kind} of the system could not be set: {error}")


def _become_nobody(config: dict[str, Any], said: list[str]) -> None:
    """Change to a user that owns nothing, if this is root; drop all that root may do anyway."""
    if os.geteuid():
        return
    for capability in range(64):
        _prctl(_PR_CAPBSET_DROP, capability)  # else a program run by root has them all again
    user = _user(config)
    hidden = [path for path in config["readable"] if not _readable_to(user, path)]
    if hidden:
        said.append(f"it runs as root, without root's rights: others may not read {hidden[0]}")
        return
    try:
        os.chown(config["folder"], user, user)
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    except OSError as error:
        said.append(f"it runs as root, without root's rights: {error.strerror}")


def _user(config: dict[str, Any]) -> int:
    first, last = _USERS
    return int(first + config["number"] % (last - first))


def _readable_to(user: int, path: str) -> bool:
    def opened() -> bool:
        try:
            os.close(os.open(path, os.O_RDONLY))
        except OSError:
            return False
        return True

    return _may(user, opened)


def _may(user: int, question: Callable[..., bool], *arguments: Any) -> bool:
    """Return an answer as another user gets it; False if this process cannot become that user."""
    try:
        os.setegid(user)
        os.seteuid(user)
        return question(*arguments)
    except OSError:
        return False
    finally:
        os.seteuid(0)
        os.setegid(0)


def _prctl(option: int, value: int) -> None:
    _libc("prctl", option, value, 0, 0, 0)


def _mount(source: str | None, target: str, kind: str | None, flags: int, data: str = "") -> int:
    texts = [text.encode() if text is not None else None for text in (source, target, kind)]
    return _libc("mount", *texts, ctypes.c_ulong(flags), data.encode() or None)


def _libc(name: str, *arguments: Any) -> int:
    """Call a function of the C library; return its result, which is 0 where it worked."""
    return int(getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
