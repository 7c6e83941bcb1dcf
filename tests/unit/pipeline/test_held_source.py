"""The source of a stream whose frames are all there already, as of a cached or assembled answer."""

from capstan_gateway.pipeline.held import HeldSource


async def test_nothing_is_left_to_receive() -> None:
    """It is whole and well, names the model that it is of, and gives nothing more however it is asked."""
    source = HeldSource("llama")
    assert (source.status, source.complete, source.whole, source.opening, source.headers) == (200, True, None, None, [])
    assert (source.endpoint.id, source.endpoint.host, source.endpoint.port) == ("llama@held", "", 0)
    assert await source.receive() == b""
    assert await source.read(9) == b""
    assert await source.read_beginning(9) == b""


def test_nobody_is_blamed_and_nothing_is_open() -> None:
    """The call that it came of is over: whatever is done at the end of a stream does nothing here."""
    source = HeldSource("llama")
    source.finish()
    source.blame("not_json")
    source.close()
    source.close()
    assert source.complete
