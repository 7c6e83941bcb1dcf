"""Images by URL for a model whose engines fetch none: the gateway fetches them, where it is told to."""

from capstan_gateway.images.fetch import ImageFetcher
from capstan_gateway.images.urls import images_of, with_images
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.request import Request


async def fetched(fetcher: ImageFetcher, ask: Ask, request: Request) -> Request:
    """Give the request with its images in it; itself where it names none. Raises InvalidRequest, Overloaded."""
    places = [*images_of(request.document)]
    if not places:
        return request
    data = await fetcher.fetch(places, ask.memory())
    document = with_images(request.document, data)
    return Request(
        request.route, document, stream=request.stream, usage_asked=request.usage_asked, native=request.native,
        headers=request.headers, came=request.came + sum(map(len, data.values())),
    )  # fmt: skip
