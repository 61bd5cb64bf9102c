"""Writes what torch.save writes, without PyTorch: pickles that name classes and storages which are not here."""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict


class Global:
    """Pickles as a name in a module that is not there, as PyTorch's classes are."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class Call:
    """Pickles as a call."""

    def __init__(self, function: Global, *arguments: object) -> None:
        self.function, self.arguments = function, arguments


class Storage(tuple):
    """Pickles as a persistent id."""


class Pickler(pickle._Pickler):  # type: ignore[misc,name-defined] # the C one cannot write names that do not exist
    """Writes what torch.save writes."""

    def persistent_id(self, obj):
        return tuple(obj) if isinstance(obj, Storage) else None

    def save(self, obj, save_persistent_id=True):
        if isinstance(obj, Global):
            self.write(b"c" + f"{obj.module}\n{obj.name}\n".encode())
        elif isinstance(obj, Call):
            self.save(obj.function)
            self.save(obj.arguments)
            self.write(b"R")
        else:
            super().save(obj, save_persistent_id)


def pickled(obj: object) -> bytes:
    file = io.BytesIO()
    Pickler(file, 2).dump(obj)
    return file.getvalue()


def tensor(key: str, kind: str, size: int, shape: tuple[int, ...], strides: tuple[int, ...], offset: int = 0) -> Call:
    storage = Storage(("storage", Global("torch", kind), key, "cpu", size))
    return Call(Global("torch._utils", "_rebuild_tensor_v2"), storage, offset, shape, strides, False, OrderedDict())
