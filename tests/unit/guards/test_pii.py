"""Which personal data is found, and what is left alone."""

import pytest

from capstan_contract.guards import NAMED_KINDS, PiiEntity, PiiGuard, PiiKind, Source
from capstan_gateway.guards.pii.build import build_pii_detector
from capstan_gateway.guards.pii.detector import PiiDetector
from capstan_gateway.guards.pii.errors import PiiNotAvailable
from capstan_gateway.guards.pii.raw import Raw, standing
from capstan_gateway.guards.port import Cost, Finding
from support.pii import HARMLESS, IN_CONTEXT, VALUES


def detector(*entities: PiiEntity, allow: tuple[str, ...] = (), regions: tuple[str, ...] = ()) -> PiiDetector:
    """Make one of a guard."""
    made = build_pii_detector(
        PiiGuard(name="pii", appliesTo=(Source.USER,), entities=entities, allowList=allow, regions=regions)
    )
    assert isinstance(made, PiiDetector)
    return made


EVERYTHING = detector()


def found(text: str, by: PiiDetector = EVERYTHING) -> list[tuple[str, str]]:
    """Give what is found, with its text."""
    return [(finding.kind, text[finding.start : finding.end]) for finding in by.scan(text, Source.USER).findings]


AROUND = ("{}", "see {}.", "({})", 'a: "{}"', "ก{}ข", "x\n{}\ny", "\\n{}\\n", "<b>{}</b>")


@pytest.mark.parametrize(
    ("kind", "value", "around"),
    [
        (kind, value, around)
        for kind, values in VALUES.items()
        for value in values
        for around in AROUND
        # Nothing says where a name in letters of another script begins, if one is in front of it.
        if around[0].isascii() or value[0].isascii()
    ],
)
def test_what_has_a_form_is_found_wherever_it_stands(kind: PiiKind, value: str, around: str) -> None:
    """A value with a form of its own is found whole, whatever is around it."""
    assert (kind, value) in found(around.format(value))


@pytest.mark.parametrize(
    ("kind", "around", "value"),
    [(kind, around, value) for kind, cases in IN_CONTEXT.items() for around, value in cases],
)
def test_what_has_none_is_found_by_the_words_around_it(kind: PiiKind, around: str, value: str) -> None:
    """A number that could be anything is personal data where a word says so, in many languages."""
    assert (kind, value) in found(around.format(value))


@pytest.mark.parametrize("text", HARMLESS)
@pytest.mark.parametrize("around", ["{}", "see {} for more", '{{"value": "{}"}}'])
def test_what_only_looks_like_it_is_left_alone(text: str, around: str) -> None:
    """Hashes, versions, times, prices, orders, names in code and examples of keys are no personal data."""
    assert found(around.format(text)) == []


@pytest.mark.parametrize("number", ["000-12-3456", "666-12-3456", "123-00-4567", "123-45-0000"])
def test_numbers_that_nobody_can_have_are_no_social_security_numbers(number: str) -> None:
    """Some areas, and parts of zeros only, were never given."""
    assert found(f"ssn {number}") == []


def test_the_widest_of_what_lies_in_one_place_is_found_once() -> None:
    """A password in an address is one finding, not an e-mail address besides."""
    assert found("postgres://joe:hunter22@db.example.com/x") == [
        (PiiKind.URL_CREDENTIALS, "postgres://joe:hunter22@db.example.com")
    ]


def test_a_policy_names_what_is_looked_for() -> None:
    """With entities, nothing else is found, and what is another thing is not taken for one of them."""
    only = detector(PiiEntity(type="Phone"))
    assert found("joe@example.com, 541-714-1388, 4111 1111 1111 1111, 219-09-9999", only) == [("Phone", "541-714-1388")]


def test_each_kind_has_a_threshold_of_its_own() -> None:
    """One is asked to be sure, another to see more."""
    eager = detector(PiiEntity(type="Phone", threshold=0.4), PiiEntity(type="Card", threshold=0.95))
    assert found("0612345678 and 4111111111111111", eager) == [("Phone", "0612345678")]
    assert found("card 4111111111111111", eager) == [("Card", "4111111111111111")]


def test_who_asks_for_just_so_much_gets_it() -> None:
    """A threshold is the least score that is found."""
    assert found("joe@example.com", detector(PiiEntity(type="Email", threshold=0.99))) == [("Email", "joe@example.com")]


def test_of_two_that_are_as_sure_the_one_that_holds_the_other_stands() -> None:
    """And of two in one place the more specific; a surer one within another stands as well."""
    wide, inner = Raw(PiiKind.PHONE, 0, 10, 0.9), Raw(PiiKind.TAX_ID, 2, 5, 0.9)
    less, other = Raw(PiiKind.PHONE, 0, 10, 0.8), Raw(PiiKind.IBAN, 0, 10, 0.9)
    assert standing([inner, wide]) == [wide]
    assert standing([inner, less]) == [less, inner]
    assert standing([wide, other]) == [other]


def test_what_is_allowed_is_not_found() -> None:
    """The allow list is compared without case, width and blanks."""
    allowing = detector(allow=("Support@Example.com", "+1 541 714 1388"))
    assert found("ｓupport@example.com, joe@example.com, +15417141388", allowing) == [("Email", "joe@example.com")]


def test_national_phone_numbers_are_of_the_regions() -> None:
    """A number that only one country writes so is known where that country is named."""
    german = "030 901820 99"
    assert found(german, detector(regions=("DE",))) == [("Phone", german)]
    assert found(german, detector(regions=("US",))) == []
    with pytest.raises(ValueError, match="`regions` has 'XX'"):
        detector(regions=("XX",))


FOUND: list[tuple[str, str, str]] = [
    ("112-233-445 95", "NationalId", "112-233-445 95"),  # The digits of Russia's SNILS have a check at their end.
    ("185017800608427", "NationalId", "185017800608427"),  # France's NIR of somebody who was born in January.
    ("2001:db8:1:2:3:4:5:6:443", "IpAddress", "2001:db8:1:2:3:4:5:6"),
    ("10.0.169.254", "IpAddress", "10.0.169.254"),
    ("169.254.7.1", "IpAddress", "169.254.7.1"),
    ("://x postgres://joe:hunter22@db.example.com", "UrlCredentials", "postgres://joe:hunter22@db.example.com"),
    ("born 12.03.85", "DateOfBirth", "12.03.85"),
    ("driver license 12345", "DriverLicense", "12345"),
    ("bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080", "CryptoAddress", "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"),
    ("x\u3000joe@example.com", "Email", "joe@example.com"),
    ("5411234567, 541-714-1388, 9", "Phone", "541-714-1388"),
]


@pytest.mark.parametrize(("text", "kind", "value"), FOUND)
def test_the_borders_of_forms(text: str, kind: str, value: str) -> None:
    """What is just inside of a form is found, and without what is behind it, as the port of an address."""
    assert (kind, value) in found(text)


@pytest.mark.parametrize(
    "text", ["112-233-445 96", "185017800608428", "169.254.169.254", "born 12.03.1650", "driver license 1234"]
)
def test_what_is_just_outside_of_a_form_is_left_alone(text: str) -> None:
    """A wrong check, the address of a cloud's own service, a year in which nobody who lives was born, too few digits."""
    assert found(text) == []


def test_a_word_far_behind_an_address_says_nothing_of_it() -> None:
    """Four single digits are sure to be an address where a word beside them says so, and not where it is further off."""
    sure = detector(PiiEntity(type="IpAddress", threshold=0.8))
    assert found("ip 1.2.3.4", sure) == [("IpAddress", "1.2.3.4")]
    assert found("1.2.3.4 as an address", sure) == []


def test_a_kind_that_is_not_known_is_refused() -> None:
    """An older gateway says that it doesn't know a kind, and which it knows."""
    with pytest.raises(PiiNotAvailable, match="'Iris', which this gateway does not know: it has Email"):
        detector(PiiEntity(type="Iris"))


def test_names_are_found_by_presidio_alone() -> None:
    """What has no form is not looked for without an engine that reads, and asking for it is refused."""
    assert not set(EVERYTHING.thresholds) & NAMED_KINDS
    with pytest.raises(PiiNotAvailable, match="`entities` has 'Person', which only `engine: Presidio` finds"):
        detector(PiiEntity(type="Person"))


def test_escapes_are_seen_through_and_never_cut() -> None:
    """In the source of JSON a value ends at an escape, and one that is written with escapes is found with them."""
    assert found(r'{"to": "\njoe@example.com\n"}') == [("Email", "joe@example.com")]
    assert found(r'{"to": "joe\u0040example.com", "tel": "\u002b49 30 901820"}') == [
        ("Email", r"joe\u0040example.com"),
        ("Phone", r"\u002b49 30 901820"),
    ]
    assert found(r"\\njoe@example.com") == [("Email", "njoe@example.com")]


def test_a_finding_holds_no_text() -> None:
    """It says what and where, and costs little to make."""
    finding = EVERYTHING.scan("joe@example.com", Source.USER).findings[0]
    assert finding == Finding("Email", 0, 15, 0.99)
    assert EVERYTHING.cost is Cost.CHEAP
