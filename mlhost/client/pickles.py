"""Objects of a session, which travel as pickles (contract section 4): made here freely, opened here only on request.

Opening a pickle runs what whoever made it wants, and what comes from a server was made by it. So objects come as typed
JSON unless the caller says that they trust the server as they trust their own code. A list of classes that a pickle may
name would not do: to restore an array or a data frame is to hand bytes to code that was not written for hostile ones.
"""

from __future__ import annotations

from typing import Any

from mlhost.errors import Invalid


def dumped(value: Any) -> bytes:
    """A pickle for a worker, with the functions and classes that only this program has."""
    import cloudpickle

    try:
        pickled: bytes = cloudpickle.dumps(value)
    except Exception as fault:  # pickling runs the object's own code
        raise Invalid(f"The object cannot be pickled: {type(fault).__name__}: {fault}") from fault
    return pickled


def trusted(pickled: bytes) -> Any:
    """Open a pickle, which runs whatever it says; Invalid if it does not open here."""
    import dill

    try:
        return dill.loads(pickled)  # noqa: S301 - the caller said so
    except Exception as fault:
        raise Invalid(f"The object does not open here: {type(fault).__name__}: {fault}") from fault
