"""What `server.http` uses of uvicorn is not a public interface: a version in which it has changed fails here, in words.

If it does, read uvicorn's `httptools_impl.py` beside `server/http/protocol.py`, adapt both that module and these lists,
and only then raise the bound in pyproject.toml.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
from importlib.metadata import version
from pathlib import Path

import pytest
import uvicorn
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

import server.http.protocol
import server.http.server

SIGNATURES: dict[type, dict[str, str]] = {
    HttpToolsProtocol: {
        "__init__": "self config server_state app_state _loop",
        "connection_made": "self transport",
        "connection_lost": "self exc",
        "data_received": "self data",
        "on_message_begin": "self",
        "on_header": "self name value",
        "on_headers_complete": "self",
        "on_body": "self body",
        "on_message_complete": "self",
        "on_response_complete": "self",
        "pause_writing": "self",
        "resume_writing": "self",
        "timeout_keep_alive_handler": "self",
        "shutdown": "self",
        "send_400_response": "self msg",
        "_start_asgi_task": "self cycle app",
        "_unset_keepalive_if_required": "self",
    },
    FlowControl: {"resume_reading": "self"},
    uvicorn.Server: {
        "__init__": "self config",
        "handle_exit": "self sig frame",
        "on_tick": "self counter",
        "shutdown": "self sockets",
    },
}
"""Methods that are overridden or called, and their parameters."""
CONNECTION = {"loop", "transport", "flow", "parser", "cycle", "pipeline", "connections", "headers"}
CYCLE = {"response_started", "response_complete", "disconnected", "message_event", "transport"}
FLOW = {"read_paused"}
SERVER = {"should_exit", "force_exit", "server_state"}
"""Attributes that are read or set."""


def _advice(what: str) -> str:
    return (
        f"uvicorn {version('uvicorn')} has another {what} than server/http was written for: see the head of this test"
    )


@pytest.mark.parametrize(
    ("owner", "name"), [(owner, name) for owner, names in SIGNATURES.items() for name in names], ids=str
)
def test_methods_have_the_known_parameters(owner: type, name: str) -> None:
    method = getattr(owner, name, None)
    assert method is not None, _advice(f"set of methods: {owner.__name__} lacks {name}")
    found = " ".join(inspect.signature(method).parameters)
    assert found == SIGNATURES[owner][name], _advice(f"signature of {owner.__name__}.{name}")


def test_objects_have_the_known_attributes() -> None:
    async def missing() -> set[str]:
        config = server.http.protocol.LimitedConfig(lambda: None, log_config=None)
        connection = HttpToolsProtocol(config, ServerState(), {})
        return {name for name in CONNECTION if not hasattr(connection, name)}

    assert not asyncio.run(missing()), _advice("set of attributes of a connection")
    cycle = inspect.getsource(RequestResponseCycle.__init__)
    assert not [name for name in CYCLE if f"self.{name} " not in cycle], _advice("set of attributes of a request")
    flow = inspect.getsource(FlowControl.__init__)
    assert not [name for name in FLOW if f"self.{name} " not in flow], _advice("set of attributes of FlowControl")
    uvicorn_server = uvicorn.Server(uvicorn.Config(lambda: None))
    assert not [name for name in SERVER if not hasattr(uvicorn_server, name)], _advice("set of attributes of Server")


def _overridden_or_inherited(module: object, owner: type) -> set[str]:
    """Names that a module's subclass of `owner` defines or uses of its base."""
    source = Path(inspect.getfile(module)).read_text()  # type: ignore[arg-type]
    names = {node.attr for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute)}
    names |= {node.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)}
    return {name for name in names if name in vars(owner)} - {"__init__"}


def test_the_lists_name_all_that_is_used() -> None:
    used = _overridden_or_inherited(server.http.protocol, HttpToolsProtocol)
    assert used <= set(SIGNATURES[HttpToolsProtocol])
    used = _overridden_or_inherited(server.http.server, uvicorn.Server)
    used |= {
        node.name
        for node in ast.walk(ast.parse(Path(inspect.getfile(server.http.server)).read_text()))
        if isinstance(node, ast.AsyncFunctionDef)
    }
    assert used - {"run"} <= set(SIGNATURES[uvicorn.Server])
