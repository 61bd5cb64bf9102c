"""The errors that this package raises, by what the program does with them.

    EdgeannotError
    |-- ConfigError      the settings cannot be used: stop, exit code 78
    |   `-- UsageError   an option of a tool: exit code 64
    |-- ModelError       a model or its card cannot be used: stop, exit code 78
    |   |-- CardError    the card disagrees with itself or with its model
    |   `-- ShortageError  memory or time ran out for it, which may pass: stop, exit code 75, to be started again
    |-- FrameError       this picture cannot be read: skip, count, quarantine, go on
    |   `-- OutputError  the outputs of the model for it are implausible
    |-- LinkError        something outside is away (broker, camera): retry with backoff
    |-- InputError       data given to a tool is wrong: exit code 65
    |-- MissingError     a file or folder that was named is not there: exit code 66
    |-- RightsError      the user may not do this: exit code 77
    `-- PluginError      the code of an installed package raised or hangs: set aside by its name

A message says what was wanted, what was found, where, and what to do, in one sentence that needs no traceback. Errors of
libraries are translated once, at the door that imports the library, with the cause kept (`raise ... from exc`).
"""

__all__ = [
    "INTERNAL_ERROR",
    "MODEL_OUTPUT",
    "CardError",
    "ConfigError",
    "EdgeannotError",
    "FrameError",
    "InputError",
    "LinkError",
    "MissingError",
    "ModelError",
    "OutputError",
    "PluginError",
    "RightsError",
    "ShortageError",
    "UsageError",
    "install",
]


MODEL_OUTPUT = "model-output"
"""The reason of an OutputError."""

INTERNAL_ERROR = "error"
"""The reason of a picture that broke the program: nothing is said of the picture."""


def install(extras: str) -> str:
    """Return the advice for a package that is missing, by the extras that bring it: "tools", "tools,onnx"."""
    return f"install `edgeannot[{extras}]` (in a checkout: `pip install '.[{extras}]'`)"


class EdgeannotError(Exception):
    """The root of every error that this package raises on purpose; its text is written for the user."""

    exit_code = 70


class ConfigError(EdgeannotError):
    """A setting is unknown, malformed or cannot be used together with another."""

    exit_code = 78


class UsageError(ConfigError):
    """An option, which is no setting, has a value that it cannot have."""

    exit_code = 64


class ModelError(EdgeannotError):
    """A model file cannot be read, is not runnable here, or does not do what is asked of it."""

    exit_code = 78


class CardError(ModelError):
    """A model card is malformed or says something else than the model's own tensors."""


class ShortageError(ModelError):
    """Memory or time ran out while a model was tried: the model may be too large for this board, or others take what it needs for now."""

    exit_code = 75  # EX_TEMPFAIL: systemd starts the service again


class FrameError(EdgeannotError):
    """One picture cannot be used; the next one may be fine. `reason` is a short stable word for counting, e.g. "truncated"."""

    exit_code = 65

    def __init__(self, message: str, reason: str = "unreadable") -> None:
        super().__init__(message)
        self.reason = reason


class OutputError(FrameError):
    """The outputs of the model for this picture are implausible; the model may be fine for the next one."""

    def __init__(self, message: str) -> None:
        super().__init__(message, MODEL_OUTPUT)


class LinkError(EdgeannotError):
    """A camera, a broker or another service is away; trying again later may help."""

    exit_code = 69


class InputError(EdgeannotError):
    """Data given to a tool (weights, labels, pictures) is wrong."""

    exit_code = 65


class MissingError(EdgeannotError):
    """A named file or folder does not exist."""

    exit_code = 66


class RightsError(EdgeannotError):
    """The user who asks has no right to it."""

    exit_code = 77


class PluginError(EdgeannotError):
    """The code of an installed package raised, or did not return in time."""
