"""What the simulator hears, by the official client, and by way of a gateway."""

import io
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from openai import OpenAI

from capstan_contract.config import Task
from support.gateway import entry, running_gateway
from support.worker import Worker, simulator

SOUND = ("speech.wav", bytes(range(256)) * 125, "audio/wav")
"""Two seconds."""


@pytest.fixture(scope="module")
def ears() -> Iterator[Worker]:
    """A model that hears."""
    with simulator("--task", "transcribe", model="ears") as started:
        yield started


@pytest.fixture
def client(ears: Worker) -> Iterator[OpenAI]:
    """The official client, without retries."""
    with OpenAI(base_url=f"{ears.url}/v1", api_key="unused", max_retries=0) as client:
        yield client


def test_the_same_file_is_heard_alike_in_every_form(client: OpenAI, ears: Worker) -> None:
    """Whole, with times, as text, as subtitles and as a stream it says the same; another language is another text."""
    create = client.audio.transcriptions.create
    plain = create(model="ears", file=SOUND)
    assert plain.text.startswith("Simulated: ")
    assert plain.usage is not None
    assert plain.usage.model_dump() == {"type": "duration", "seconds": 2.0}
    assert create(model="ears", file=SOUND, response_format="text") == f"{plain.text}\n"
    verbose = create(model="ears", file=SOUND, response_format="verbose_json")
    assert (verbose.text, verbose.duration) == (plain.text, 2.0)
    assert " ".join(segment.text for segment in verbose.segments or ()) == plain.text
    srt, vtt = (create(model="ears", file=SOUND, response_format=form) for form in ("srt", "vtt"))
    assert srt == f"1\n00:00:00,000 --> 00:00:02,500\n{plain.text}\n\n"
    assert vtt == f"WEBVTT\n\n00:00:00.000 --> 00:00:02.500\n{plain.text}\n\n"
    chunks = list(create(model="ears", file=SOUND, stream=True, extra_body={"stream_include_usage": True}))
    said = [chunk.model_extra or {} for chunk in chunks]
    assert "".join(one["choices"][0]["delta"]["content"] for one in said if one["choices"]) == plain.text
    assert said[-1]["usage"]["completion_tokens"] == len(plain.text.split())
    assert create(model="ears", file=SOUND, language="de").text != plain.text
    assert ears.metric("vllm:generation_tokens_total") > 0


def test_what_it_cannot_hear_is_refused_as_vllm_does(client: OpenAI) -> None:
    """No such model, no such form, a form that is not streamed; and a model for text hears nothing."""
    create = client.audio.transcriptions.create
    with pytest.raises(openai.NotFoundError):
        create(model="nobody", file=SOUND)
    with pytest.raises(openai.BadRequestError):
        create(model="ears", file=SOUND, extra_body={"response_format": "aloud"})
    with pytest.raises(openai.BadRequestError):
        create(model="ears", file=SOUND, response_format="srt", stream=True)
    with pytest.raises(openai.UnprocessableEntityError):
        client.post("/audio/transcriptions", cast_to=object, body={"model": "ears"})
    with (
        simulator() as chat,
        OpenAI(base_url=f"{chat.url}/v1", api_key="x", max_retries=0) as other,
        pytest.raises(openai.BadRequestError, match="does not support"),
    ):
        other.audio.transcriptions.create(model="sim", file=SOUND)


@pytest.mark.parametrize("fault", ["", "truncate", "die;after=1", "errorevent;after=1", "503"])
@pytest.mark.parametrize("stream", [False, True])
async def test_the_gateway_gives_what_an_engine_hears_or_an_error(
    fault: str, stream: bool, ears: Worker, tmp_path: Path
) -> None:
    """What one engine breaks off, another one hears, as long as nothing has been sent; a stream never ends quietly."""
    flags = ("--fault", fault) if fault else ()
    with simulator("--task", "transcribe", *flags, model="ears") as broken:
        model = entry("ears", broken.url, ears.url, task=Task.TRANSCRIBE)
        async with running_gateway(tmp_path, model) as gateway, gateway.client() as client:
            for _ in range(2):
                try:
                    if stream:
                        events = await client.audio.transcriptions.create(model="ears", file=SOUND, stream=True)
                        said = [event.model_extra or {} async for event in events]
                        text = "".join(one["choices"][0]["delta"]["content"] for one in said if one["choices"])
                    else:
                        text = (await client.audio.transcriptions.create(model="ears", file=io.BytesIO(SOUND[1]))).text
                except openai.APIError:
                    assert stream  # Its first words were sent before it broke.
                    assert fault not in ("", "503")
                else:
                    assert text.startswith("Simulated: ")
