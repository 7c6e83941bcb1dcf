"""What is taken out of texts."""

import pytest

from capstan_gateway.redaction import HIDDEN, without_account


@pytest.mark.parametrize(
    ("text", "secrets"),
    [
        ("Rate limit reached for gpt-4o in organization org-AbCd1234 on tokens per min: Limit 10", ["org-AbCd1234"]),
        ("no access for org-ab, proj_x", ["org-ab", "proj_x"]),
        (
            "Incorrect API key provided: sk-proj-abc***xyz. See https://acme.example.com/keys?k=1.",
            ["sk-proj", "xyz", "acme"],
        ),
        ("Project `my-secret` does not have access to model `gpt-4o`.", ["my-secret"]),
        ("Project 'Acme Corp' is archived", ["Acme Corp"]),
        ("you are not a member of organization acme", ["acme"]),
        ("organization: acme-corp", ["acme"]),
        ("workspace id wrkspc_01abc is gone", ["wrkspc_01abc"]),
        ("The deployment does not exist at my-res.openai.azure.com", ["my-res"]),
        (
            "Request ID 7f3e1c2a-1111-2222-3333-abcdefabcdef failed (req_011CSHoEeqs5C35K2UUqR7Fy)",
            ["7f3e1c2a", "req_011"],
        ),
        (
            "arn:aws:bedrock:us-east-1:123456789012:model/x is not for account 123456789012",
            ["123456789012", "us-east-1"],
        ),
        ("projects/my-proj/locations/us-central1 was not found", ["my-proj"]),
        ("/subscriptions/ab-1/resourceGroups/acme/x is over quota", ["ab-1", "acme"]),
        ("contact ops@acme.example about it", ["acme"]),
        ("key AIzaSyA1234567890 is restricted", ["AIza"]),
    ],
)
def test_whose_account_it_is_is_not_told(text: str, secrets: list[str]) -> None:
    """Ids, names, keys and addresses of an account are hidden; the sentence around them stays."""
    told = without_account(text)
    assert not [secret for secret in secrets if secret in told], told
    assert HIDDEN in told


@pytest.mark.parametrize(
    "text",
    [
        "This model's maximum context length is 8192 tokens. However, you requested 10000 tokens.",
        "messages.0.content: Input should be a valid string",
        "max_tokens: 100000 > 8192, the most for claude-3-5-sonnet-20241022",
        "Invalid value: 'foo'. Supported values are: 'system', 'assistant', 'user' and 'tool'.",
        "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.",
        "tools.0.function.name: string does not match pattern '^[a-zA-Z0-9_-]{1,64}$'",
        "The following tool_call_ids did not have response messages: call_abc123",
        "user_id is required; request_timeout and keyword_arguments are not known",
        "your project does not allow this, and your organization has no such model",
    ],
)
def test_what_is_about_the_request_stays(text: str) -> None:
    """A message without anything of the account is told as it is."""
    assert without_account(text) == text
