"""Images by URL for a model whose engines fetch none: the gateway fetches them, where it is told to.

It stands around the call of such a model, composed once with its answer function: where no hosts are configured there
is nothing of it.
"""

import asyncio
from functools import partial
from typing import Final

from capstan_gateway.config.runtime import ServedModel
from capstan_gateway.errors import OUT_OF_TIME, InvalidRequest, Overloaded, UpstreamTimeout
from capstan_gateway.images.fetch import ImageFetcher
from capstan_gateway.images.gathered import GatheredImages
from capstan_gateway.images.urls import Place, elsewhere_of, images_of, names_a_url, others_of, with_images
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.call import estimated, on_size
from capstan_gateway.pipeline.deps import Deps
from capstan_gateway.pipeline.layers import AnswerFunction
from capstan_gateway.pipeline.reply import Reply
from capstan_gateway.pipeline.request import CHAT_PATH, Request

_NOT_FETCHED: Final = "is not fetched: of what has a URL only images are, and the model's engine fetches nothing"
_NOT_FETCHED_HERE: Final = "is fetched for messages alone, and the model's engine fetches nothing"


async def answer_with_images(
    deps: Deps, fetcher: ImageFetcher, model: ServedModel, inner: AnswerFunction, ask: Ask
) -> Reply:
    """Give the reply of `inner` to the request with its images in it. Raises GatewayError without them."""
    request = ask.request
    if request.route.counts:
        # An engine may get what the client wrote there. An image counts alike whatever is on it.
        written = request.document if request.native is None else request.native.document
        named = await on_size(deps, request, partial(names_a_url, written))
        return await estimated(deps, ask, model) if named else await inner(ask)
    places = await on_size(deps, request, partial(_images, request))
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
        document = await on_size(deps, request, partial(with_images, request.document, data))
        ask.request = Request(
            request.route, document, stream=request.stream,
            usage_asked=request.usage_asked, native=request.native, headers=request.headers, came=size,
            form=request.form,
        )  # fmt: skip
        return await inner(ask)
    finally:
        ask.request = request
        body.release()


def _images(request: Request) -> list[Place]:
    """Give the images to fetch. InvalidRequest for anything else by URL: the engine would fetch it, from anywhere."""
    named = request.route.dialect is None
    for place in others_of(request.document):
        message = f"`{place.field}` {_NOT_FETCHED}" if named else f"`{place.kind}` {_NOT_FETCHED}"
        raise InvalidRequest(message, code="unsupported_value", param=place.field if named else None)
    if request.route.upstream_path != CHAT_PATH and (field := elsewhere_of(request.document)) is not None:
        message = f"`{field}` holds something by URL, which {_NOT_FETCHED_HERE}"
        raise InvalidRequest(message, code="unsupported_value", param=field)
    return [*images_of(request.document)]
