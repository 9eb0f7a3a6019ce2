"""Where a model of Vertex AI is, and what its publisher wants in the body."""

from dataclasses import dataclass, field
from typing import Any

from gateway.core.address import WireRequest
from gateway.core.credential import Source
from gateway.core.exchange import Call, Headers, Target
from gateway.providers.compatible import ANTHROPIC_DIALECTS, Compatible, Endpoint, Place
from gateway.providers.gemini import Gemini, method
from gateway.providers.vertex.tokens import GoogleToken, service_account
from gateway.wire.splice import reframed

VERSION = "vertex-2023-10-16"  # what stands for `anthropic-version`, in the body


@dataclass(slots=True, frozen=True)
class Project:
    """What the policy file says. `credentials` is the JSON of a service account, as `${file:/run/secrets/sa.json}`
    gives it; without it Google's usual places are looked through."""

    project: str
    location: str
    base_url: str = ""
    credentials: str = field(default="", repr=False)
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    params: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True, frozen=True)
class VertexPlace(Place):
    """The place of a project; `source` is where its tokens come from."""

    source: Source | None = None


@dataclass(slots=True, frozen=True)
class Vertex(Gemini):
    spec: type[Any] = Project
    dialects: frozenset[str] = frozenset({"gemini.generate", "gemini.array", "gemini.count_tokens"})
    native: str = "gemini.generate"
    cap_name: str = "maxOutputTokens"
    renews: bool = True

    def speaks(self, dialect: str, model: str, facts: Any = None) -> str:
        """Each publisher's models speak its own language."""
        if not _is_claude(model):
            return dialect if dialect in self.dialects else self.native
        return dialect if dialect in ANTHROPIC_DIALECTS else "anthropic.messages"

    def enabled(self, spec: Any) -> bool:
        return True

    def facts(self, spec: Any) -> VertexPlace:
        """Raises ValueError that begins with the field's name."""
        for name in ("project", "location"):
            value = getattr(spec, name)
            if not value.replace("-", "").replace(".", "").replace(":", "").isalnum():
                raise ValueError(f"{name}: must be a plain name, as Google's console shows it")
        region = "" if spec.location == "global" else f"{spec.location}-"
        base_url = spec.base_url or f"https://{region}aiplatform.googleapis.com/v1beta1"
        # Compatible is named outright: zero-argument super() breaks in slotted dataclasses before 3.14.
        place = Compatible.facts(self, Endpoint(base_url, headers=spec.headers, params=spec.params))
        prefix = f"{place.prefix}/projects/{spec.project}/locations/{spec.location}/publishers"
        source = GoogleToken(service_account(spec.credentials) if spec.credentials else None)
        return VertexPlace(place.origin, prefix, place.heads, (), place.params, source)

    def source(self, facts: VertexPlace) -> Source | None:
        return facts.source

    def path(self, target: Target, call: Call, spoken: str) -> str:
        model = self.named(target, call)
        if spoken == "anthropic.count_tokens":
            return "/anthropic/models/count-tokens:rawPredict"
        if spoken == "anthropic.messages":
            return f"/anthropic/models/{model}:{'streamRawPredict' if call.stream else 'rawPredict'}"
        return f"/google/models/{model}:{method(call, spoken)}"

    def request(
        self, target: Target, call: Call, spoken: str, body: bytes, extra: Headers, turn: int
    ) -> WireRequest:
        if spoken in ANTHROPIC_DIALECTS:
            body = _for_claude(body, keep_model=spoken == "anthropic.count_tokens")
        return Compatible.request(self, target, call, spoken, body, extra, turn)


def _is_claude(model: str) -> bool:
    return model.startswith("claude-")


def _for_claude(body: bytes, *, keep_model: bool) -> bytes:
    """The model stands in the path, the version in the body."""
    return reframed(body, {"anthropic_version": VERSION}, lambda name: keep_model or name != "model")
