"""instructor, which makes objects of answers: by tools and by a JSON schema on chat, and by tools on Messages."""

from typing import Any

import instructor
import scenarios
from anthropic import Anthropic
from openai import OpenAI
from pydantic import BaseModel


class Report(BaseModel):
    """The weather of a city."""

    city: str
    degrees: int


def scenarios_of(client: Any, **ask: Any) -> scenarios.Scenarios:
    """Give what a patched client does."""

    def make(content: Any, **more: Any) -> Any:
        return client.create(
            messages=[{"role": "user", "content": content}], response_model=Report, max_retries=0, **ask, **more
        )

    def stream(prompt: str) -> Any:
        parts = client.create_partial(
            messages=[{"role": "user", "content": prompt}], response_model=Report, max_retries=0, **ask
        )
        return {"object": [*parts][-1].model_dump()}

    def images(prompt: str) -> Any:
        shown = instructor.Image.from_path(str(scenarios.PICTURE))
        return {"object": make([prompt, shown]).model_dump()}

    return {
        "stream": stream,
        "structured output": lambda prompt: {"object": make(prompt).model_dump()},
        "images": images,
        "errors": lambda prompt: scenarios.failures(make, prompt),
    }


def openai() -> Any:
    """Give an OpenAI client."""
    return OpenAI(base_url=scenarios.V1, api_key=scenarios.KEY, max_retries=0)


if __name__ == "__main__":
    claude = Anthropic(base_url=scenarios.GATEWAY, api_key=scenarios.KEY, max_retries=0)
    messages = scenarios_of(instructor.from_anthropic(claude), model=scenarios.MODEL, max_tokens=1000)
    scenarios.run({
        "instructor, tools": scenarios_of(instructor.from_openai(openai()), model=scenarios.MODEL),
        "instructor, JSON schema": scenarios_of(
            instructor.from_openai(openai(), mode=instructor.Mode.JSON_SCHEMA), model=scenarios.MODEL
        ),
        "instructor, Anthropic": messages,
    })  # fmt: skip
