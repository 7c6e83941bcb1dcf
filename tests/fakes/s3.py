"""A bucket of S3 in memory, for what is asked of one: PUT, GET, ListObjectsV2 and DeleteObjects, path-style."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from aiohttp import web


class FakeBucket:
    """What is in it, and who asked."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.url = ""
        self.authorizations: set[str] = set()
        self.page = 1000
        """How many objects one answer lists at most, and one request deletes."""
        self.fails = 0
        """So many of the next requests are answered with 500."""

    async def respond(self, request: web.Request) -> web.Response:
        """Answer one request."""
        self.authorizations.add(request.headers.get("authorization", "").partition(",")[0])
        if self.fails:
            self.fails -= 1
            return web.Response(status=500)
        key = request.match_info["key"].removeprefix("/")
        if request.method == "PUT":
            self.objects[key] = await request.read()
            return web.Response(headers={"etag": '"1"'})
        if request.method == "POST":
            gone = ""
            for found in ElementTree.fromstring(await request.read()).iter():  # noqa: S314 - our own client wrote it
                if found.tag.endswith("Key") and found.text:
                    self.objects.pop(found.text, None)
                    gone += f"<Deleted><Key>{escape(found.text)}</Key></Deleted>"
            return web.Response(text=f"<DeleteResult>{gone}</DeleteResult>", content_type="application/xml")
        if "list-type" in request.query:
            return web.Response(text=self._listed(request.query), content_type="application/xml")
        if key not in self.objects:
            return web.Response(status=404, text="<Error><Code>NoSuchKey</Code></Error>")
        headers = {"etag": '"1"', "last-modified": "Mon, 01 Jan 2024 00:00:00 GMT"}
        return web.Response(body=self.objects[key], headers=headers)

    def _listed(self, query: Mapping[str, str]) -> str:
        prefix, after = query.get("prefix", ""), query.get("continuation-token", "")
        keys = sorted(key for key in self.objects if key.startswith(prefix) and key > after)
        found = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(self.objects[key])}</Size>"
            '<LastModified>2024-01-01T00:00:00.000Z</LastModified><ETag>"1"</ETag></Contents>'
            for key in keys[: self.page]
        )
        more = len(keys) > self.page
        token = f"<NextContinuationToken>{escape(keys[self.page - 1])}</NextContinuationToken>" if more else ""
        return f"<ListBucketResult><IsTruncated>{str(more).lower()}</IsTruncated>{token}{found}</ListBucketResult>"


@asynccontextmanager
async def fake_bucket(name: str) -> AsyncIterator[FakeBucket]:
    """Run one of this name."""
    bucket, app = FakeBucket(), web.Application(client_max_size=2**26)
    app.router.add_route("*", f"/{name}{{key:.*}}", bucket.respond)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    bucket.url = f"http://127.0.0.1:{port}"
    try:
        yield bucket
    finally:
        await runner.cleanup()
