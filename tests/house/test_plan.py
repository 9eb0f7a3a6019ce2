"""The plan of the house kept: tests mirror the code, files stay readable, what is public says what surprises."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.shared import ROOT

MOST_LINES = 300

# Tests of what no single file does: they go through a whole room, or the whole program.
ACROSS = {
    "tests/gateway/app/test_serve.py",
    "tests/gateway/edge/test_attacks.py",
    "tests/gateway/edge/test_cors.py",
    "tests/gateway/pipeline/test_affinity.py",
    "tests/gateway/wire/gemini/test_round_trip.py",
}

# Code without a test file of its own name, and where it is tried instead: it is the inside of what is tried there, or
# can be seen through it alone.
TRIED_BY = {
    "gateway/__main__.py": "tests/deploy/test_wheel.py",
    "gateway/admin/base.py": "tests/gateway/admin/test_routes.py",
    "gateway/admin/keys.py": "tests/gateway/admin/test_routes.py",
    "gateway/admin/papers.py": "tests/gateway/admin/test_routes.py",
    "gateway/admin/policies.py": "tests/gateway/admin/test_routes.py",
    "gateway/admin/targets.py": "tests/gateway/admin/test_routes.py",
    "gateway/admin/usage.py": "tests/gateway/admin/test_routes.py",
    "gateway/app/ledger_process.py": "tests/gateway/app/test_ledger_client.py",
    "gateway/app/house.py": "tests/gateway/pipeline/test_serve.py",
    "gateway/app/office.py": "tests/gateway/admin/test_routes.py",
    "gateway/app/parent.py": "tests/gateway/app/test_crew.py",
    "gateway/app/run.py": "tests/gateway/app/test_serve.py",
    "gateway/app/worker.py": "tests/gateway/app/test_crew.py",
    "gateway/cli/client.py": "tests/gateway/cli/test_keys.py",
    "gateway/cli/output.py": "tests/gateway/cli/test_main.py",
    "gateway/cli/start.py": "tests/gateway/cli/test_serve.py",
    "gateway/cli/usage.py": "tests/gateway/cli/test_keys.py",
    "gateway/config/compiler.py": "tests/gateway/config/test_compile.py",
    "gateway/config/schema.py": "tests/contract/test_policy_fields.py",
    "gateway/core/address.py": "tests/gateway/upstream/test_pool.py",
    "gateway/core/capabilities.py": "tests/gateway/policy/test_capabilities.py",
    "gateway/core/claim.py": "tests/contract/test_allowance.py",
    "gateway/core/credential.py": "tests/gateway/upstream/test_credentials.py",
    "gateway/core/log.py": "tests/gateway/telemetry/test_logs.py",
    "gateway/core/readiness.py": "tests/gateway/app/test_serve.py",
    "gateway/edge/asgi.py": "tests/gateway/edge/test_attacks.py",
    "gateway/edge/background.py": "tests/contract/test_responses_background.py",
    "gateway/edge/body.py": "tests/gateway/edge/test_attacks.py",
    "gateway/edge/common.py": "tests/gateway/edge/test_connection.py",
    "gateway/edge/cycle.py": "tests/gateway/edge/test_attacks.py",
    "gateway/edge/router.py": "tests/gateway/edge/test_attacks.py",
    "gateway/edge/frames.py": "tests/contract/test_responses_socket.py",
    "gateway/edge/inference.py": "tests/gateway/pipeline/test_serve.py",
    "gateway/edge/probes.py": "tests/gateway/edge/test_catalog.py",
    "gateway/edge/stored_responses.py": "tests/contract/test_responses_across.py",
    "gateway/edge/recent.py": "tests/contract/test_responses_socket.py",
    "gateway/edge/reply.py": "tests/gateway/pipeline/test_serve.py",
    "gateway/edge/responses.py": "tests/contract/test_responses_across.py",
    "gateway/edge/run.py": "tests/contract/test_responses_background.py",
    "gateway/edge/server.py": "tests/gateway/app/test_serve.py",
    "gateway/edge/turns.py": "tests/contract/test_responses_socket.py",
    "gateway/pipeline/identify.py": "tests/gateway/edge/test_attacks.py",
    "gateway/policy/base.py": "tests/gateway/policy/test_rate_limit.py",
    "gateway/policy/registry.py": "tests/gateway/policy/test_routing.py",
    "gateway/providers/aws/answers.py": "tests/gateway/providers/aws/test_chain.py",
    "gateway/providers/aws/places.py": "tests/gateway/providers/aws/test_chain.py",
    "gateway/providers/aws/profiles.py": "tests/gateway/providers/aws/test_chain.py",
    "gateway/state/allowance.py": "tests/contract/test_allowance.py",
    "gateway/state/rows/answers.py": "tests/gateway/state/test_answers.py",
    "gateway/state/rows/keys.py": "tests/gateway/state/test_keystore.py",
    "gateway/state/rows/owners.py": "tests/gateway/state/test_owners.py",
    "gateway/state/rows/runs.py": "tests/gateway/state/test_runs.py",
    "gateway/telemetry/telemetry.py": "tests/gateway/telemetry/test_prometheus.py",
    "gateway/upstream/failures.py": "tests/gateway/upstream/test_client.py",
    "gateway/usage/reports.py": "tests/gateway/usage/test_ledger.py",
    "gateway/usage/spool_file.py": "tests/gateway/usage/test_collector.py",
    "gateway/usage/tables.py": "tests/gateway/usage/test_ledger.py",
    "gateway/wire/base.py": "tests/contract/test_dialects.py",
    "gateway/wire/fit.py": "tests/gateway/wire/test_hub.py",
    "gateway/wire/reader.py": "tests/gateway/wire/messages/test_reader.py",
    "gateway/wire/sides.py": "tests/gateway/wire/test_crossing.py",
    "gateway/wire/gemini/words.py": "tests/gateway/wire/gemini/test_reader.py",
    "gateway/wire/responses/items.py": "tests/gateway/wire/responses/test_front.py",
    "gateway/wire/responses/resource.py": "tests/gateway/wire/responses/test_writer.py",
    "gateway/wire/responses/tools.py": "tests/gateway/wire/responses/test_front.py",
    "gateway/wire/responses/words.py": "tests/gateway/wire/responses/test_front.py",
}  # fmt: skip


def code(*rooms: str) -> list[str]:
    found = [path for room in rooms for path in (ROOT / room).rglob("*.py") if path.name != "__init__.py"]
    return sorted(path.relative_to(ROOT).as_posix() for path in found)


def mirror(path: str) -> Path:
    file = ROOT / "tests" / path
    return file.with_name(f"test_{file.name}")


def test_each_file_has_its_tests_or_is_named_with_those_that_try_it() -> None:
    alone = [path for path in code("gateway") if not mirror(path).exists() and path not in TRIED_BY]
    assert not alone, f"no {mirror(alone[0]).relative_to(ROOT)}; write it, or name in TRIED_BY what tries it"


def test_no_exception_outlives_its_reason() -> None:
    files = set(code("gateway"))
    assert {path for path in TRIED_BY if path not in files or mirror(path).exists()} == set()
    assert {test for test in TRIED_BY.values() if not (ROOT / test).exists()} == set()


def test_every_mirrored_test_has_a_file_to_try() -> None:
    tests = sorted((ROOT / "tests/gateway").rglob("test_*.py"))
    files = {
        path: path.relative_to(ROOT / "tests").with_name(path.name.removeprefix("test_")) for path in tests
    }
    lonely = {path.relative_to(ROOT).as_posix() for path, file in files.items() if not (ROOT / file).exists()}
    assert lonely == ACROSS


@pytest.mark.parametrize("path", code("gateway", "local_backend", "loadtests", "deploy"))
def test_a_file_is_read_in_one_sitting(path: str) -> None:
    lines = len((ROOT / path).read_text().splitlines())
    assert lines <= MOST_LINES, f"{lines} lines; look for the second noun in it"


def trees() -> Iterator[tuple[str, ast.Module]]:
    for path in code("gateway"):
        yield path, ast.parse((ROOT / path).read_text())


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Public ones that are no part of another."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            yield node
        if isinstance(node, ast.ClassDef):
            yield from functions(node)


def is_protocol(node: ast.ClassDef) -> bool:
    return any(isinstance(base, ast.Name) and base.id == "Protocol" for base in node.bases)


def test_what_a_public_function_raises_is_told() -> None:
    """By itself, or by the protocol that it is the implementation of."""
    told_by_protocols = {
        function.name
        for _, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and is_protocol(node)
        for function in functions(node)
    }
    silent = [
        f"{path}:{function.lineno} {function.name}"
        for path, tree in trees()
        for function in functions(tree)
        if any(isinstance(one, ast.Raise) and is_told(one) for one in ast.walk(function))
        and "aise" not in (ast.get_docstring(function) or "")
        and function.name not in told_by_protocols
        and not function.name.startswith("on_")  # called by a parser, which tells what they may raise
    ]
    assert not silent, "\n".join(silent)


def is_told(raising: ast.Raise) -> bool:
    """A RuntimeError is a mistake of ours, which nobody has to expect."""
    return raising.exc is not None and not ast.unparse(raising.exc).startswith("RuntimeError")


def test_what_acts_says_what_it_is_for() -> None:
    """Where a file holds several classes that do something, each has a docstring; one alone has the file's."""
    silent = []
    for path, tree in trees():
        acting = [
            node for node in ast.iter_child_nodes(tree) if isinstance(node, ast.ClassDef) and acts(node)
        ]
        if len(acting) > 1:
            silent += [f"{path}:{node.lineno} {node.name}" for node in acting if not ast.get_docstring(node)]
    assert not silent, "\n".join(silent)


def acts(node: ast.ClassDef) -> bool:
    """Facts, refusals and protocols do not."""
    return not (node.name.startswith("_") or is_protocol(node)) and len(list(functions(node))) > 1
