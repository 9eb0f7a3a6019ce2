"""What crosses the line comes out as it went in."""

import asyncio
import io
import socket
from math import inf
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from local_backend import frames
from local_backend.metrics import Metrics
from local_backend.options import EngineConfig, Setup
from local_backend.types import Delta, Finish, Job, Logprob, Sampling

TOKENS = st.integers(0, 2**31 - 1)
SAMPLINGS = st.builds(
    Sampling,
    temperature=st.floats(0, 2),
    logit_bias=st.lists(st.tuples(TOKENS, st.floats(-100, 100)), max_size=3).map(tuple),
    seed=st.integers(-(2**63), 2**63),
    stop_ids=st.frozensets(TOKENS, max_size=3),
    logprobs=st.none() | st.integers(0, 20),
    grammar=st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
)
SCORES = st.floats(max_value=0, allow_nan=False)
LOGPROBS = st.builds(Logprob, SCORES, st.lists(st.tuples(TOKENS, SCORES), max_size=3).map(tuple))


def across(*words: Any) -> frames.Message:
    (found,) = frames.messages(io.BytesIO(frames.pack("word", *words)))
    assert found[0] == "word"
    return found[1:]


@given(
    st.builds(Job, st.lists(TOKENS), SAMPLINGS, st.integers(1, 128), st.text(st.characters(codec="utf-8")))
)
def test_a_job_comes_out_as_it_went_in(job: Job) -> None:
    assert frames.job_of(across(job)[0]) == job


@given(
    st.builds(
        Delta,
        st.lists(TOKENS, max_size=3).map(tuple),
        st.none() | st.sampled_from(Finish),
        st.integers(0, 2**31),
        st.lists(LOGPROBS, max_size=3).map(tuple),
        st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=3).map(tuple),
    )
)
def test_a_delta_comes_out_as_it_went_in_infinities_included(delta: Delta) -> None:
    ((call, found),) = across((7, delta))
    assert call == 7
    assert frames.delta_of(found) == delta


def test_an_impossible_token_has_a_logarithm_of_minus_infinity() -> None:
    assert orjson.loads(orjson.dumps(-inf)) is None, "JSON has no infinity"
    scored = Delta((1,), None, 0, (Logprob(-inf, ((1, -inf),)),))
    assert frames.delta_of(across(scored)[0]) == scored


def test_a_setup_and_the_metrics_come_out_as_they_went_in() -> None:
    config = EngineConfig(max_len=77, kv_memory=2**33)
    setup = Setup("/models/x", "bfloat16", "int8", 3, 2, 0.5, config, "cuda", 9)
    metrics = Metrics(running=3, finished={"stop": 4})
    metrics.between.observe(0.01)
    assert frames.setup_of(across(setup)[0]) == setup
    found = frames.metrics_of(across(metrics)[0])
    assert found.render(2) == metrics.render(2)
    assert found.finished == {"stop": 4}


@pytest.mark.parametrize("cut", [1, 3, 4, 9])
async def test_half_a_message_is_the_end_of_the_line(cut: int) -> None:
    whole = frames.pack("ready", 5)
    reader = asyncio.StreamReader()
    reader.feed_data(whole + whole[:cut])
    reader.feed_eof()
    assert await frames.receive(reader) == ["ready", 5]
    assert await frames.receive(reader) is None
    file = io.BytesIO(whole + whole[:cut])
    assert list(frames.messages(file)) == [["ready", 5]]


def test_a_side_that_is_reset_has_gone() -> None:
    ours, theirs = socket.socketpair()
    with ours, ours.makefile("rb") as file:
        ours.sendall(frames.pack("ping"))  # unread when the other side closes: a reset, and no end of file
        theirs.close()
        assert list(frames.messages(file)) == []
