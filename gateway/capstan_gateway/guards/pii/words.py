"""The words that say what a value is, in the languages that most texts are in, and where they are in a text.

Of Latin script a word counts where it stands alone, or in a name of a program (`userPassword`, `date_of_birth`);
of others it may have an ending, and those written without blanks count anywhere.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence, Set
from enum import StrEnum
from typing import Final

from ahocorasick_rs import AhoCorasick

from capstan_gateway.guards.pii.view import LATIN, LETTER, View


class Word(StrEnum):
    """What a word is about."""

    PHONE = "phone"
    REACH = "reach"
    """Of phones, and of much else."""
    CARD = "card"
    SSN = "ssn"
    NATIONAL_ID = "national id"
    TAX_ID = "tax id"
    PASSPORT = "passport"
    LICENSE = "license"
    BIRTH = "birth"
    BANK = "bank"
    IBAN = "iban"
    BIC = "bic"
    MEDICAL = "medical"
    PASSWORD = "password"
    TOKEN = "token"
    WALLET = "wallet"
    ADDRESS = "address"
    """Of machines."""
    VERSION = "version"
    THING = "thing"
    """What else has numbers: orders, parcels, books."""


# fmt: off
_WORDS: Final[Mapping[Word, str]] = {
    Word.PHONE: """phone|phones|phone number|telephone|telephone number|tel|mobile|mobile number|cell|cellphone|cell phone|fax|whatsapp
        |sms|toll free|toll-free|tollfree|dial|call me|call us|call him|call her|call at|call on|callback|hotline|landline|text me|text us|phone no|contact number
        |telefon|telefonnummer|telefonnr|rufnummer|handy|handynummer|mobil|mobilnummer|mobiltelefon|durchwahl|fon
        |téléphone|telephone|portable|numéro de téléphone|télécopie|appelez|tél|gsm
        |teléfono|telefono|móvil|movil|celular|número de teléfono|llámame|llame|llamar
        |telefone|telemóvel|telemovel|ligue|fone|cellulare|numero di telefono|chiamami|chiamare
        |telefoon|telefoonnummer|mobiel|bel me|tlf|puhelin|puhelinnumero|puh|telefoni|mobilnr|komórka|telefonu|telefonem|numer telefonu
        |telefonní číslo|telefón|telefonszám|cep telefonu|cep|telefon numarası|số điện thoại|điện thoại|nomor telepon|telepon|no hp|hp
        |телефон|тел|моб|мобильный|номер телефона|позвоните|τηλέφωνο|τηλ|κινητό|טלפון|נייד|هاتف|جوال|موبايل|تلفن|फ़ोन|फोन|मोबाइल
        |โทร|โทรศัพท์|เบอร์|เบอร์โทร|มือถือ|电话|電話|手机|手機|手机号|联系电话|携帯|携帯電話|電話番号|전화|전화번호|휴대폰|핸드폰|연락처""",
    Word.REACH: """contact|call|calls|calling|reach|reached|message|messages|messaging|answering|answer at|office|desk|home|work|direct|main line
        |line|ring|kontakt|contacto|contato|contatto|contacter|erreichbar|registered|text|extension|ext|emergency|联系|連絡|연락|ติดต่อ""",
    Word.CARD: """card|cards|credit card|creditcard|debit card|card number|cardnumber|card no|cc|ccn|visa|mastercard|amex|american express
        |discover|diners|jcb|unionpay|maestro|pan|kreditkarte|kartennummer|karte|carte|carte bancaire|carte bleue|tarjeta|tarjeta de crédito
        |cartão|carta|carta di credito|kaart|kort|kortti|karta|kart|kartya|kártya|карта|карты|карту|κάρτα|כרטיס|بطاقة|บัตร|บัตรเครดิต
        |信用卡|银行卡|卡号|カード|クレジットカード|카드|신용카드""",
    Word.SSN: """ssn|ssns|social security|social security number|social security no|soc sec|social|social insurance|tin|itin|ss number|ss no""",
    Word.NATIONAL_ID: """national id|national identity|national identification|national id number|identity number|identity card|id card|id number
        |identification number|citizen id|personal id|personal identification|personal number|national insurance|national insurance number|nino
        |nhs number|aadhaar|aadhar|cedula|cédula|cédula de identidad|dni|nie|nif|rut|curp|cpf|rg|cnic|nric|fin number|hkid|nik|ktp|mykad
        |personalausweis|personalausweisnummer|ausweisnummer|sozialversicherungsnummer|rentenversicherungsnummer|svnr|ahv|ahv nummer|carte d'identité
        |numéro de sécurité sociale|nir|sécurité sociale|numéro national|registre national|rijksregisternummer|bsn|burgerservicenummer|sofinummer
        |codice fiscale|carta d'identità|documento de identidad|documento nacional de identidad|número de identificación|cartão de cidadão
        |bilhete de identidade|pesel|dowód osobisty|numer dowodu|personnummer|samordningsnummer|fødselsnummer|cpr|cpr nummer|cpr-nummer
        |henkilötunnus|hetu|kennitala|rodné číslo|rodne cislo|cnp|cod numeric personal|egn|егн|jmbg|oib|emšo|isikukood|asmens kodas|personas kods
        |amka|αμκα|tc kimlik|tc kimlik no|kimlik no|kimlik numarası|tckn|teudat zehut|תעודת זהות|ת.ז|снилс|паспорт гражданина|личный номер
        |الرقم القومي|رقم الهوية|الهوية الوطنية|आधार|เลขประจำตัวประชาชน|บัตรประชาชน|เลขบัตรประชาชน|เลขบัตร|身份证|身份证号|身份证号码|身分證|マイナンバー
        |個人番号|주민등록번호|주민번호|căn cước|cccd|cmnd|sin number|social insurance number|emirates id|omang|ghana card|ninea|nin""",
    Word.TAX_ID: """tax id|tax number|tax identification|tax identification number|taxpayer|tax file number|tfn|ein|employer identification number|vat
        |vat number|vat no|vat id|vat reg no|ust-id|ust-idnr|ustid|umsatzsteuer-identifikationsnummer|umsatzsteuer-id|steuernummer|steuer-id
        |steueridentifikationsnummer|steuer-identifikationsnummer|idnr|numéro fiscal|numéro de tva|n° tva|tva|spi|siren|siret|cif|rfc|cuit|cuil|cnpj
        |partita iva|p.iva|piva|nipc|contribuinte|número de contribuinte|nit|ruc|inn|инн|abn|acn|gstin|gst number|gst|pan number|pan card|pan no|utr
        |btw|btw-nummer|moms|momsnr|alv|y-tunnus|nip|regon|dič|dic|ič dph|cui|cif|αφμ|afm|vergi no|vergi numarası|eik|bulstat|npwp|税号|纳税人识别号
        |納税者番号|사업자등록번호|เลขประจำตัวผู้เสียภาษี|mst|mã số thuế|ird number|ird""",
    Word.PASSPORT: """passport|passport no|passport number|passports|reisepass|reisepassnummer|passnummer|pass-nr|passeport|numéro de passeport|pasaporte
        |número de pasaporte|passaporte|passaporto|numero di passaporto|paspoort|paspoortnummer|passi|pass|paszport|paszportu|pasaport
        |pasaport no|cestovní pas|útlevél|pașaport|паспорт|паспорта|διαβατήριο|דרכון|جواز السفر|جواز|पासपोर्ट|หนังสือเดินทาง|พาสปอร์ต|护照|护照号
        |護照|パスポート|旅券番号|여권|여권번호|hộ chiếu|paspor""",
    Word.LICENSE: """driver license|drivers license|driver's license|driver’s license|driver licence|drivers licence|driver's licence|driving license
        |driving licence|driver license number|driver's license number|driving licence number|license number|licence number|dl number|dl no|dln
        |dvla|führerschein|führerscheinnummer|fuehrerschein|permis de conduire|numéro de permis|carnet de conducir|permiso de conducir|licencia de conducir
        |carta de condução|cnh|carteira de habilitação|patente di guida|numero patente|rijbewijs|rijbewijsnummer|körkort|førerkort|kørekort|ajokortti
        |prawo jazdy|řidičský průkaz|ehliyet|водительское удостоверение|водительских прав|ใบขับขี่|驾驶证|驾照|運転免許証|운전면허|운전면허번호""",
    Word.BIRTH: """date of birth|birth date|birthdate|birthday|birth day|dob|d.o.b|born|born on|born in|geburtsdatum|geboren|geboren am|geb|geburtstag
        |date de naissance|né le|née le|né|née|naissance|fecha de nacimiento|nacimiento|nacido|nacida|nacido el|nacida el|f. nac|fecha nac
        |data de nascimento|nascimento|nascido|nascida|nascido em|data di nascita|nato il|nata il|nascita|geboortedatum|geboren op
        |födelsedatum|född|fødselsdato|født|syntymäaika|syntynyt|data urodzenia|urodzony|urodzona|ur|datum narození|narozen|narozena|születési dátum
        |született|data nașterii|născut|doğum tarihi|doğum|дата рождения|родился|родилась|ημερομηνία γέννησης|תאריך לידה|تاريخ الميلاد|जन्म तिथि
        |जन्मतिथि|วันเกิด|เกิด|วันเดือนปีเกิด|เกิดวันที่|เกิดเมื่อ|出生日期|出生|生日|生年月日|誕生日|생년월일|생일|ngày sinh|tanggal lahir|tgl lahir|lahir""",
    Word.BANK: """bank account|bank account number|account number|account no|acct|acct no|account #|acct #|checking account|savings account|routing number
        |routing|aba|sort code|bsb|ifsc|clabe|kontonummer|kontonr|konto|bankkonto|numéro de compte|compte bancaire|cuenta bancaria|número de cuenta
        |cuenta|conta bancária|conta corrente|número da conta|conto corrente|numero di conto|rekeningnummer|bankrekening|numer konta|číslo účtu|účet
        |hesap no|hesap numarası|номер счета|номер счёта|расчетный счет|счет|رقم الحساب|เลขที่บัญชี|เลขบัญชี|บัญชี|บัญชีเลขที่|银行账号|账号|帳號|口座番号|口座
        |계좌번호|계좌|số tài khoản|nomor rekening|rekening""",
    Word.IBAN: "iban",
    Word.BIC: "bic|swift|swift code|bic code|swift-code|bic-code|swift/bic|bic/swift|swiftcode|biccode",
    Word.MEDICAL: """mrn|medical record|medical record number|medical record no|med rec no|medical rec|record number|patient id|patient number|patient no|npi
        |medicare|medicare number|medicaid|health insurance number|insurance id|insurance number|member id|policy number|policy #|health card|hospital number
        |dea|dea number|nhc|nass|cipa|número de historia|historia clínica|tarjeta sanitaria|versichertennummer|krankenversicherungsnummer|patientennummer
        |numéro de patient|tessera sanitaria|cartão de saúde|health id|hn|chart number""",
    Word.PASSWORD: """password|passwords|passwd|pwd|passphrase|passcode|passwort|kennwort|mot de passe|mdp|contraseña|contrasena|clave|senha|parola|wachtwoord|lösenord
        |adgangskode|passord|salasana|hasło|haslo|heslo|jelszó|şifre|sifre|пароль|пароля|κωδικός πρόσβασης|סיסמה|كلمة المرور|कूटशब्द|รหัสผ่าน|密码|密碼|パスワード
        |비밀번호|mật khẩu|kata sandi|pin code|user pass|login pass|db pass|pass""",
    Word.TOKEN: """token|tokens|api key|apikey|api-key|api_key|api keys|access key|access_key|secret key|secret_key|secret|client secret|client_secret|auth token
        |auth_token|access token|access_token|refresh token|refresh_token|bearer|authorization|private key|private_key|signing key|encryption key|x-api-key
        |session id|sessionid|session_id|session token|credential|credentials|webhook secret|consumer key|consumer secret|auth key|license key|account key
        |accountkey|sharedaccesskey|sas token|jwt|api token|api_token|_authtoken|密钥|令牌|토큰|トークン|clé api|api-schlüssel|clave api|chave api|ключ|токен""",
    Word.WALLET: """wallet|wallet address|crypto|cryptocurrency|bitcoin|btc|ethereum|eth|solana|sol|litecoin|ltc|dogecoin|doge|ripple|xrp|tron|trx|monero|xmr|usdt|usdc
        |phantom|blockchain|brieftasche|billetera|portefeuille|carteira|кошелек|кошелёк|钱包|ウォレット|지갑""",
    Word.ADDRESS: "ip|ip address|ips|ipv4|ipv6|host|hostname|server|client|client_ip|remote_addr|addr|gateway|dns|subnet|login from|logged in from|ping|ssh",
    Word.VERSION: """version|versions|v|ver|release|releases|build|firmware|upgrade|upgraded|update to|updated to|section|sections|chapter|clause|article|oid|paragraph|§
        |sdk|package|dependency|dependencies|driver version|changelog|rev|revision|kapitel|abschnitt|versión|versão|versione|versie|wersja|версия|版本|バージョン""",
    Word.THING: """order|orders|order number|order no|order id|order #|invoice|invoice number|invoice no|receipt|tracking|tracking number|tracking no|shipment|parcel
        |package number|awb|ticket|ticket number|case number|case id|case no|reference|reference number|ref|ref no|ref number|serial|serial number|serial no|s/n
        |sku|part number|part no|item|item number|item id|product|product id|product code|model|model number|isbn|issn|ean|upc|gtin|asin|barcode|doi|imei|batch|lot
        |transaction|transaction id|txn|confirmation|confirmation number|booking|reservation|flight|po number|purchase order|quote|claim|warranty|issue|pr|commit
        |timestamp|epoch|unix time|price|amount|total|quantity|qty|population|error|error code|code|zip|zip code|postal code|postcode|coordinates|latitude|longitude|lat|lon
        |job|job id|process id|pid|port|request id|trace id|build number|docket|patent|rfc|cve|hash|checksum|md5|sha1|sha256|uuid|guid|seed|random
        |bestellung|bestellnummer|rechnung|rechnungsnummer|auftrag|auftragsnummer|sendungsnummer|artikelnummer|kundennummer|aktenzeichen|vorgangsnummer|seriennummer
        |commande|numéro de commande|facture|numéro de facture|colis|suivi|référence|réf|numéro de série|pedido|número de pedido|factura|seguimiento|referencia
        |número de serie|encomenda|fatura|rastreamento|referência|ordine|numero ordine|fattura|spedizione|riferimento|bestelling|bestelnummer|factuur|zamówienie
        |faktura|objednávka|sipariş|sipariş no|fatura no|заказ|номер заказа|счет-фактура|накладная|артикул|заказа|คำสั่งซื้อ|ใบแจ้งหนี้|เลขพัสดุ|หมายเลขพัสดุ|订单|订单号|快递单号
        |发票|单号|注文|注文番号|追跡番号|주문|주문번호|송장|송장번호|운송장""",
}  # fmt: skip
# fmt: on

ALONE_FROM: Final = "\u0e00"
"""From here on scripts are written without blanks between words, or hang endings on: Thai, Hangul, Kana, Han."""


class Words:
    """Finds all of them in one pass."""

    def __init__(self) -> None:
        self._groups: list[list[Word]] = []
        spelled: dict[str, list[Word]] = {}
        for group, words in _WORDS.items():
            for word in words.split("|"):
                groups = spelled.setdefault(" ".join(word.lower().split()).replace("ς", "σ"), [])
                if group not in groups:
                    groups.append(group)
        for word in [word for word in spelled if " " in word]:
            for joint in ("_", "-", ""):
                spelled.setdefault(word.replace(" ", joint), spelled[word])
        self._groups = list(spelled.values())
        self._automaton = AhoCorasick(list(spelled))

    def hits(self, view: View) -> "Hits":
        """Give where which are."""
        spans: dict[Word, list[tuple[int, int]]] = {}
        labels: set[tuple[int, int]] = set()
        for which, start, end in self._automaton.find_matches_as_indexes(view.lowered, overlapping=True):
            if _stands(view, start, end):
                if view.folded[end : end + 1] in (b":", b"="):
                    labels.add((start, end))
                for group in self._groups[which]:
                    spans.setdefault(group, []).append((start, end))
        return Hits(spans, labels)


class Hits:
    """Where in a text which words are."""

    def __init__(self, spans: Mapping[Word, list[tuple[int, int]]], labels: Set[tuple[int, int]]) -> None:
        self.spans = {group: sorted(of_group) for group, of_group in spans.items()}
        self._behind = {group: [span for span in of_group if span not in labels] for group, of_group in self.spans.items()}
        """Without those that are labels themselves, of what comes behind them."""
        self._ends = {group: sorted(end for _, end in of_group) for group, of_group in spans.items()}

    def distance(self, groups: Sequence[Word], start: int, end: int, *, before: int, after: int) -> int | None:
        """Give how far from a value the nearest word of some groups is; None: further than that. Behind counts double."""
        nearest: int | None = None
        for group in groups:
            ends = self._ends.get(group)
            if ends is None:
                continue
            index = bisect_right(ends, start)
            if index and start - ends[index - 1] <= before and (nearest is None or start - ends[index - 1] < nearest):
                nearest = start - ends[index - 1]
            spans = self._behind[group]
            index = bisect_left(spans, (end, end))
            # NB: the whole word, or what comes much later would matter.
            if index < len(spans) and spans[index][1] - end <= after:
                behind = 2 * (spans[index][0] - end)
                nearest = behind if nearest is None else min(nearest, behind)
        return nearest


def _stands(view: View, start: int, end: int) -> bool:
    """Tell whether a word is one, and not a part of another."""
    lowered, folded = view.lowered, view.folded
    if lowered[start] >= ALONE_FROM:
        return True
    if start and _is_letter(folded[start - 1]) and not _humps(view.text, start):
        if folded[start - 1] != LETTER or folded[start] == LETTER:
            return False
    return end == len(folded) or not _is_letter(folded[end]) or folded[end] == LETTER or _humps(view.text, end)


def _is_letter(byte: int) -> bool:
    return 65 <= byte <= 90 or 97 <= byte <= 122 or byte in (LATIN, LETTER)


def _humps(text: str, place: int) -> bool:
    """Tell whether a word of a name begins here: `dbPassword`."""
    return text[place].isupper() and text[place - 1].islower()
