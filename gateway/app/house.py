"""One data process: everything from the allowance to the router, opened in order and closed in reverse."""

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial

from starlette.middleware.cors import CORSMiddleware

from gateway.app.job import Running, lasting
from gateway.app.plan import Plan
from gateway.config.compiler import CompileOptions
from gateway.config.policies import Originals, Policies
from gateway.core.meters import Meters
from gateway.core.readiness import Elsewhere, Readiness, Status
from gateway.edge.asgi import App
from gateway.edge.background import Background
from gateway.edge.endpoints import FAMILIES, NEVER
from gateway.edge.inference import Inference
from gateway.edge.models import METHODS, ModelMethod
from gateway.edge.ownership import Ownership
from gateway.edge.passthrough import Passthrough, never
from gateway.edge.probes import starlette
from gateway.edge.reception import Bounds, Dependencies, Reception
from gateway.edge.responses import Responses
from gateway.edge.router import Router
from gateway.edge.sanity import Sanity
from gateway.edge.stored_responses import StoredResponses
from gateway.edge.turns import WebSockets
from gateway.pipeline.attempts import Attempts
from gateway.pipeline.dispatch import Dispatch
from gateway.pipeline.identify import Identify
from gateway.pipeline.serve import Pipeline
from gateway.pipeline.watch import Deadlines
from gateway.state.answers import Answers
from gateway.state.database import Database
from gateway.state.keystore import KeyStore
from gateway.state.memory import MemoryAllowance
from gateway.state.owners import Owners
from gateway.state.place import Place, parse_url
from gateway.state.redis import RedisAllowance
from gateway.state.runs import Runs
from gateway.state.threads import Threads, keep_tidy
from gateway.telemetry.logs import Log
from gateway.telemetry.otlp import secrets_of
from gateway.telemetry.telemetry import Telemetry, check_otel
from gateway.telemetry.tracing import carry_on
from gateway.upstream.breaker import Breaker
from gateway.upstream.budgets import RetryBudgets
from gateway.upstream.client import Upstream, trusting
from gateway.upstream.credentials import Credentials
from gateway.upstream.keyring import Keyring
from gateway.upstream.proxy import Proxies
from gateway.usage.spool import Spool
from gateway.wire.registry import DIALECTS, ROUTES

_HOT = (
    ("/v1", "/chat/completions", "openai.chat"),
    ("/v1", "/completions", "openai.completions"),
    ("/v1", "/embeddings", "openai.embeddings"),
    ("/v1", "/messages", "anthropic.messages"),
    ("/v1", "/messages/count_tokens", "anthropic.count_tokens"),
    ("/v1", "/rerank", "cohere.rerank_v1"),
    ("/v2", "/rerank", "cohere.rerank"),
)


class House:
    """`app` is the ASGI application of the data port; `jobs` must run as long as it serves."""

    def __init__(
        self, plan: Plan, log: Log, stack: AsyncExitStack, originals: Originals | None = None
    ) -> None:
        """Opens what needs no waiting; `originals` are the policies of a process that is ahead. Raises BadPolicies,
        ValueError for variables that are wrong."""
        settings = plan.settings
        self.plan, self.log = plan, log
        self.meters = meters = Meters()
        self.draining = False
        self.listening = False
        self.elsewhere: Callable[[], Elsewhere] = lambda: {"status": "ready", "degraded": []}
        options = CompileOptions(plan.data_dir, self._count_condition)
        self.policies = Policies(plan.config, options, meters, time.time, log, originals)
        fixed = secrets_of(plan.environ)
        log.hide([*fixed, *self.policies.snapshot.tables.secrets])
        self.policies.changed.append(lambda snapshot: log.hide([*fixed, *snapshot.tables.secrets]))
        self.database = Database(plan.database_url)
        stack.callback(self.database.close)
        self.keys = KeyStore(self.database, time.time, log)
        self.threads = Threads()
        stack.callback(self.threads.close)
        days, most = settings.responses_retention_days, settings.responses_max_size
        self.answers = Answers(self.database, time.time, days, most, self.threads.run)
        self.allowance = _allowance(plan, meters, log)
        stack.push_async_callback(self.allowance.aclose)
        self.telemetry = Telemetry(meters, log, plan.environ, time.time)
        stack.push_async_callback(self.telemetry.aclose)
        self.spool = Spool(plan.data_dir / "spool", f"w{plan.worker}", meters, log)
        stack.callback(self.spool.close)
        self.upstream = Upstream(
            tls=trusting(plan.environ.get("SSL_CERT_FILE")), proxies=Proxies.from_environment(plan.environ)
        )
        stack.push_async_callback(self.upstream.aclose)
        self.credentials = Credentials(self.upstream, plan.environ, time.time, meters, log)
        self.credentials.keep(self.policies.snapshot.tables.sources)
        self.policies.changed.append(lambda snapshot: self.credentials.keep(snapshot.tables.sources))
        stack.push_async_callback(self.credentials.aclose)
        self.breaker = Breaker(time.perf_counter, random.random)
        meters.circuit.source = self.breaker.states
        self.reception = self._reception(
            Bounds(settings.max_body, settings.max_file, settings.max_bodies, settings.max_in_flight)
        )
        self.runs = Runs(self.database, time.time, self.threads.run)
        self.background = Background(self.reception, self.answers, self.runs)
        self.app = self._application()

    def jobs(self) -> list[Running]:
        """What runs beside the server until it ends."""
        shared = [self.allowance.run] if isinstance(self.allowance, RedisAllowance) else []
        return lasting(
            self.log,
            *shared,
            self.policies.watch,
            self.keys.keep_fresh,
            self.credentials.run,
            partial(keep_tidy, self.threads.run, self.answers.sweep, self.runs.sweep),
            self.background.watch,
            self.spool.sync,
            self.log.run,
            self.telemetry.watch_loop,
            self.reception.keep_streams_alive,
        )

    def ready(self) -> Readiness:
        """The answer of `/health/ready`."""
        own, elsewhere = self.standing(), self.elsewhere()
        status = elsewhere["status"] if own["status"] == "ready" else own["status"]
        degraded = sorted({*own["degraded"], *elsewhere["degraded"]})
        return {**own, "status": status, "degraded": degraded}

    def standing(self) -> Readiness:
        """How this process is, whatever the others are."""
        status: Status = "draining" if self.draining else "ready" if self.listening else "starting"
        return {"status": status, "policies": self.policies.snapshot.version, "degraded": self.degraded()}

    def degraded(self) -> list[str]:
        """What is away: it changes no status, for what is left serves on."""
        away = [*self.allowance.degraded, *(["sql"] if self.keys.failing else [])]
        away += ["spool"] if self.spool.is_full else []
        # Of targets that left the policies with an open circuit nothing is heard any more.
        if broken := self.breaker.broken():
            known = broken & self.policies.snapshot.tables.targets()
            away += {"provider:" + target.partition("/")[0] for target in known}
        return sorted(away)

    def _reception(self, bounds: Bounds) -> Reception:
        attempts = Attempts(
            Dispatch(self.upstream, self.credentials, carry_on, time.perf_counter),
            self.spool,
            self.breaker,
            RetryBudgets(time.perf_counter),
            Keyring(time.perf_counter),
            self.meters,
            time.perf_counter,
            random.random,
        )
        pipeline = Pipeline(
            self.allowance,
            attempts,
            self.spool,
            self.telemetry,
            time.perf_counter,
            Deadlines(),
        )
        self.identify = Identify(self.keys, time.time)
        return Reception(
            Dependencies(
                self.policies, self.identify, pipeline, self.telemetry, self.meters, time.time, self.log
            ),
            bounds,
        )

    def _application(self) -> App:
        ownership = Ownership(Owners(self.database, time.time, self.threads.run))
        families = self._families(ownership)
        hot = {
            ("POST", version + path): self.reception.route(
                ROUTES[dialect],
                Inference(self.reception, ownership, ROUTES[dialect], path, DIALECTS[dialect]),
            )
            for version, path, dialect in _HOT
        }
        methods = {
            name: self.reception.route(
                ROUTES[method.dialect],
                ModelMethod(self.reception, ownership, ROUTES[method.dialect], "", DIALECTS[method.dialect]),
            )
            for name, method in METHODS.items()
        }
        passthrough = Passthrough(self.reception, ownership, FAMILIES["responses"])
        create = Responses(self.reception, ownership, self.background, passthrough)
        made = hot["POST", "/v1/responses"] = self.reception.route("responses", create)
        stored = StoredResponses(self.reception, ownership, self.background, passthrough)
        families["responses"] = self.reception.route("responses", stored)
        hot["GET", "/v1/responses"] = self.reception.route(
            "responses", WebSockets(self.reception, made, stored)
        )
        rest = starlette(self.policies, self.identify, self.ready, time.time)
        app: App = Router(hot, families, methods, rest)
        origins = [one.strip() for one in self.plan.settings.cors_origins.split(",") if one.strip()]
        if origins:
            app = CORSMiddleware(
                app, allow_origins=origins, allow_methods=["*"], allow_headers=["*"], expose_headers=["*"]
            )
        return Sanity(app)

    def _families(self, ownership: Ownership) -> dict[str, App]:
        """What passes through, and what never does."""
        families = {
            label: self.reception.route(label, Passthrough(self.reception, ownership, family))
            for label, family in FAMILIES.items()
        }
        return families | {label: self.reception.route("_other", never) for label in NEVER}

    def _count_condition(self, rule: str) -> None:
        self.meters.condition_errors.add((rule,))


def _allowance(plan: Plan, meters: Meters, log: Log) -> MemoryAllowance | RedisAllowance:
    if not plan.settings.redis_url:
        return MemoryAllowance(meters)
    return RedisAllowance(_redis(plan), meters, log, plan.workers)


def _redis(plan: Plan) -> Place:
    """Raises ValueError where the address, or a file of authorities or a certificate, cannot be used."""
    place = parse_url(plan.settings.redis_url)
    if not place.tls:
        return place
    named_by = "GATEWAY_REDIS_URL: ssl_ca_certs" if place.authorities else "SSL_CERT_FILE"
    return place.secured(trusting(place.authorities or plan.environ.get("SSL_CERT_FILE"), named_by))


def check_environment(plan: Plan) -> None:
    """What every data process reads from the environment, read once before any is started: each of them would end
    for the same reason, again and again. Raises ValueError."""
    if plan.settings.redis_url:
        _redis(plan)
    Proxies.from_environment(plan.environ)
    trusting(plan.environ.get("SSL_CERT_FILE"))
    check_otel(plan.environ)


async def settle(tasks: "set[asyncio.Task[None]]", seconds: float) -> None:
    """Let cancelled calls say their last word."""
    if tasks:
        await asyncio.wait(tasks, timeout=seconds)
