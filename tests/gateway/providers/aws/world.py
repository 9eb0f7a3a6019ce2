"""Files and services of a machine as the chain finds them, and what was asked of them."""

from pathlib import Path
from typing import Any

from gateway.core.address import WireRequest
from gateway.core.credential import Command, Credential, StepResult, WriteFile
from gateway.providers.aws.chain import AwsChain
from gateway.providers.aws.sigv4 import Keys

NOW = 1764064800.0  # 2025-11-25T10:00:00Z
JSON = b'{"AccessKeyId":"AKI","SecretAccessKey":"s","Token":"t","Expiration":"2025-11-25T11:00:00Z"}'
XML = (
    b"<AssumeRoleResponse><Credentials><AccessKeyId>AKI</AccessKeyId><SecretAccessKey>s</SecretAccessKey>"
    b"<SessionToken>t</SessionToken><Expiration>2025-11-25T11:00:00Z</Expiration></Credentials></AssumeRoleResponse>"
)
HOUR = Credential(Keys("AKI", "s", "t"), 3600.0)
ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "ENV", "AWS_SECRET_ACCESS_KEY": "e"}
NO_FILE = StepResult(404, b"No such file or directory")
NO_ANSWER = StepResult(0, b"no route to host")
CONFIG, CREDENTIALS = "/home/a/.aws/config", "/home/a/.aws/credentials"
CHAIN = AwsChain("eu-central-1", "bedrock")


class World:
    """Files and services, and what was asked of them in order."""

    def __init__(self, files: dict[str, str] | None = None, *answers: StepResult) -> None:
        self.files, self.answers = files or {}, list(answers)
        self.asked: list[WireRequest] = []
        self.run: list[str] = []

    def obtain(self, environ: dict[str, str] | None = None, source: AwsChain = CHAIN) -> Credential:
        steps = source.obtain(NOW, {"HOME": "/home/a", **(environ or {})})
        told: Any = None
        while True:
            try:
                step = steps.send(told)
            except StopIteration as end:
                found: Credential = end.value
                return found
            if isinstance(step, Path):
                text = self.files.get(str(step))
                told = NO_FILE if text is None else StepResult(200, text.encode())
            else:
                told = self._told(step)

    def _told(self, step: WireRequest | Command | WriteFile) -> StepResult:
        if isinstance(step, WriteFile):
            self.files[str(step.path)] = step.content.decode()
            return StepResult(200, b"")
        if isinstance(step, Command):
            self.run.append(step.line)
        else:
            self.asked.append(step)
        return self.answers.pop(0) if self.answers else NO_ANSWER

    @property
    def lines(self) -> list[str]:
        return [wire.head.decode().split("\r\n")[0].removesuffix(" HTTP/1.1") for wire in self.asked]

    @property
    def bodies(self) -> list[bytes]:
        return [wire.body for wire in self.asked if isinstance(wire.body, bytes)]
