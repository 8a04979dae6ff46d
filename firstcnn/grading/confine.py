"""A process gives up what it may do, for good, before it runs code that nobody trusts.

Namespaces say what a process can see; this module says what it can do with it: no
capabilities and no way to get any, no system calls but those that ordinary programs need,
limits on what it takes. It is used by processes that are about to become a student's kernel
or a judge, forked from the nursery (`firstcnn.grading.nursery`) or from the sandbox's keeper
(`firstcnn.grading.keeper`), and imports the standard library only.

Every step that fails raises: a process that cannot be confined must not go on.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import resource
import signal
import struct
from collections.abc import Sequence

_libc = ctypes.CDLL(None, use_errno=True)

#: The user id that a confined process sees itself have.
STUDENT = 1000

# ---- <linux/sched.h>, <linux/prctl.h>, <linux/securebits.h>, <linux/capability.h> --------------

CLONE_NEWTIME = 0x00000080
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
_NAMESPACES = (
    CLONE_NEWNS
    | CLONE_NEWCGROUP
    | CLONE_NEWUTS
    | CLONE_NEWIPC
    | CLONE_NEWUSER
    | CLONE_NEWPID
    | CLONE_NEWNET
)

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_CAPBSET_DROP = 24
_PR_SET_SECUREBITS = 28
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
# Being user 0 gives no capabilities, changing the user neither, none can be made ambient; and
# each of these, like KEEP_CAPS, can never be changed again.
_SECUREBITS = 0b1110_1111
_CAPABILITY_VERSION_3 = 0x20080522


def _call(name: str, *arguments: int | bytes | None) -> int:
    """Call a function of the C library; raise OSError where it fails."""
    made = [
        ctypes.c_long(argument) if isinstance(argument, int) else argument for argument in arguments
    ]
    result = getattr(_libc, name)(*made)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result


def prctl(option: int, *arguments: int) -> int:
    """Call prctl(2), whose arguments that are not used must be 0."""
    return _call("prctl", option, *arguments, *[0] * (4 - len(arguments)))


def die_with_parent(number: int = signal.SIGKILL) -> None:
    """Have the system end this process when its parent ends, however that happens.

    To be called again after each change of user or capabilities, which undoes it.
    """
    prctl(_PR_SET_PDEATHSIG, number)


def mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    """Call mount(2)."""
    _call("mount", source.encode(), target.encode(), kind.encode(), flags, options.encode())


def unmount(target: str) -> None:
    """Take a mount away; what still has a file open there keeps it."""
    detach = 2  # MNT_DETACH
    _call("umount2", target.encode(), detach)


def join(process: int) -> None:
    """Join all namespaces of another process; children are then born into its pid namespace.

    Parameters
    ----------
    process : int
        A descriptor from `os.pidfd_open`.

    Raises
    ------
    OSError
        If the system is too old for this (before Linux 5.8) or does not let us.
    """
    _call("setns", process, _NAMESPACES)


def close_all(start: int = 0) -> None:
    """Close every descriptor from this one on."""
    close_range, last = 436, 2**32 - 1  # the C library of some Pythons does not know it yet
    try:
        _call("syscall", close_range, start, last, 0)
    except OSError:  # before Linux 5.9
        os.closerange(start, 65536)


def arrange(log: int, descriptors: Sequence[int]) -> None:
    """Leave this process no file but these.

    Parameters
    ----------
    log : int
        Becomes descriptors 1 and 2; 0 reads nothing.
    descriptors : sequence of int
        Become 3, 4 and so on, and are inherited.
    """
    end = 3 + len(descriptors)
    # First out of the way of the numbers that they are to get.
    log, *high = (fcntl.fcntl(one, fcntl.F_DUPFD_CLOEXEC, end) for one in (log, *descriptors))
    null = os.open(os.devnull, os.O_RDONLY)
    for number, one in enumerate((null, log, log, *high)):
        os.dup2(one, number)
    close_all(end)


def confine(user: int, limits: dict[str, int]) -> None:
    """Give up every privilege of this process and of all that it will start.

    It must have one thread only, and the capabilities of a user namespace that is not the
    system's: it has joined a sandbox or was started there.

    Parameters
    ----------
    user : int
        The user and group id to become; 0 where the namespace knows no other.
    limits : dict of str to int
        By name as in `resource`, such as ``{"RLIMIT_CORE": 0}``.

    Raises
    ------
    OSError
        If a step fails.
    """
    prctl(_PR_SET_DUMPABLE, 1)  # else its files in /proc would not be its own
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")  # the first to go when the system runs out of memory
    for name, most in limits.items():
        kind = getattr(resource, name)
        highest = resource.getrlimit(kind)[1]
        if highest != resource.RLIM_INFINITY:
            most = min(most, highest)
        resource.setrlimit(kind, (most, most))
    with contextlib.suppress(PermissionError):  # an ordinary user may not
        os.setgroups([])
    if user:
        _gain_nothing()
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    if _own_user_namespace(user):
        _gain_nothing()
    drop_capabilities()
    prctl(_PR_SET_NO_NEW_PRIVS, 1)
    prctl(_PR_SET_DUMPABLE, 1)
    _filter_system_calls()


def drop_capabilities() -> None:
    """Give up the capabilities that this process has."""
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    _call("capset", header, bytes(24))


def _gain_nothing() -> None:
    """Take care that no program executed later, and no change of user, brings a capability."""
    for capability in range(64):
        try:
            prctl(_PR_CAPBSET_DROP, capability)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            break  # the last one that this system knows is behind us
    prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    prctl(_PR_SET_SECUREBITS, _SECUREBITS)


def _own_user_namespace(user: int) -> bool:
    """Move to a user namespace that owns nothing: no mounts, no network, no other process.

    So even a capability regained would be one over nothing, and the sandbox's keeper, who may
    be the same user outside, is out of reach for ptrace. Some systems forbid this to users
    other than root; there, being another user than the keeper must do.

    Returns
    -------
    bool
        Whether this process, which has all capabilities over nothing then, has moved.
    """
    try:
        _call("unshare", CLONE_NEWUSER)
    except PermissionError:
        if user:
            return False
        raise
    prctl(_PR_SET_DUMPABLE, 1)  # undone by each change of user or capabilities
    same = f"{user or STUDENT} {user} 1"
    for name, content in (("setgroups", "deny"), ("gid_map", same), ("uid_map", same)):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(content)
    return True


# ---- the filter of system calls ----------------------------------------------------------------

# Numbers on x86_64 and aarch64. What is here can change the system or its namespaces, look into
# other processes, or hold memory that is neither of a process nor of a file system with a size.
_FORBIDDEN = {
    "acct": (163, 89),
    "add_key": (248, 217),
    "bpf": (321, 280),
    "chroot": (161, 51),
    "clock_adjtime": (305, 266),
    "clock_settime": (227, 112),
    "delete_module": (176, 106),
    "fanotify_init": (300, 262),
    "finit_module": (313, 273),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "init_module": (175, 105),
    "ioperm": (173, None),
    "iopl": (172, None),
    "kcmp": (312, 272),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "lookup_dcookie": (212, 18),
    "modify_ldt": (154, None),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "mq_open": (240, 180),
    "msgget": (68, 186),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "open_tree_attr": (467, 467),
    "perf_event_open": (298, 241),
    "personality": (135, 92),
    "pidfd_getfd": (438, 438),
    "pivot_root": (155, 41),
    "process_madvise": (440, 440),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "reboot": (169, 142),
    "request_key": (249, 218),
    "semget": (64, 190),
    "setdomainname": (171, 162),
    "sethostname": (170, 161),
    "setns": (308, 268),
    "settimeofday": (164, 170),
    "shmget": (29, 194),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "syslog": (103, 116),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
    "vhangup": (153, 58),
}
# "Not implemented" sends programs to an older way: a thread is made with clone, whose flags this
# filter can read, where those of clone3 are out of its sight; a memory file becomes a file.
_UNKNOWN = {
    "clone3": (435, 435),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
}
_CLONE = (56, 220)
_SOCKET = (41, 198)
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32 = 0x40000000  # where the numbers of another table begin, which x86_64 also serves
# Others are not divided by network namespaces, such as AF_VSOCK, which leads out of a virtual
# machine, or are code that no lesson needs. Netlink is asked for the list of interfaces.
_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK = 1, 2, 10, 16
_NETLINK_ROUTE = 0

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # <linux/bpf_common.h>
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # places in struct seccomp_data; little-endian


def _program(machine: str) -> bytes:
    """Return the filter for a machine as the system reads it: eight bytes an instruction."""
    column = list(_ARCHITECTURES).index(machine)
    code: list[tuple[int, int, int, int]] = []  # what, jump if true, jump if false, value

    def add(what: int, value: int, true: int = 0, false: int = 0) -> None:
        code.append((what, true, false, value))

    add(_LOAD, _ARCHITECTURE)
    add(_EQUAL, _ARCHITECTURES[machine], true=1)
    add(_RETURN, _KILL)  # 32-bit programs, whose numbers are others
    add(_LOAD, _NUMBER)
    if machine == "x86_64":
        add(_AT_LEAST, _X32, false=1)
        add(_RETURN, _ERRNO | errno.ENOSYS)
    for table, reason in ((_FORBIDDEN, errno.EPERM), (_UNKNOWN, errno.ENOSYS)):
        for numbers in table.values():
            if numbers[column] is not None:
                add(_EQUAL, numbers[column], false=1)
                add(_RETURN, _ERRNO | reason)
    add(_EQUAL, _CLONE[column], false=4)
    add(_LOAD, _ARGUMENTS)
    add(_ANY_BIT, _NAMESPACES, false=1)
    add(_RETURN, _ERRNO | errno.EPERM)
    add(_RETURN, _ALLOW)
    add(_EQUAL, _SOCKET[column], false=8)
    add(_LOAD, _ARGUMENTS)
    add(_EQUAL, _AF_UNIX, true=6)
    add(_EQUAL, _AF_INET, true=5)
    add(_EQUAL, _AF_INET6, true=4)
    add(_EQUAL, _AF_NETLINK, false=2)
    add(_LOAD, _ARGUMENTS + 16)  # the third argument: which netlink
    add(_EQUAL, _NETLINK_ROUTE, true=1)
    add(_RETURN, _ERRNO | errno.EAFNOSUPPORT)
    add(_RETURN, _ALLOW)
    return b"".join(struct.pack("=HBBI", *one) for one in code)


def can_confine() -> bool:
    """Tell whether this module knows the system: Linux on a machine whose calls it can filter."""
    return os.uname().sysname == "Linux" and os.uname().machine in _ARCHITECTURES


def _filter_system_calls() -> None:
    """Install the filter, on this process and all that it will start."""
    machine = os.uname().machine
    if machine not in _ARCHITECTURES:
        raise OSError(errno.ENOSYS, f"no filter of system calls for {machine}")
    program = _program(machine)
    code = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: a 16-bit length, then an aligned pointer.
    description = struct.pack("@HP", len(program) // 8, ctypes.addressof(code))
    seccomp = 317 if machine == "x86_64" else 277
    set_filter, leave_speculation = 1, 1 << 2  # the latter: as fast as without a filter
    _call("syscall", seccomp, set_filter, leave_speculation, description)
