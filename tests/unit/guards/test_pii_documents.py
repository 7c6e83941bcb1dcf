"""Personal data in documents: the marks, the keys and the words that stand around it there."""

import json

import pytest

from capstan_contract.guards import NAMED_KINDS, PiiKind, Source
from capstan_gateway.guards.pii.detector import pii_detector

DETECTOR = pii_detector(dict.fromkeys(set(PiiKind) - NAMED_KINDS))


def found(text: str) -> list[tuple[str, str]]:
    """Give what is found, with its text."""
    return [(finding.kind, text[finding.start : finding.end]) for finding in DETECTOR.scan(text, Source.USER).findings]


@pytest.mark.parametrize("mark", ["_{}_", "__{}__", "see _{}_, please", "_{}_.\n", "*{}*", "**{}**", "`{}`"])
@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (PiiKind.SSN, "355-68-1285"),
        (PiiKind.CARD, "4111 1111 1111 1111"),
        (PiiKind.IBAN, "DE89370400440532013000"),
        (PiiKind.IP_ADDRESS, "203.0.113.7"),
        (PiiKind.IP_ADDRESS, "2a02:e982:10e7::1"),
        (PiiKind.MAC_ADDRESS, "3c:22:fb:9a:1e:07"),
        (PiiKind.PHONE, "+49 30 901820"),
        (PiiKind.EMAIL, "ann@example.com"),
    ],
)
def test_emphasis_of_markdown_is_no_part_of_a_value(mark: str, kind: PiiKind, value: str) -> None:
    """Underscores around a value end it as stars do, for values of all kinds."""
    assert found(mark.format(value)) == [(kind, value)]


@pytest.mark.parametrize("name", ["order_4111111111111111", "x_203.0.113.7_y", "id_355-68-1285_2"])
def test_a_name_with_underscores_in_it_is_one_word(name: str) -> None:
    """An underscore between letters or digits ends nothing."""
    assert found(name) == []


@pytest.mark.parametrize(
    "value",
    [
        "GB21AGUN0743875720803",  # of no length that a British one has
        "CO63 VYFJ 4030 7223 9245 2",  # of a country that has none
        "AR93AKAM33109946297562637619",
        "TH217329185499",
        "TH61 8474 9880 64",
    ],
)
@pytest.mark.parametrize("around", ["{}", "| {} |", '{{"order": "A", "bankAccount": "{}"}}'])
def test_an_iban_counts_by_its_check_digits_whatever_its_country(value: str, around: str) -> None:
    """Made-up account numbers of countries that have none, or of another length, are found, in one and in groups."""
    assert found(around.format(value)) == [(PiiKind.IBAN, value)]


@pytest.mark.parametrize(
    "value", ["CO64 VYFJ 4030 7223 9245 2", "AR94AKAM33109946297562637619", "order TH217329185499"]
)
def test_what_only_begins_like_an_iban_is_none(value: str) -> None:
    """Without right check digits, or as the number of an order, it is the number of a thing."""
    assert (PiiKind.IBAN, value.removeprefix("order ")) not in found(value)


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("The build is green again. 877-18-9638", PiiKind.SSN, "877-18-9638"),
        ("Ref. PO 7894695751\nNumber: 240-09-5248", PiiKind.SSN, "240-09-5248"),
        ("<code>4149447556700406</code>", PiiKind.CARD, "4149447556700406"),
        ('{"order": "A1", "number": "4149447556700406"}', PiiKind.CARD, "4149447556700406"),
        ("<i>section 1.4.6.4</i><td>84.216.133.163</td>", PiiKind.IP_ADDRESS, "84.216.133.163"),
        ("| V | 110-96-7266 |", PiiKind.SSN, "110-96-7266"),
    ],
)
def test_a_word_for_things_speaks_of_its_own_value_alone(text: str, kind: PiiKind, value: str) -> None:
    """An order, a build or a section of another sentence, key, line or element makes a value nothing else."""
    assert (kind, value) in found(text)


@pytest.mark.parametrize(
    "text",
    [
        "Phone: +49 30 901820\n\nRef. Chrome/133.0.5695.82 Safari",
        "Ref. 1778043736915\nPhone number = +49 30 901820",
        "<p>Phone:<br/>+49 30 901820</p><i>9780849248122</i>",
        "<i>1781569422</i><b>Phone</b> <span>+49 30 901820</span>",
        "phone - +49 30 901820 and CAS 34938-29-6",
    ],
)
def test_a_word_for_phones_speaks_of_its_own_number_alone(text: str) -> None:
    """The label of one number makes no phone number of what comes later, nor of what stands in front of it."""
    assert found(text) == [(PiiKind.PHONE, "+49 30 901820")]


@pytest.mark.parametrize("text", ["Tel 0171 123456 or 0900 12", "Phones: 7012 3456, 7012 3457"])
def test_a_word_for_phones_speaks_of_all_numbers_of_its_list(text: str) -> None:
    """Between numbers of one kind stand signs, or a word that says so."""
    assert [kind for kind, _ in found(text)] == [PiiKind.PHONE] * (1 if "900" in text else 2)


@pytest.mark.parametrize("label", ["last login from:{}", "X-Forwarded-For:{}", "IP:{}", "ip={}", "addr:[{}]:8080"])
@pytest.mark.parametrize("value", ["2a02:5bc4:dead::1", "e534:6059:a8b3:b3de:efbf:fa3e:4813:fcaa"])
def test_a_label_may_touch_an_address_of_a_machine(label: str, value: str) -> None:
    """The colon of a label is none of the address."""
    assert found(label.format(value)) == [(PiiKind.IP_ADDRESS, value)]


@pytest.mark.parametrize("text", ['{"ref": "@decorator.name"}', '["x", "@scope.pkg"]', '{\\"a\\": \\"@b.example\\"}'])
def test_a_quote_that_ends_another_text_begins_no_address(text: str) -> None:
    """What stands between two texts of JSON is no quoted local part of an e-mail address."""
    assert found(text) == []


@pytest.mark.parametrize("twice", [False, True], ids=["once", "twice"])
@pytest.mark.parametrize(
    ("kind", "document", "value"),
    [
        (PiiKind.PHONE, {"电话": "13278426924"}, "13278426924"),
        (PiiKind.PHONE, {"телефон": "89123456789"}, "89123456789"),
        (PiiKind.CARD, {"x": "5562\u00a08957\u00a08309\u00a07936"}, "5562\u00a08957\u00a08309\u00a07936"),
        (PiiKind.IBAN, {"x": "DE89\u00a03704\u00a00044\u00a00532\u00a00130\u00a000"}, None),
        (PiiKind.CARD, {"pan": "6219861012345673"}, "6219861012345673"),
    ],
)
def test_json_that_is_written_in_ascii_says_the_same(
    *, kind: PiiKind, document: dict[str, str], value: str | None, twice: bool
) -> None:
    """Keys and blanks that JSON has as escapes are read, in JSON inside of JSON too."""
    text = json.dumps(document)
    text = json.dumps({"arguments": text}) if twice else text
    written = json.dumps(value or next(iter(document.values())))[1:-1]
    assert found(text) == [(kind, json.dumps(written)[1:-1] if twice else written)]


@pytest.mark.parametrize("text", [json.dumps({"ref": "(see §8.5.0.0)"}), json.dumps({"版本": "8.5.10.20"})])
def test_escaped_words_for_versions_count_too(text: str) -> None:
    """What is called a version is no address, whatever its label is written with."""
    assert found(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "| IP | SSN |\n|---|---|\n| 223.206.106.14 | 472-79-7939 |",
        "id,Social Security Number,Phone,Iban\n1,472-79-7939,7700,x\nhost 223.206.106.14",
        "order 3605-7016 was sent back. ip=223.206.106.14 |472-79-7939|",
        "SKU 3605-7016 \u786e\u8ba4\u540e\u8bf7\u56de\u590d\u3002 |472-79-7939| src:223.206.106.14",
    ],
)
def test_the_heads_of_other_columns_say_nothing_of_a_value(text: str) -> None:
    """In a table a value is what its own form says, and not what stands above another one."""
    assert set(found(text)) == {(PiiKind.SSN, "472-79-7939"), (PiiKind.IP_ADDRESS, "223.206.106.14")}


@pytest.mark.parametrize("text", ["| Mobile | SSN |\n|---|---|\n| 036-216982 | x |", "a|SS#|b\n1|x|499201088"])
def test_a_head_makes_nothing_of_another_column(text: str) -> None:
    """Nine digits in another column are no Social Security number."""
    assert PiiKind.SSN not in {kind for kind, _ in found(text)}


@pytest.mark.parametrize("label", ["src:", "Remote:", "face: ", "MAC:"])
def test_a_label_may_end_in_letters_that_are_digits_too(label: str) -> None:
    """Of a hexadecimal address: it begins behind the colon."""
    assert found(f"{label}af39:fb92:6c4d:f3c9:5450:b994:8bdf:a90b") == [
        (PiiKind.IP_ADDRESS, "af39:fb92:6c4d:f3c9:5450:b994:8bdf:a90b")
    ]
    assert found(f"{label}3c:22:fb:9a:1e:07") == [(PiiKind.MAC_ADDRESS, "3c:22:fb:9a:1e:07")]


@pytest.mark.parametrize("text", ["Phone: +49 30 901820\n9787147902602", "Tel. +49 30 901820; 1765474504902"])
def test_no_number_of_an_article_is_a_phone_number(text: str) -> None:
    """Thirteen digits and more in one are dialled by nobody, whatever is said near them."""
    assert found(text) == [(PiiKind.PHONE, "+49 30 901820")]


@pytest.mark.parametrize(
    "text", ["8 (511) 946-42-76", "8 (511) 946-4276", "8 351 495 12 75", "+54 9 3913 2155", "+49 (0)30 1234"]
)
def test_numbers_that_only_phones_are_written_as_need_no_word(text: str) -> None:
    """A plus and groups, a trunk prefix in brackets, and the long distance prefix of Russia."""
    assert found(f"Ann, {text}") == [(PiiKind.PHONE, text)]


@pytest.mark.parametrize("number", ["4111111111119", "573716798273", "060400879338", "639010055957"])
def test_cards_of_few_digits_count_by_themselves(number: str) -> None:
    """Old cards of 12 and 13 digits, as makers of data have them."""
    assert found(f"paid by Ann ({number})") == [(PiiKind.CARD, number)]
    assert (PiiKind.CARD, number) not in found(f"order {number}")


@pytest.mark.parametrize("text", ["4006381333931", "+573716798273"])
def test_articles_and_phones_are_no_cards(text: str) -> None:
    """An article has a check digit of its own, and a phone number a plus."""
    assert PiiKind.CARD not in {kind for kind, _ in found(text)}
