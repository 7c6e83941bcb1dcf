"""Images by URL for a model whose engines fetch none: the gateway fetches them, where it is told to.

It stands around the call of such a model, composed once with its answer function: where no hosts are configured there
is nothing of it.
"""

import asyncio
from typing import Final

from capstan_gateway.config.runtime import ServedModel
from capstan_gateway.errors import OUT_OF_TIME, InvalidRequest, Overloaded, UpstreamTimeout
from capstan_gateway.images.fetch import ImageFetcher
from capstan_gateway.images.gathered import GatheredImages
from capstan_gateway.images.urls import images_of, names_a_url, others_of, with_images
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.call import estimated
from capstan_gateway.pipeline.deps import Deps
from capstan_gateway.pipeline.layers import AnswerFunction
from capstan_gateway.pipeline.reply import Reply
from capstan_gateway.pipeline.request import Request

_NOT_FETCHED: Final = "is not fetched: of what has a URL only images are, and the model's engine fetches nothing"


async def answer_with_images(
    deps: Deps, fetcher: ImageFetcher, model: ServedModel, inner: AnswerFunction, ask: Ask
) -> Reply:
    """Give the reply of `inner` to the request with its images in it. Raises GatewayError without them."""
    request = ask.request
    if request.route.counts:
        # An engine may get what the client wrote there. An image counts alike whatever is on it.
        written = request.document if request.native is None else request.native.document
        return await estimated(deps, ask, model) if names_a_url(written) else await inner(ask)
    places = [*images_of(request.document)]
    _refuse_others(request)
    if not places:
        return await inner(ask)
    images = ask.images(lambda: GatheredImages(fetcher, ask.budget, max_bytes=deps.max_body_bytes))
    deadline = asyncio.timeout_at(ask.expires_at)
    try:
        async with deadline:
            data = await images.gather(places, came=request.came, named=request.route.dialect is None)
    except TimeoutError as error:
        if deadline.expired():
            raise UpstreamTimeout(OUT_OF_TIME) from error
        raise
    size = request.came + sum(len(data[place.url]) for place in places)
    body = ask.share()
    try:
        if not body.grow(size):  # What is sent, as long as it may have to be sent again.
            raise Overloaded
        ask.request = Request(
            request.route, with_images(request.document, data), stream=request.stream,
            usage_asked=request.usage_asked, native=request.native, headers=request.headers, came=size,
        )  # fmt: skip
        return await inner(ask)
    finally:
        ask.request = request
        body.release()


def _refuse_others(request: Request) -> None:
    """Raise InvalidRequest for a sound, a film or a file by URL: its engine would have to fetch it, from anywhere."""
    for place in others_of(request.document):
        named = request.route.dialect is None
        message = f"`{place.field}` {_NOT_FETCHED}" if named else f"`{place.kind}` {_NOT_FETCHED}"
        raise InvalidRequest(message, code="unsupported_value", param=place.field if named else None)
