"""Personal data that nobody has: values of documentation, test numbers, and made-up ones with right check digits."""

from collections.abc import Mapping

from capstan_contract.guards import PiiKind

VALUES: Mapping[PiiKind, tuple[str, ...]] = {
    PiiKind.EMAIL: (
        "joe@example.com", "o'brien@example.org", "first.last+tag@sub.example.co.uk", "jörg@münchen.de", "user@xn--mnchen-3ya.de",
        "用户@例子.广告", "ｊｏｅ＠ｅｘａｍｐｌｅ．ｃｏｍ", '"joe doe"@example.com', "joe@[192.0.2.1]", "joe [at] example [dot] com",
    ),
    PiiKind.PHONE: (
        "+1 541-714-1388", "+44 20 7946 0958", "+49 (0)30 901820", "(541) 714-1388", "541-714-1388", "541.714.1388x12",
        "0044 20 7946 0958", "+919876543210", "+86 138 0013 8000", "+٤٤ ٢٠ ٧٩٤٦ ٠٩٥٨",
    ),
    PiiKind.CARD: (
        "4111111111111111", "4111 1111 1111 1111", "5555-5555-5555-4444", "378282246310005", "3782 822463 10005",
        "30569309025904", "6011111111111117", "3530111333300000", "４１１１１１１１１１１１１１１１",
    ),
    PiiKind.IBAN: (
        "DE89370400440532013000", "DE89 3704 0044 0532 0130 00", "GB82 WEST 1234 5698 7654 32", "gb82west12345698765432",
        "NL91ABNA0417164300", "FR1420041010050500013M02606", "MT84MALT011000012345MTLCAST001S",
    ),
    PiiKind.SSN: ("219-09-9999", "078-05-1120"),
    PiiKind.NATIONAL_ID: (
        "111.444.777-35", "12345678Z", "X1234567L", "RSSMRA85T10A562S", "131052-308T", "85.07.30-033.28", "756.9217.0769.85",
        "S1234567D", "A123456(3)", "BOXW310820HNERXN09", "AB 12 34 56 C", "710319/2745", "11010519491231002X",
    ),
    PiiKind.TAX_ID: ("11.222.333/0001-81", "20-05536168-2", "DE136695976", "ACUPA7085R"),
    PiiKind.IP_ADDRESS: ("192.0.2.44", "2001:db8::8a2e:370:7334", "10.1.2.3"),
    PiiKind.MAC_ADDRESS: ("00:1A:2B:3C:4D:5E", "00-1a-2b-3c-4d-5e", "001a.2b3c.4d5e"),
    PiiKind.CRYPTO_ADDRESS: (
        "1MUz4VMYui5qY1mxUiG8BQ1Luv6tqkvaiL", "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq",
        "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", "0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed",
    ),
    PiiKind.URL_CREDENTIALS: ("postgres://joe:hunter22@db.example.com:5432", "https://joe:s3cr3t@example.com"),
    PiiKind.SECRET: (
        "AKIA" + "Q3EXTMPL2345WXYZ", "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8", "sk-ant-api03-" + "a1B2c3D4e5F6g7H8i9J0k1L2",
        "xoxb-" + "123456789012-abcdefABCDEF123456", "hf_" + "abcdefghijABCDEFGHIJklmnopqrstuvwx",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.gzSraSYS8EXBxLN_oWnFSRgCzcmJmMjLiuyu5CSpyHI",
        "-----BEGIN PRIVATE KEY-----\nMIIBVAIBADANBgkqhkiG9w0BAQEFAASCAT4wggE6AgEAAkEAq7BFUpkGp3+LQmlQ\n-----END PRIVATE KEY-----",
    ),
}  # fmt: skip
"""Each is found where nothing is around it."""

IN_CONTEXT: Mapping[PiiKind, tuple[tuple[str, str], ...]] = {
    PiiKind.PHONE: (("call me at {}", "467 3395"), ("Mobile: {}", "0490 39 07 81"), ("{} office", "78 651 450"), ("电话：{}", "13800138000")),
    PiiKind.CARD: (("card number {} is lost", "630427373398"), ("my card {}", "501864667909"), ("Kreditkarte: {}", "180016070420458")),
    PiiKind.SSN: (("ssn {}", "219099999"), ("SSN: {}", "2 1 9 - 0 9 - 9 9 9 9"), ("social security number is {}", "219 09 9999")),
    PiiKind.NATIONAL_ID: (("เลขประจำตัวประชาชน {}", "5920847422049"), ("DNI: {}", "12.345.678"), ("NHS number {}", "943 476 5919"), ("身份证号{}", "110105194912310")),
    PiiKind.TAX_ID: (("VAT number: {}", "GB123456789"), ("Steuernummer {}", "93815/08152"), ("EIN {}", "12-3456789")),
    PiiKind.PASSPORT: (("passport number is {}", "X1234567"), ("Reisepass: {}", "C01X00T47"), ("护照号：{}", "E12345678")),
    PiiKind.DRIVER_LICENSE: (("driver's license {}", "D1234567"), ("Führerschein-Nr. {}", "B072RRE2I55"), ("driver license number: {}", "F162823540116")),
    PiiKind.MEDICAL_ID: (("MRN: {}", "2006718"), ("NHC: {}", "2569870"), ("medical record number {}", "619-384-7250")),
    PiiKind.BANK_ACCOUNT: (("account number {}", "12345678"), ("sort code {}", "20-00-00"), ("เลขที่บัญชี {}", "0612345678")),
    PiiKind.BIC: (("BIC: {}", "DEUTDEFF"), ("SWIFT code {}", "NEDSZAJJXXX")),
    PiiKind.DATE_OF_BIRTH: (
        ("born on {}", "5/5/1937"), ("DOB: {}", "1981-05-26"), ("Fecha de nacimiento: {}", "10/10/1963"), ("geboren am {}", "5. Mai 1981"),
        ("date of birth is {}", "May 5, 1981"), ("วันเกิด {}", "24 มีนาคม 2550"), ('{{"dob": "{}"}}', "1980-12-03"), ("生年月日：{}", "1981年5月26日"),
    ),
    PiiKind.SECRET: (("password: {}", "hunter22"), ("api_key = '{}'", "9f8e7d6c5b4a39281706f5e4d3c2b1a0"), ("пароль: {}", "Zx9!qwerty"), ("Authorization: Bearer {}", "9f8e7d6c5b4a39281706f5e4d3c2b1a0")),
    PiiKind.CRYPTO_ADDRESS: (("my solana wallet is {}", "7EcDhSYGxXyscszYEp35KHN8vvw3svAuLKTzXwCFLtV"),),
}  # fmt: skip
"""What is found where such words are around it."""

HARMLESS: tuple[str, ...] = (
    "9deb20fe-a6e0-355c-81ea-288b009e4f6d", "550e8400-e29b-41d4-a716-446655440000", "d41d8cd98f00b204e9800998ecf8427e",
    "da39a3ee5e6b4b0d3255bfef95601890afd80709", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "2024-05-07T02:21:48Z", "2024-05-07 02:21:48.123456", "1715048508", "1715048508123", "20240507", "12/31/1999", "10.20.30",
    "v1.2.3.4", "version 10.0.19045.3803", "1.2.3-beta.4+build.567", "ISBN 978-3-16-148410-0", "ISBN 0-306-40615-2", "9780306406157",
    "EAN 4006381333931", "0378-5955", "order #W4316152", "order 1234567890", "tracking 1Z999AA10123456784",
    "tracking number 9400111899223197428490", "invoice INV-2024-000123", "$1,234,567.89", "-17.738223, 85.605469", "40.712776",
    "ticket 4111111111111112", "(1) 2 + 3 = 5", "3.14159265358979", "127.0.0.1", "255.255.255.0", "0.0.0.0/0", "::1", "std::vector",
    "12:34:56", "git@github.com:example/project.git", "icon@2x.png", "lodash@4.17.21", "password: required", "the token is invalid",
    "password = os.environ['DB_PASSWORD']", "postgres://user:password@localhost/db", "postgres://${USER}:${PASS}@db.example.com/x",
    "sk-xxxxxxxxxxxxxxxxxxxxxxxx", "#ff0000ff", "rgb(255, 255, 255)", "AU0000XVGZA3", "2019-2020", "1-800", "chapter 1.2.3.4",
    "01HBGW8CWQ5Q6DTT7XP89VV4KT", "507f1f77bcf86cd799439011", "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAABAAAAAQAQMAAAAlPW0i",
    "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", "10.1000/182", "192.168.1.x", "50 m de espesor 20",
    "100,000,000 people", "1 000 000 000", "16:9", "24/7", "a1b2c3d", "SKU 12345-67890", "lot 123-45-6789-0", "0x0000000000000000000000000000000000000000",
)  # fmt: skip
