"""Multipart bodies are read strictly, in pieces of any size, and pass on with nothing but the model changed."""

import time
from collections.abc import AsyncIterator

import pytest

from gateway.core.failure import BadRequest
from gateway.edge.multipart import (
    IN_MEMORY,
    MOST_JSON,
    MOST_PARTS,
    Field,
    Held,
    MultipartUpload,
    Part,
    Scanner,
    boundary_of,
)

BOUNDARY = b"xYz"


def part(name: str, value: bytes, more: str = "") -> bytes:
    return (
        b"--xYz\r\n"
        + f'Content-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode()
        + value
        + b"\r\n"
    )


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--xYz--\r\n"


def holds(part: Part) -> Held:
    if part.is_file and part.name == "file":
        return Held.NOTHING
    return {"model": Held.MODEL, "file_id": Held.VALUE}.get(part.name, Held.JSON)


def scan(body: bytes, size: int = 1 << 16) -> list[Field]:
    scanner = Scanner(BOUNDARY, holds)
    return [
        field for at in range(0, len(body), size) for field in scanner.feed(body[at : at + size])
    ]  # fmt: skip


FILE = part("file", b"\r\n--xY \r\n\r\n\x00 no boundary", '; filename="a.wav"')


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1 << 16])
def test_fields_are_found_for_any_cut_into_pieces(size: int) -> None:
    body = form(part("model", b"whisper"), FILE, part("file_id", b"file-1"), part("prompt", b"x"))
    fields = scan(body, size)
    assert [(one.name, one.value) for one in fields] == [("model", "whisper"), ("file_id", "file-1")]
    assert [body[one.start : one.end] for one in fields] == [b"whisper", b"file-1"]


def test_an_empty_field_is_found_as_one() -> None:
    assert [one.value for one in scan(form(part("model", b"")))] == [""]


def test_a_file_may_be_named_before_its_field() -> None:
    head = b'content-disposition: form-data; filename="a; name=x.wav"; filename*=UTF-8\'\'b; name="model"'
    assert [one.value for one in scan(form(b"--xYz\r\n" + head + b"\r\n\r\ngpt\r\n"))] == ["gpt"]


def test_names_without_quotes_count_as_well() -> None:
    body = form(b"--xYz\r\ncontent-disposition: form-data; name=model\r\n\r\ngpt\r\n")
    assert [one.value for one in scan(body)] == ["gpt"]


JSON = b'{"file_id": "file-1"}'


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1 << 16])
@pytest.mark.parametrize(
    "value", [JSON, b" \r\n\t[" + JSON + b"]\r\n", b"\xef\xbb\xbf" + JSON, b" " * 300 + JSON]
)
def test_json_is_found_in_any_field(value: bytes, size: int) -> None:
    body = form(
        FILE, part("prompt", b"x"), part("empty", b""), part("reference", value), part("file_id", value)
    )
    fields = scan(body, size)
    assert [(one.name, one.value.encode(), one.is_json) for one in fields] == [
        ("reference", value, True),
        ("file_id", value, True),
    ]
    assert [body[one.start : one.end] for one in fields] == [value, value]


def test_a_model_is_none_that_is_json() -> None:
    fields = scan(form(part("model", JSON)))
    assert [(one.value, one.held, one.is_json) for one in fields] == [(JSON.decode(), Held.MODEL, False)]


@pytest.mark.parametrize(
    "kind", ["application/json", "Application/JSON; charset=utf-8", "application/x+json"]
)
def test_what_says_that_it_is_json_is_held_whatever_it_looks_like(kind: str) -> None:
    body = form(part("reference", b'"file-1"', f"\r\nContent-Type: {kind}"))
    assert [(one.value, one.is_json) for one in scan(body)] == [('"file-1"', True)]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-16", "utf-32-le"])
def test_json_in_another_encoding_does_not_pass_unseen(encoding: str) -> None:
    body = form(part("reference", JSON.decode().encode(encoding)))
    try:
        assert [one.is_json for one in scan(body, 5)] == [True]
    except BadRequest as refused:
        assert "is not UTF-8" in str(refused)


@pytest.mark.parametrize(
    "value", [bytes(1 << 20), b"hello {", b"\0\0\0\x20ftyp" + b"{" * (2 << 20), b"\xff\xd8{"]
)
def test_what_is_no_json_goes_by_whatever_its_size(value: bytes) -> None:
    assert scan(form(part("image", value))) == []


@pytest.mark.parametrize("value", [b"[\x80sound", b"{\xff\xfe", b"[\0" + b"\x01" * (2 << 20)])
def test_sound_that_begins_as_json_does_goes_by(value: bytes) -> None:
    assert scan(form(part("audio_file", value, '; filename="a.pcm"'))) == []


def test_files_go_by_whatever_is_in_them() -> None:
    body = form(part("file", JSON * (MOST_JSON // 10), '; filename="a.jsonl"'), part("file_id", b"file-1"))
    assert [one.value for one in scan(body)] == ["file-1"]


def test_json_is_held_to_its_bound_and_no_further() -> None:
    most = b"[" + b" " * (MOST_JSON - 2) + b"]"
    assert [len(one.value) for one in scan(form(part("x", most)))] == [MOST_JSON]
    for size in (1000, 1 << 16):
        with pytest.raises(BadRequest, match=f"'x' holds JSON of more than {MOST_JSON} bytes; send a file"):
            scan(form(part("x", most + b" ")), size)
    with pytest.raises(BadRequest):
        scan(form(part("x", b" " * (MOST_JSON + 1))))


def test_json_that_comes_a_byte_at_a_time_is_looked_through_once() -> None:
    body = form(part("x", b"[" + b"\r" * 200_000 + b"]"))
    began = time.perf_counter()
    assert len(scan(body, 1)) == 1
    assert time.perf_counter() - began < 2, "the bound of the attack, not a benchmark"


@pytest.mark.parametrize(
    "head",
    [
        'Content-Disposition: form-data; name="x"; name="model"',
        'Content-Disposition: form-data; name="x"\r\nContent-Disposition: form-data; name="model"',
        "Content-Disposition: form-data; name*=utf-8''model",
        "Content-Disposition: form-data",
        'Content-Disposition: form-data;\r\n name="model"',
        'Content-Disposition: attachment; name="model"',
        'Content-Disposition: form-data; name="mo\\del"',
        'Content-Disposition: form-data; filename="a\\"; name="model"; filename="b"',
        'Content-Disposition: form-data; filename="a"',
        'Content-Disposition: form-data; name="x"; filename="a"; name="model"',
        "Content-Type: text/plain",
        'X: y\nContent-Disposition: form-data; name="model"',
        'Content-Disposition: form-data; name="model"\r\nContent-Transfer-Encoding: base64',
        'Content-Disposition: form-data; name="model"\r\nbroken',
    ],
)
def test_a_part_that_two_readers_could_read_as_two_things_is_refused(head: str) -> None:
    with pytest.raises(BadRequest):
        scan(b"--xYz\r\n" + head.encode() + b"\r\n\r\ngpt\r\n--xYz--\r\n")


@pytest.mark.parametrize(
    "body",
    [
        form(*[part(f"p{i}", b"x") for i in range(MOST_PARTS + 1)]),
        b"--xYz\r\nx: " + b"y" * 9000,
        form(part("model", b"m" * 300)),
        b'--xYz\r\ncontent-disposition: form-data; name="model"\r\n\r\n' + b"m" * 300,
        form(part("model", b"\xff\xfe")),
        b"--xYzz\r\n",
        b"--xYz" + b" " * 200 + b"\r\n",
        form(part("x", b"y")) + part("model", b"gpt"),
    ],
)
def test_broken_multipart_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest):
        scan(body)
    with pytest.raises(BadRequest):
        scan(body, 10)


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        (b"multipart/form-data; boundary=abc", b"abc"),
        (b'multipart/form-data; charset=utf-8; Boundary="a b"; x=y', b"a b"),
        (b"multipart/form-data;boundary=" + b"-" * 70, b"-" * 70),
    ],
)
def test_a_boundary_is_read_as_written(content_type: bytes, boundary: bytes) -> None:
    assert boundary_of(content_type) == boundary


@pytest.mark.parametrize(
    "content_type",
    [
        b"multipart/form-data",
        b"multipart/form-data; boundary=",
        b"multipart/form-data; boundary=" + b"-" * 71,
        b"multipart/form-data; boundary=" + b"-" * 1_000_000,
        b"multipart/form-data; boundary=a; boundary=b",
    ],
)
def test_an_unsound_boundary_is_refused_at_once(content_type: bytes) -> None:
    began = time.perf_counter()
    with pytest.raises(BadRequest):
        boundary_of(content_type)
    assert time.perf_counter() - began < 0.05, "the bound of the attack, not a benchmark"


class Source:
    """A client's body in pieces; counts what was taken."""

    def __init__(self, body: bytes, size: int = 1 << 16) -> None:
        self.pieces = [body[at : at + size] for at in range(0, len(body), size)]
        self.taken = 0

    async def stream(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            self.taken += 1
            yield piece


async def upload(body: bytes, source: Source | None = None) -> tuple[MultipartUpload, list[str]]:
    seen: list[str] = []

    async def judge(field: Field) -> None:
        seen.append(field.value)
        if field.value == "file-theirs":
            raise BadRequest("not yours")

    source = source or Source(body)
    scanner = Scanner(BOUNDARY, holds)
    return MultipartUpload(source.stream(), len(body), scanner, judge, lambda size: None), seen


async def sent(one: MultipartUpload, model: str) -> tuple[bytes, int | None]:
    stream, length = one.open(model)
    return b"".join([piece async for piece in stream]), length


@pytest.mark.parametrize("name", ["whisper", "w", "a-much-longer-name"])
async def test_the_model_is_renamed_and_all_else_stays(name: str) -> None:
    big = part("file", b"\x00" * (IN_MEMORY + 1000), '; filename="a"')
    for parts in ((part("model", b"whisper"), big), (big, part("model", b"whisper"), part("x", b"y"))):
        body = form(*parts)
        one, _ = await upload(body)
        await one.find_model()
        assert one.model == "whisper"
        out, length = await sent(one, name)
        assert out == body.replace(b"\r\nwhisper\r\n", b"\r\n" + name.encode() + b"\r\n")
        assert length == len(out)
        one.close()


async def test_nothing_is_read_past_a_model_that_comes_first() -> None:
    body = form(part("model", b"whisper"), part("file", bytes(1 << 20)))
    source = Source(body)
    one, _ = await upload(body, source)
    await one.find_model()
    assert source.taken == 1
    one.close()


async def test_a_body_without_a_model_passes_whole() -> None:
    body = form(FILE, part("file_id", b"file-mine"))
    one, seen = await upload(body)
    await one.find_model()
    assert (one.model, await sent(one, "x"), seen) == ("", (body, len(body)), ["file-mine"])
    one.close()


@pytest.mark.parametrize("late", [part("model", b"gpt-secret"), part("file_id", b"file-theirs")])
async def test_a_late_field_that_is_not_allowed_never_leaves(late: bytes) -> None:
    body = form(part("model", b"whisper"), part("file", bytes(1 << 18)), late)
    one, _ = await upload(body)
    await one.find_model()
    stream, _ = one.open("whisper")
    out = b""
    with pytest.raises(BadRequest):
        async for piece in stream:
            out += piece
    assert b"secret" not in out
    assert b"theirs" not in out
    assert one.sent
    one.close()


async def test_an_empty_model_is_none() -> None:
    one, _ = await upload(form(part("model", b"")))
    with pytest.raises(BadRequest):
        await one.find_model()
    one.close()


async def test_a_body_that_is_not_sent_yet_can_be_opened_again() -> None:
    body = form(part("model", b"whisper"))
    one, _ = await upload(body)
    await one.find_model()
    one.open("a")
    assert not one.sent
    assert (await sent(one, "b"))[0] == body.replace(b"whisper", b"b")
    one.close()
