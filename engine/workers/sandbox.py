"""Confinement of a worker that loads foreign weights or runs a package's own code (Linux: Landlock, then seccomp).

Consent is the gate, this is the belt: after :func:`confine` the process can read its interpreter, the libraries, the
package and the inputs, write its scratch folder, and reach no network. It needs no rights and no helper program, and it
cannot be undone. What is in force is reported, so that the package card and the job's log can say it plainly.

Sources: Linux kernel documentation, "Landlock: unprivileged access control" (user-space API, ABI 1 to 7) and "Seccomp
BPF"; system call numbers from the kernel's tables of x86-64 and arm64.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterable, List, Sequence, Tuple

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_RULE_PATH, _RULE_PORT = 1, 2

# Rights on files, by bit (ABI 1: 0..12, ABI 2: 13, ABI 3: 14, ABI 5: 15).
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_TRUNCATE, _IOCTL = 1 << 14, 1 << 15
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_FILE_RIGHTS = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL
_CONNECT_TCP = 1 << 1

# What Python, GDAL, PyTorch and CUDA read on any system; no user data lives there.
_SYSTEM_READ = (
    "/usr", "/lib", "/lib64", "/bin", "/opt/cuda", "/etc/ld.so.cache", "/etc/ssl", "/etc/localtime",
    "/etc/nsswitch.conf", "/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/driver/nvidia",
    "/proc/sys/vm", "/proc/sys/kernel", "/sys/devices", "/sys/fs/cgroup", "/sys/class", "/sys/module", "/sys/bus",
)  # fmt: skip
# Shared memory and devices, not a place for temporary files.
_DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random", "/dev/shm", "/dev/nvidia-uvm", "/dev/nvidiactl")  # noqa: S108  # nosec B108

# machine -> (audit architecture, {system call: number})
_CALLS: Dict[str, Tuple[int, Dict[str, int]]] = {
    "x86_64": (
        0xC000003E,
        {"socket": 41, "ptrace": 101, "mount": 165, "umount2": 166, "bpf": 321, "keyctl": 250, "add_key": 248,
         "request_key": 249, "kexec_load": 246, "init_module": 175, "finit_module": 313, "process_vm_readv": 310,
         "process_vm_writev": 311, "userfaultfd": 323, "perf_event_open": 298, "io_uring_setup": 425, "unshare": 272,
         "setns": 308},
    ),
    "aarch64": (
        0xC00000B7,
        {"socket": 198, "ptrace": 117, "mount": 40, "umount2": 39, "bpf": 280, "keyctl": 219, "add_key": 217,
         "request_key": 218, "kexec_load": 104, "init_module": 105, "finit_module": 273, "process_vm_readv": 270,
         "process_vm_writev": 271, "userfaultfd": 282, "perf_event_open": 241, "io_uring_setup": 425, "unshare": 97,
         "setns": 268},
    ),
}  # fmt: skip
_EPERM = 1
_AF_UNIX = 1


@dataclass(frozen=True)
class Protection:
    """What holds in this process.

    Attributes:
        files: True if only the allowed files can be reached.
        network: True if no network can be reached (or only the allowed TCP ports).
        sentence: the same for a person.
    """

    files: bool
    network: bool
    sentence: str


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("fd", ctypes.c_int32))


class _NetPort(ctypes.Structure):
    _fields_ = (("allowed", ctypes.c_uint64), ("port", ctypes.c_uint64))


def available() -> Protection:
    """Return what :func:`confine` would achieve on this system, without confining anything."""
    landlock = _landlock_abi()
    seccomp = sys.platform.startswith("linux") and platform.machine() in _CALLS
    return _protection(landlock, seccomp, ())


def confine(readable: Iterable[str], writable: Iterable[str], tcp_ports: Sequence[int] = ()) -> Protection:
    """Confine this process for the rest of its life.

    Args:
        readable: files and folders that may be read beside the interpreter and the system's libraries.
        writable: folders in which files may also be made, changed and removed.
        tcp_ports: ports that may still be connected to (a raster behind a URL); empty for no network at all.

    Returns:
        What is in force; nothing is, on a system that offers no such protection.
    """
    abi = _landlock_abi()
    if sys.platform.startswith("linux"):
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
            return _protection(0, False, tcp_ports)
        if abi:
            _restrict_files(libc, abi, [*_interpreter_paths(), *readable], list(writable), tcp_ports)
        filtered = _filter_calls(libc, sockets=bool(tcp_ports))
        return _protection(abi, filtered, tcp_ports)
    return _protection(0, False, tcp_ports)


def _protection(abi: int, filtered: bool, tcp_ports: Sequence[int]) -> Protection:
    files = abi > 0
    network = filtered and (not tcp_ports or abi >= 4)
    if not files and not network:
        return Protection(False, False, "This system offers no confinement: the code has all the rights that you have.")
    parts = []
    if files:
        parts.append("it reads only its libraries, the package and the inputs, and writes only its scratch folder")
    if network:
        ports = f" but TCP port {', '.join(map(str, tcp_ports))}" if tcp_ports else ""
        parts.append(f"it reaches no network{ports}")
    names = " and ".join(([f"Landlock (ABI {abi})"] if files else []) + (["seccomp"] if filtered else []))
    missing = "" if files and network else (" It can reach the network." if files else " It can read your files.")
    return Protection(files, network, f"Confined by {names}: {', and '.join(parts)}.{missing}")


def _landlock_abi() -> int:
    """Return the version of Landlock that the kernel offers, 0 for none."""
    if not sys.platform.startswith("linux"):
        return 0
    found = ctypes.CDLL(None, use_errno=True).syscall(_CREATE_RULESET, None, 0, 1)
    return max(0, int(found))


def _interpreter_paths() -> List[str]:
    """Return the folders of the interpreter, its packages and this one."""
    own = [sys.prefix, sys.base_prefix, sys.exec_prefix, *sysconfig.get_paths().values(), *sys.path]
    own.append(str(Path(__file__).resolve().parents[2]))
    return [str(Path(one).resolve()) for one in own if one]


def _restrict_files(
    libc: ctypes.CDLL, abi: int, readable: Sequence[str], writable: Sequence[str], tcp_ports: Sequence[int]
) -> None:
    """Enter a Landlock domain.

    Raises:
        OSError: the kernel refuses the rules although it offers Landlock.
    """
    handled = (1 << (13 if abi < 2 else 14 if abi < 3 else 15 if abi < 5 else 16)) - 1
    network = (1 << 2) - 1 if abi >= 4 else 0  # binding and connecting TCP sockets
    scoped = (1 << 2) - 1 if abi >= 6 else 0  # abstract UNIX sockets and signals to processes outside
    attributes = struct.pack("QQQ", handled, network, scoped)[: 8 if abi < 4 else 16 if abi < 6 else 24]
    ruleset = libc.syscall(_CREATE_RULESET, attributes, len(attributes), 0)
    if ruleset < 0:
        raise OSError(ctypes.get_errno(), "Landlock refused its rules")
    try:
        for path in dict.fromkeys([*_SYSTEM_READ, *readable]):
            _allow(libc, ruleset, path, _READ & handled)
        for path in [*_DEVICES, *map(str, Path("/dev").glob("nvidia[0-9]*")), *map(str, Path("/dev").glob("dri"))]:
            _allow(libc, ruleset, path, handled)
        for path in dict.fromkeys(writable):
            _allow(libc, ruleset, path, handled & ~_EXECUTE)
        for port in tcp_ports if network else ():
            rule = _NetPort(_CONNECT_TCP, port)
            libc.syscall(_ADD_RULE, ruleset, _RULE_PORT, ctypes.byref(rule), 0)
        if libc.syscall(_RESTRICT_SELF, ruleset, 0) != 0:
            raise OSError(ctypes.get_errno(), "Landlock could not be entered")
    finally:
        os.close(ruleset)


def _allow(libc: ctypes.CDLL, ruleset: int, path: str, rights: int) -> None:
    """Add a rule for a path; one that does not exist needs none."""
    try:
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not os.path.isdir(path):
            rights &= _FILE_RIGHTS
        rule = _PathBeneath(rights, handle)
        libc.syscall(_ADD_RULE, ruleset, _RULE_PATH, ctypes.byref(rule), 0)
    finally:
        os.close(handle)


def _filter_calls(libc: ctypes.CDLL, sockets: bool) -> bool:
    """Install a seccomp filter that answers EPERM to the listed calls; True if it is in force.

    ``sockets`` leaves internet sockets usable (Landlock then limits their TCP ports).
    """
    known = _CALLS.get(platform.machine())
    if known is None:
        return False
    architecture, calls = known
    # Classic BPF: load the word at k, jump if equal, return. Offsets are those of struct seccomp_data.
    load, equal, give = 0x20, 0x15, 0x06
    allow, deny, kill = 0x7FFF0000, 0x00050000 | _EPERM, 0x80000000
    program: List[Tuple[int, int, int, int]] = [(load, 0, 0, 4), (equal, 1, 0, architecture), (give, 0, 0, kill)]
    program.append((load, 0, 0, 0))
    for name, number in calls.items():
        if name == "socket":
            continue
        program += [(equal, 0, 1, number), (give, 0, 0, deny)]
    if not sockets:
        # socket(domain, ...): only AF_UNIX, which reaches no other machine.
        program += [(equal, 0, 3, calls["socket"]), (load, 0, 0, 16), (equal, 1, 0, _AF_UNIX), (give, 0, 0, deny)]
    program.append((give, 0, 0, allow))
    body = b"".join(struct.pack("HBBI", *one) for one in program)
    buffer = ctypes.create_string_buffer(body, len(body))
    header = struct.pack("HxxxxxxP", len(program), ctypes.addressof(buffer))
    return bool(libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, header, 0, 0) == 0)
