"""Amazon SageMaker: a model that serves an endpoint of one's own, whose container speaks OpenAI's chat (vLLM, SGLang,
TGI, LMI)."""

import re
from dataclasses import dataclass, field
from typing import Any

from gateway.core.exchange import Call, Target
from gateway.providers.aws.service import Region, Service

# The name goes into a path. Source: InvokeEndpoint's reference, EndpointName.
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")


@dataclass(slots=True, frozen=True)
class SageMakerEndpoint:
    """What the policy file says. `endpoint` is another address than the region's own (a VPC endpoint, a proxy); a
    target's model is the name of the SageMaker endpoint. Requests are signed with keys of the AWS credential chain,
    or of `profile`. `params` may hold a `model` for the container, which is told none else."""

    region: str
    endpoint: str = ""
    profile: str = ""
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    params: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True, frozen=True)
class SageMaker(Service):
    spec: type[Any] = SageMakerEndpoint
    native: str = "sagemaker.chat"
    host: str = "runtime.sagemaker"
    signs: str = "sagemaker"
    names: re.Pattern[str] | None = _NAME
    no_name: str = "no endpoint of SageMaker's; a name is at most 63 letters, digits and hyphens"

    def speaks(self, dialect: str, model: str, facts: Any = None) -> str:
        return self.native

    def facts(self, spec: Any) -> Region:
        return self.placed(spec)

    def path(self, target: Target, call: Call, spoken: str) -> str:
        """Raises BadRequest for a name that no endpoint has."""
        return f"/endpoints/{self.named(target, call)}/invocations{'-response-stream' if call.stream else ''}"
