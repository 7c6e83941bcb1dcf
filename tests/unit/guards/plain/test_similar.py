"""Topics by phrases and by examples, with the embeddings in the process."""

from capstan_contract.guards import Source, Topic, TopicsGuard
from capstan_gateway.guards.build import build_detector


def test_phrases_and_examples_are_of_one_guard() -> None:
    """A denied phrase is found where it stands; what only means the same is found by an example."""
    topic = Topic(name="medical", phrases=("dosage",), examples=("Which medicine should I take against a headache?",))
    detector = build_detector(TopicsGuard(name="t", appliesTo=(Source.USER,), deny=(topic,), similarity=0.45))
    assert detector is not None
    said = "What pills help when my head hurts?"
    for text, kinds in (("the dosage please", ["medical"]), (said, ["medical"]), ("How do I bake bread?", [])):
        assert [finding.kind for finding in detector.scan(text, Source.USER).findings] == kinds
