"""The registry: what a syscall is, and the table of all of them.

A syscall is one class: its fields are the arguments in the order of the table, its docstring is the meaning, its `act`
is the handler. The plan language, the JSON-RPC methods, the command line, the model's grammar and the documentation
are read off these classes, so adding a syscall is writing one. A field made by `api_only` is for programs alone: it is
a parameter of the method and printed with the line, but no word of the table, the command line or the grammar.
"""

import types
from collections.abc import Awaitable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from llmos.errors import BadInput
from llmos.plan import values
from llmos.plan.risk import Risk

if TYPE_CHECKING:
    from llmos.kernel.kernel import Kernel
    from llmos.kernel.step import Outcome, Step


class Kind(Enum):
    """What a value stands for; the value is the word that stands for it in usage lines."""

    TARGET = "TARGET"
    JOB = "JOB"
    WATCH = "WATCH"
    NEW_NAME = "NAME"
    PROCESS_NAME = "NAME"  # noqa: PIE796
    USER = "USER"
    NODE = "NODE"
    PORT = "PORT"
    PATH = "PATH"
    SIZE = "SIZE"
    CORES = "NUM"
    COUNT = "N"
    DURATION = "DUR"
    TIME = "TIME"
    MOMENT = "TIME|DUR"
    CRON = '"…"'
    THRESHOLD = "NUM|SIZE"
    TEXT = "STR"
    LINE = '"LINE"'
    SENTENCE = '"SENTENCE"'
    ARGV = "ARGV"
    CHOICE = "CHOICE"
    OBJECT = "OBJECT"
    LIST = "LIST"

    def __new__(cls, meta: str) -> "Kind":
        member = object.__new__(cls)
        member._value_ = f"{len(cls.__members__)}:{meta}"
        return member

    @property
    def meta(self) -> str:
        """The word for it in a usage line, such as `SIZE`."""
        return str(self.value).partition(":")[2]


def _as_text(value: object) -> object:
    """Numbers may come as JSON numbers; the language keeps text."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    return f"{value:f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def _count(value: object) -> object:
    """Whole numbers from the text of a line, in digits alone."""
    if isinstance(value, str):
        if not (value.isascii() and value.isdigit() and len(value) <= 9):
            raise ValueError(f"{values.shown(value)} is not a whole number")
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("it is not a whole number")
    return value


MAX_ARGV_BYTES = 128 * 1024
"""What Linux takes as one argument (MAX_ARG_STRLEN, execve(2)); here for all of them together."""


def _argv(value: list[str]) -> list[str]:
    if not value[0].strip():
        raise ValueError("the command is empty")
    if sum(len(values.text(word).encode()) + 1 for word in value) > MAX_ARGV_BYTES:
        raise ValueError(f"the command is longer than {MAX_ARGV_BYTES} bytes; put it in a script and run that")
    return value


def _line(value: str) -> str:
    from llmos.plan.language import MAX_CHARACTERS, parse_line, print_line

    try:
        call = parse_line(value)
    except BadInput as error:
        raise ValueError(error.message) from None
    if call.risk is Risk.TALK:
        raise ValueError(f"{call.verb} cannot stand in then=")
    if len(line := print_line(call)) > MAX_CHARACTERS:
        raise ValueError(f"it is longer than {MAX_CHARACTERS} characters")
    return line


_size, _cores = values.above_zero(values.size), values.above_zero(values.number)
Target = Annotated[str, Kind.TARGET, BeforeValidator(_as_text), AfterValidator(values.target)]
Job = Annotated[str, Kind.JOB, AfterValidator(values.target)]
WatchRef = Annotated[str, Kind.WATCH, BeforeValidator(_as_text), AfterValidator(values.target)]
NewName = Annotated[str, Kind.NEW_NAME, AfterValidator(values.name)]
ProcessName = Annotated[str, Kind.PROCESS_NAME, AfterValidator(values.filled)]
User = Annotated[str, Kind.USER, AfterValidator(values.filled)]
Node = Annotated[str, Kind.NODE, AfterValidator(values.filled)]
Port = Annotated[int, Kind.PORT, BeforeValidator(_count), Field(ge=1, le=65535)]
Path = Annotated[str, Kind.PATH, AfterValidator(values.path)]
Size = Annotated[str, Kind.SIZE, AfterValidator(_size)]
Cores = Annotated[str, Kind.CORES, BeforeValidator(_as_text), AfterValidator(_cores)]
SizeLimit = Annotated[str, Kind.SIZE, AfterValidator(values.liftable(_size))]
CoresLimit = Annotated[str, Kind.CORES, BeforeValidator(_as_text), AfterValidator(values.liftable(_cores))]
Count = Annotated[int, Kind.COUNT, BeforeValidator(_count), Field(ge=1, le=1_000_000)]
Duration = Annotated[str, Kind.DURATION, AfterValidator(values.duration)]
Time = Annotated[str, Kind.TIME, AfterValidator(values.time)]
Moment = Annotated[str, Kind.MOMENT, AfterValidator(values.moment)]
Cron = Annotated[str, Kind.CRON, AfterValidator(values.cron)]
Threshold = Annotated[str, Kind.THRESHOLD, BeforeValidator(_as_text), AfterValidator(values.threshold)]
Text = Annotated[str, Kind.TEXT, AfterValidator(values.text)]
Sentence = Annotated[str, Kind.SENTENCE, AfterValidator(values.filled)]
Line = Annotated[str, Kind.LINE, AfterValidator(_line)]
Argv = Annotated[list[str], Kind.ARGV, Field(min_length=1, max_length=4096), AfterValidator(_argv)]


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a syscall, as the grammar, the command line and the documentation need it.

    `many`: a program may give a list of them too.
    """

    name: str
    kind: Kind
    positional: bool
    required: bool
    default: object
    choices: tuple[str, ...] = ()
    liftable: bool = False
    many: bool = False

    @property
    def usage(self) -> str:
        """How it stands in the table: `TARGET`, `[N]`, `limit=N`, `sort=cpu|memory|io`."""
        meta = "|".join(self.choices) or self.kind.meta
        if self.kind is Kind.ARGV:
            return f"-- {meta}"
        if self.positional:
            return meta if self.required else f"[{meta}]"
        return f"{self.name}={meta}"


class Syscall(BaseModel):
    """Base of all syscalls: `class Kill(Syscall, verb="kill", risk=Risk.DESTROY)`.

    Required fields without a key are positional; mark an optional positional with `positional()`.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_by_name=True, validate_by_alias=True, defer_build=True
    )

    verb: ClassVar[str]
    risk: ClassVar[Risk]
    inverse: ClassVar[str | None]
    risk_note: ClassVar[str]
    blocks: ClassVar[bool]
    """Whether it waits for something to happen; what stands below it is meant for afterwards."""
    private: ClassVar[bool]
    """Whether it shows what only the owner of its target and root may see, though it is a read."""
    arguments: ClassVar[dict[str, Argument]]
    api_arguments: ClassVar[dict[str, Argument]]
    """Those that are for programs alone."""
    referring: ClassVar[tuple[Argument, ...]]
    """Those that name a target, job or watch."""

    def __init_subclass__(
        cls,
        *,
        verb: str,
        risk: Risk,
        inverse: str | None = None,
        risk_note: str = "",
        blocks: bool = False,
        private: bool = False,
    ) -> None:
        super().__init_subclass__()
        cls.verb, cls.risk, cls.inverse, cls.risk_note = verb, risk, inverse, risk_note
        cls.blocks, cls.private = blocks, private

    @classmethod
    def __pydantic_init_subclass__(cls, **_: object) -> None:
        cls.arguments, cls.api_arguments = {}, {}
        for name, field in cls.model_fields.items():
            argument = _argument(name, field)
            (cls.api_arguments if _extra(field).get(_API_ONLY) else cls.arguments)[argument.name] = argument
        arguments = (*cls.arguments.values(), *cls.api_arguments.values())
        cls.referring = tuple(argument for argument in arguments if argument.kind in REFERABLE)
        if cls.verb in SYSCALLS:
            raise TypeError(f"two syscalls are called {cls.verb!r}")
        SYSCALLS[cls.verb] = cls

    @classmethod
    def meaning(cls) -> str:
        """The one-line meaning: the first line of the docstring."""
        return (cls.__doc__ or "").strip().partition("\n")[0].removesuffix(".")

    @classmethod
    def build(cls, arguments: dict[str, Any]) -> Self:
        """Make the call from named arguments; raises `BadInput` naming the field and the remedy."""
        try:
            return cls.model_validate(arguments)
        except ValidationError as error:
            raise cls._explain(error) from None

    @classmethod
    def _explain(cls, error: ValidationError) -> BadInput:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        usage = " ".join([cls.verb, *(argument.usage for argument in cls.arguments.values())])
        match first["type"]:
            case "missing":
                problem = f"{cls.verb} needs {field}"
            case "extra_forbidden":
                problem, field = f"{cls.verb} has no argument {values.shown(field)}", "args"
            case "value_error":
                problem = str(first["msg"]).removeprefix("Value error, ")
                problem = f"{cls.verb}: {field}: {problem}" if field else f"{cls.verb}: {problem}"
            case _:
                problem = f"{cls.verb}: {field}: {first['msg']}"
        return BadInput(f"{problem}; usage: {usage}", field=field or cls.verb)

    def value(self, argument: Argument) -> Any:
        """The value of one argument."""
        return getattr(self, _field_name(argument.name))

    def given(self) -> list[Argument]:
        """The arguments that differ from their defaults, in the order of the table."""
        arguments = (*self.arguments.values(), *self.api_arguments.values())
        return [argument for argument in arguments if self.value(argument) != argument.default]

    def as_json(self) -> dict[str, Any]:
        """The wire form: `{"call": verb, "args": {…}}`, defaults left out."""
        return {"call": self.verb, "args": {argument.name: self.value(argument) for argument in self.given()}}

    def references(self) -> Iterator[int]:
        """The line numbers (from 1) that this call refers to by `$N`, those inside `then` included."""
        for argument in self.given():
            value = self.value(argument)
            if argument.kind is Kind.LINE:
                from llmos.plan.language import parse_line

                yield from parse_line(value).references()
            elif argument.kind in REFERABLE and (line := values.reference(value)) is not None:
                yield line

    def named(self) -> list[tuple[Argument, str]]:
        """The arguments that name one target, job or watch, with their texts; lists are their handler's to look up."""
        found = [(argument, self.value(argument)) for argument in self.referring]
        return [(argument, value) for argument, value in found if isinstance(value, str)]

    def act(self, step: "Step") -> "Outcome | Awaitable[Outcome]":
        """The handler: do it on the machine and say what came of it; plain where memory alone answers, else async."""
        raise NotImplementedError(f"{self.verb} has no handler")

    async def take_back(self, kernel: "Kernel", undo: dict[str, Any]) -> None:
        """Take back what `act` did, from what its outcome kept in `undo`."""
        raise NotImplementedError(f"{self.verb} cannot be taken back")


SYSCALLS: dict[str, type[Syscall]] = {}
"""Every syscall by its verb, in the order of the table."""

REFERABLE = {Kind.TARGET, Kind.JOB, Kind.WATCH}
"""The kinds of value that may be `$N`."""


def positional(default: Any = None) -> Any:
    """Mark an optional argument as positional."""
    return Field(default, json_schema_extra={"positional": True})


def key(default: Any = PydanticUndefined, *, alias: str | None = None) -> Any:
    """Mark a required argument as a key, or give a key whose name is a Python keyword its true name."""
    return Field(default, alias=alias, json_schema_extra={"positional": False})


_API_ONLY = "api_only"


def api_only(default: Any = None, *, description: str) -> Any:
    """Mark an argument as one for programs alone, which the plan language has no word for."""
    return Field(default, description=description, json_schema_extra={_API_ONLY: True})


def _extra(field: FieldInfo) -> dict[str, Any]:
    return field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}


def _field_name(argument: str) -> str:
    return "for_" if argument == "for" else argument


def _flatten(annotation: Any) -> Iterator[Any]:
    """Every type and piece of metadata inside an annotation, unions and Annotated opened."""
    origin = get_origin(annotation)
    if origin is Annotated or origin in (Union, types.UnionType):
        for part in get_args(annotation):
            yield from _flatten(part)
    else:
        yield annotation


def _argument(name: str, field: FieldInfo) -> Argument:
    parts = [*_flatten(field.annotation), *field.metadata]
    kinds = [part for part in parts if isinstance(part, Kind)]
    choices = [choice for part in parts if get_origin(part) is Literal for choice in get_args(part)]
    if not kinds and not choices:
        raise TypeError(f"argument {name!r} has neither a kind nor choices")
    return Argument(
        name=field.alias or name,
        kind=kinds[0] if kinds else Kind.CHOICE,
        positional=bool(_extra(field).get("positional", field.is_required())),
        required=field.is_required(),
        default=None if field.is_required() else field.default,
        choices=tuple(choices),
        liftable=any(getattr(part, "func", None) in _LIFTING for part in parts),
        many=any(get_origin(part) is list for part in parts),
    )


_LIFTING = {
    part.func for alias in (SizeLimit, CoresLimit) for part in get_args(alias) if isinstance(part, AfterValidator)
}
