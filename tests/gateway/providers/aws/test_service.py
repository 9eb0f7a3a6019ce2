"""What Amazon's services have in common."""

import pytest

from gateway.providers.aws.bedrock import Bedrock
from gateway.providers.aws.sagemaker import SageMaker


@pytest.mark.parametrize(
    ("status", "body", "means"),
    [
        (424, b'{"Message": "x", "OriginalStatusCode": 400, "OriginalMessage": "y"}', 400),
        (424, b'{"message": "x", "originalStatusCode": 503}', 503), (424, b'{"OriginalStatusCode": null}', 502),
        (424, b'{"OriginalStatusCode": 200}', 502), (424, b'{"OriginalStatusCode": "4"}', 502), (424, b"[]", 502),
        (424, b"no", 502), (400, b'{"OriginalStatusCode": 500}', 400), (429, b"{}", 429),
    ],
)  # fmt: skip
def test_a_model_that_failed_tells_its_own_status(status: int, body: bytes, means: int) -> None:
    for service in (Bedrock(), SageMaker()):
        assert service.status(status, body) == means
