"""The inference routes: their paths, which tasks they serve, and what a request must have."""

from typing import Final

from capstan_contract.config import Task
from capstan_contract.names import AUTO
from capstan_gateway.dialects.clients.spoken import COUNTED, MESSAGES, RESPONSES
from capstan_gateway.dialects.clients.tokenized import TOKENIZED
from capstan_gateway.pipeline.guards.asked.model import MODERATION_PATH
from capstan_gateway.pipeline.request import CHAT_PATH, COUNT_PATH, TOKENIZE_PATH, Route

MODERATIONS: Final = Route("/v1/moderations", MODERATION_PATH, frozenset(Task), ("input",), model=AUTO)
"""Models answer here that moderate, and those for which guards do."""

CHECKS: Final = Route("/v1/guard/check", b"//guard/check", frozenset(Task))
"""What guards would do is asked here, of no model."""

ROUTES: Final = (
    Route("/v1/chat/completions", CHAT_PATH, frozenset((Task.CHAT,)), ("messages",), streams=True),
    Route("/v1/completions", b"/completions", frozenset((Task.CHAT, Task.COMPLETION)), ("prompt",), streams=True),
    Route("/v1/messages", CHAT_PATH, frozenset((Task.CHAT,)), streams=True, dialect=MESSAGES),
    Route("/v1/messages/count_tokens", COUNT_PATH, frozenset((Task.CHAT,)), dialect=COUNTED),
    Route("/tokenize", TOKENIZE_PATH, frozenset(Task), dialect=TOKENIZED),
    Route("/v1/tokenize", TOKENIZE_PATH, frozenset(Task), dialect=TOKENIZED),
    Route("/v1/responses", CHAT_PATH, frozenset((Task.CHAT,)), streams=True, dialect=RESPONSES),
    Route("/v1/embeddings", b"/embeddings", frozenset((Task.EMBED,)), ("input",)),
    Route("/v1/classify", b"/classify", frozenset((Task.CLASSIFY,))),
    Route("/v1/score", b"/score", frozenset((Task.SCORE, Task.EMBED))),
    Route("/v1/audio/transcriptions", b"/audio/transcriptions", frozenset((Task.TRANSCRIBE,)), streams=True, form=True),
    Route("/v1/audio/translations", b"/audio/translations", frozenset((Task.TRANSCRIBE,)), streams=True, form=True),
    MODERATIONS,
    CHECKS,
    Route("/v1/rerank", b"/rerank", frozenset((Task.SCORE, Task.EMBED)), ("query", "documents")),
)
