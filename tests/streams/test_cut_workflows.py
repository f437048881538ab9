"""A workflow's stream that ends early: what had come is delivered, and the status says how far it came."""

import pytest
from tests.conftest import Fal, Running
from tests.failures import messages_and_failure
from tests.service.test_stream_calls import replayed

NODES = ["a", "b", "c", "d"]


def submitted(node: str) -> str:
    return f'{{"type":"submit","node_id":"{node}","app_id":"x/y","request_id":"r-{node}"}}'


def completed(node: str) -> str:
    return f'{{"type":"completion","node_id":"{node}","app_id":"x/y","output":{{"from":"{node}"}}}}'


@pytest.mark.parametrize("end", ["clean", "cut", "reset", "half_event"])
async def test_two_of_four_nodes(gateway: Running, fal: Fal, end: str) -> None:
    """Both completions arrive, then a status that names the two nodes, and invites to no repeat."""
    events = [submitted("a"), completed("a"), submitted("b"), completed("b"), submitted("c")]
    messages, failed = await messages_and_failure(gateway.stub.StreamWorkflow(replayed(*events, end=end)))
    outputs = [m.completion.output.json for m in messages if m.HasField("completion")]
    assert outputs == ['{"from":"a"}', '{"from":"b"}']
    assert (failed.code, failed.info.reason, failed.delivery) == ("UNKNOWN", "STREAM_TRUNCATED", "ACCEPTED")
    assert failed.info.metadata["finished_nodes"] == "a,b"
    assert failed.info.metadata["request_id"] == messages[0].started.request_id


async def test_a_step_that_fails_after_others(gateway: Running, fal: Fal) -> None:
    """A step's failure names the nodes that had finished before it, too."""
    error = '{"type":"error","node_id":"c","message":"m","error":{"status":500,"body":{"detail":"d"}}}'
    events = [completed("a"), completed("b"), error]
    _, failed = await messages_and_failure(gateway.stub.StreamWorkflow(replayed(*events)))
    assert failed.info.metadata["finished_nodes"] == "a,b"
    assert failed.info.metadata["node_id"] == "c"


async def test_none_of_them(gateway: Running, fal: Fal) -> None:
    """Where no node had finished none is named."""
    _, failed = await messages_and_failure(gateway.stub.StreamWorkflow(replayed(submitted("a"))))
    assert "finished_nodes" not in failed.info.metadata


async def test_very_many_nodes(gateway: Running, fal: Fal) -> None:
    """The names have little room in a status: the first ones are there, and how many more; no message is lost."""
    events = [completed(f"node_{n}") for n in range(100)]
    messages, failed = await messages_and_failure(gateway.stub.StreamWorkflow(replayed(*events)))
    assert len(messages) == 101
    names = failed.info.metadata["finished_nodes"]
    *shown, more = names.split(",")
    assert shown == [f"node_{n}" for n in range(len(shown))]
    assert more == f"+{100 - len(shown)}"
    assert 100 < len(names.encode()) <= 160
