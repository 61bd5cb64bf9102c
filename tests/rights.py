"""Root without root's way past file permissions, so that tests of a missing permission hold for root, too. A plugin of the tests."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator

import pytest

VERSION_3 = 0x20080522  # _LINUX_CAPABILITY_VERSION_3: two words of 32 bits for each set
PAST_PERMISSIONS = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
GET_SECUREBITS, SET_SECUREBITS = 27, 28  # prctl(2)
NO_SETUID_FIXUP = 1 << 2  # without it access(2) asks by what root may have, not by what it has now

BOUND: tuple[str, ...] = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search") if os.geteuid() == 0 else ()
"""What a command begins with so that file permissions hold for it as for anybody (setpriv(1))."""

LIBC = ctypes.CDLL(None, use_errno=True)


class Header(ctypes.Structure):
    """`struct __user_cap_header_struct` of linux/capability.h; pid 0 is this thread."""

    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class Word(ctypes.Structure):
    """`struct __user_cap_data_struct`: 32 capabilities of each set."""

    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def _call(name: str, words: ctypes.Array[Word]) -> None:
    if getattr(LIBC, name)(ctypes.byref(Header(VERSION_3, 0)), words) != 0:
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")


@pytest.fixture
def bound_by_permissions() -> Iterator[None]:
    """For this thread and those it starts, but not for programs it starts, file permissions hold as for anybody."""
    before = (Word * 2)()
    _call("capget", before)
    bound = (Word * 2)()
    ctypes.memmove(bound, before, ctypes.sizeof(before))
    bound[0].effective &= ~PAST_PERMISSIONS
    bits = LIBC.prctl(GET_SECUREBITS, 0, 0, 0, 0)
    if os.geteuid() == 0:
        LIBC.prctl(SET_SECUREBITS, bits | NO_SETUID_FIXUP, 0, 0, 0)
    _call("capset", bound)
    yield
    _call("capset", before)
    if os.geteuid() == 0:
        LIBC.prctl(SET_SECUREBITS, bits, 0, 0, 0)
