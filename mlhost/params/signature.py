"""A service's signature: the inputs and outputs it declares, and how a call's JSON becomes them and comes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mlhost import names
from mlhost.errors import Invalid
from mlhost.params.jsontext import parse, render, shown
from mlhost.params.types import canonical, lookup

INPUTS = "inputParameterDefinitions"
OUTPUTS = "outputParameterDefinitions"


@dataclass(frozen=True, slots=True)
class Parameter:
    """A declared input or output."""

    name: str
    type: str  # the server's name for it, or an unknown one as it was spelled


class Signature:
    """What a service takes and gives, in the order declared; made by `of`, which checks the names."""

    __slots__ = ("_decoders", "_encoders", "inputs", "outputs")

    def __init__(self, inputs: tuple[Parameter, ...], outputs: tuple[Parameter, ...]) -> None:
        self.inputs = inputs
        self.outputs = outputs
        self._decoders = [(parameter, lookup(parameter.type).decode) for parameter in inputs]
        self._encoders = [_encoder(parameter) for parameter in outputs]

    @classmethod
    def of(cls, inputs: Iterable[tuple[str, str]], outputs: Iterable[tuple[str, str]]) -> Signature:
        """A signature of (name, type) pairs, types in any spelling; Invalid for a bad or repeated name."""
        return cls(_parameters(inputs, INPUTS), _parameters(outputs, OUTPUTS))

    def decode(self, body: bytes) -> dict[str, Any]:
        """A JSON object -> the declared inputs as Python objects; what else is in it is ignored.

        An empty body is an empty object. Invalid names the input that is missing or not of its type.
        """
        given = parse(body or b"{}")
        if type(given) is not dict:
            raise Invalid(f"The body must be a JSON object of the inputs, not {shown(given)}.")
        inputs = {}
        for parameter, decode in self._decoders:
            name = parameter.name
            if name not in given:
                raise Invalid(f"input {name!r} is missing from the body ({parameter.type})", field=name)
            try:
                inputs[name] = decode(given[name])
            except (ValueError, TypeError, OverflowError) as fault:
                raise _misfit(parameter, given[name], fault) from None
        return inputs

    def encode(self, namespace: Mapping[str, Any]) -> tuple[bytes, str]:
        """A JSON object of all declared outputs, and "" or a message naming the ones at fault, which are null in it.

        Whatever the objects of user code raise meanwhile becomes part of the message.
        """
        outputs = []
        faults = []
        for parameter, key, encode in self._encoders:
            try:
                outputs.append(key + render(encode(namespace[parameter.name])))
            except Exception as fault:
                outputs.append(key + b"null")
                faults.append(_fault_of_output(parameter, namespace, fault))
        return b"{" + b",".join(outputs) + b"}", "; ".join(faults)


def _parameters(declared: Iterable[tuple[str, str]], field: str) -> tuple[Parameter, ...]:
    parameters: dict[str, Parameter] = {}
    for name, spelling in declared:
        if names.parameter_name(name, field) in parameters:
            raise Invalid(f"{field}: {name!r} is declared twice", field=field)
        parameters[name] = Parameter(name, canonical(spelling))
    return tuple(parameters.values())


def _encoder(parameter: Parameter) -> tuple[Parameter, bytes, Callable[[Any], Any]]:
    return parameter, render(parameter.name) + b":", lookup(parameter.type).encode


def _misfit(parameter: Parameter, value: Any, fault: Exception) -> Invalid:
    return Invalid(
        f"input {parameter.name!r} must be of type {parameter.type}, got {shown(value)}: {fault}",
        field=parameter.name,
        expected=parameter.type,
    )


def _fault_of_output(parameter: Parameter, namespace: Mapping[str, Any], fault: Exception) -> str:
    if parameter.name not in namespace:
        return f"output {parameter.name!r} was never assigned"
    try:
        reason = str(fault) or type(fault).__name__
    except Exception:  # an exception of user code may fail to tell
        reason = type(fault).__name__
    return f"output {parameter.name!r} cannot be sent as {parameter.type}: {reason}"
