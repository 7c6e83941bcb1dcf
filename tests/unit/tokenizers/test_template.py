"""Chat templates: the environment that engines give them, and its bounds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan_gateway.tokenizers.template import ChatTemplate, TemplateRefuses


def rendered(source: str, *texts: str, **more: object) -> str:
    """Give the text of user messages with these contents."""
    messages = [{"role": "user", "content": text} for text in texts]
    return ChatTemplate(source, {"bos_token": "<s>"}).render(messages, None, more, add_generation_prompt=True)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ bos_token }}{% for m in messages %}[{{ m['role'] }}]{{ m.content }}{% endfor %}", "<s>[user]x[user]y"),
        ("{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}{{ m.content }}{% endfor %}", "y"),
        ("{% generation %}a{% endgeneration %}b", "ab"),
        ("{% if add_generation_prompt %}go{% endif %}", "go"),
        ("{% if thinking %}t{% endif %}", "t"),
        ("{{ messages[0] | tojson }}", '{"role": "user", "content": "x"}'),
        ("  {% if true %}\n a\n  {% endif %}\nb", " a\nb"),
        ("{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}", "2"),
    ],
)
def test_templates_are_rendered_as_engines_do(source: str, text: str) -> None:
    """Blocks are trimmed, there are loop controls, special tokens, and what the client's request says."""
    assert rendered(source, "x", "y", thinking=True) == text


@pytest.mark.parametrize(
    "source",
    [
        "{{ raise_exception('roles must alternate') }}",
        "{% for a in range(90000) %}{% for b in range(90000) %}{{ a }}{% endfor %}{% endfor %}",
        "{% for a in range(90000) %}{% set x = messages[0].content %}{% set y = messages[0].role %}{% endfor %}"
        "{% for a in range(90000) %}{% set x = messages[0].content %}{% set y = messages[0].role %}{% endfor %}",
        "{{ 'x' * 9999999 }}",
        "{{ 9 ** 9999 }}",
        "{{ messages.__class__.__mro__ }}",
        "{{ ''.__class__.__base__.__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{% for m in messages %}{{ m.content + 7 }}{% endfor %}",
    ],
)
def test_no_template_does_more_than_write_a_text(source: str) -> None:
    """It looks up and writes so much and no more, reaches nothing of Python, and changes nothing."""
    with pytest.raises(TemplateRefuses):
        rendered(source, "x")


def test_what_refuses_names_no_prompt() -> None:
    """The message of a template may hold what a user has said."""
    with pytest.raises(TemplateRefuses) as raised:
        rendered("{{ raise_exception('not ' + messages[0].content) }}", "secret")
    assert "secret" not in str(raised.value)


def test_what_is_no_template_is_refused_at_once() -> None:
    """When it is read, not when somebody asks."""
    with pytest.raises(TemplateRefuses):
        ChatTemplate("{% if %}", {})


def test_each_text_has_all_steps() -> None:
    """What one conversation took is not taken from the next."""
    template = ChatTemplate("{% for i in range(30000) %}{{ messages[0].role }}{% endfor %}", {})
    for _ in range(4):
        assert len(template.render([{"role": "user"}], None, {}, add_generation_prompt=False)) == 4 * 30000


@given(st.text())
def test_texts_are_written_as_they_are(text: str) -> None:
    """Nothing is escaped."""
    assert rendered("{{ messages[0].content }}", text) == text
