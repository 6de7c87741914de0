"""Numbers of people: identity papers, cards, accounts, machines, orders, plates and telephones.

Rules:
- A number with a shape of its own (a card, a mobile number) is one anywhere. One without is one after a word
  that says so ("order", "电话"), or where it has nine digits.
- Where the shapes of people's numbers and of things' meet, a check decides (``stream.core.personal.shape``).
"""

from __future__ import annotations

from stream.core.personal.shape import (
    END,
    FIRST,
    GAP,
    Shape,
    after,
    always,
    at_least,
    digits_of,
    is_card,
    is_iban,
    is_ipv4,
    is_ipv6,
    is_no_date,
    is_no_row,
)

IDENTITIES = (
    # Groups of four; each has a digit but the first, which is the bank's. A word of the sentence has none.
    Shape(
        "[iban]",
        (
            r"(?<![0-9a-z])([a-z]{2}\d{2}(?:[0-9a-z]{11,30}"
            r"|[ \-][0-9a-z]{4}(?:[ \-](?=[a-z]{0,3}\d)[0-9a-z]{4}){1,6}(?:[ \-]\d[0-9a-z]{0,2})?)"
            rf"){END}"
        ),
        is_iban,
        digits=8,
    ),
    # China: place, birthday, three digits, a check digit that is not checked: mistyped ones tell as much.
    Shape(
        "[id]",
        (
            rf"({FIRST}\d{{5}}[ \-]?(?:18|19|20)\d\d[ \-]?[01]\d[ \-]?[0-3]\d[ \-]?\d{{3}}[ \-]?[\dx]"
            rf"|{FIRST}\d{{16}}x){END}"
        ),
        digits=17,
    ),
    # US social security; Korea; Sweden; Brazil's CPF.
    Shape(
        "[id]",
        (
            rf"({FIRST}\d\d-\d\d-\d{{4}}|{FIRST}\d{{5}}-[1-4]\d{{6}}|{FIRST}\d{{5}}-\d{{4}}"
            rf"|{FIRST}\d\d\.\d{{3}}\.\d{{3}}-\d\d){END}"
        ),
        digits=9,
    ),
    # Hong Kong and Macau.
    Shape(
        "[id]",
        (r"(?<![0-9a-z])([a-z]{1,2}\d{6} ?\([0-9a]\)|\d{7} ?\(\d\))"),
        digits=7,
        signs=("(",),
    ),
    # Britain's national insurance number; India's PAN, whose fourth letter says what kind of holder.
    Shape(
        "[id]",
        (
            r"(?<![0-9A-Za-z])([A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d\d ?\d\d ?\d\d ?[A-D]"
            r"|[A-Z]{3}[ABCFGHLJPT][A-Z]\d{4}[A-Z])(?![0-9A-Za-z])"
        ),
        digits=4,
        keeps_case=True,
    ),
)

PARCELS = (
    # Amazon; Pinduoduo; UPS; the postal union's parcels (EA123456789CN).
    Shape(
        "[order]",
        (
            rf"({FIRST}\d\d-\d{{7}}-\d{{7}}|{FIRST}\d{{5}}-\d{{15}}"
            r"|(?<![0-9a-z])(?:d\d\d-\d{7}-\d{7}|1z(?: ?[0-9a-z]){16}"
            rf"|[a-z]{{2}} ?\d{{3}} ?\d{{3}} ?\d{{3}} ?[a-z]{{2}})){END}"
        ),
        digits=9,
    ),
    # The US post office writes its 22 digits by fours.
    Shape("[order]", (rf"({FIRST}(?<=9)[1-5]\d\d(?: \d{{4}}){{4}}(?: \d\d)?){END}"), digits=20),
)

CARDS = (
    Shape("[card]", (rf"({FIRST}\d{{3}}([ .\-]?)\d{{6}}\2\d{{4,5}}){END}"), is_card, digits=14),
    Shape(
        "[card]",
        (rf"({FIRST}(?:\d{{12,18}}|\d{{3}}(?:\d\d)?(?=[ .\-])(?:[ .\-]?\d){{8,15}})){END}"),
        is_card,
        digits=12,
    ),
    # Four groups of four are a card, even a mistyped one.
    Shape(
        "[card]",
        (rf"({FIRST}\d{{3}}([ \-.])\d{{4}}\2\d{{4}}\2\d{{4}}(?:\2\d{{1,3}})?){END}"),
        is_no_row,
        digits=16,
    ),
)

BANKS = (
    after(
        "[card]",
        "card|visa|mastercard|amex|american express|unionpay|卡号|银行卡|信用卡|储蓄卡",
        rf"({FIRST}(?:[ .\-]?\d){{7,18}}){END}",
        is_no_row,
        digits=8,
    ),
    Shape(
        "[card]",
        (
            r"(?:(?:card|visa|mastercard|amex|account)s?,? (?:that |which |number )?"
            r"(?:ending|ends|ended)(?: in| with)?"
            rf"|(?<!车)尾号|末四位|后四位)[\s:是为]{{0,2}}[x*]{{0,12}} ?(\d{{3,5}}){END}"
        ),
        digits=3,
        signs=("ending", "ends", "ended", "尾号", "末四位", "后四位"),
    ),
    Shape(
        "[card]",
        (rf"(?:cv[vc]2?|security code|安全码)(?: code)?[\s:]{{0,2}}(?:is |was |是)?(\d{{3,4}}){END}"),
        digits=3,
        signs=("cvv", "cvc", "security code", "安全码"),
    ),
    after(
        "[account]",
        "bank account|a/c|account|acct|账号|帐号|账户|帐户|賬號|帳號|开户|户号|银行",
        rf"({FIRST}(?:[ .\-/]?\d){{4,24}}){END}",
        at_least(5),
        digits=5,
    ),
    after(
        "[account]", "sort code|routing|bsb", rf"(\d{{2,3}}(?:[ \-]?\d{{2,3}}){{1,3}}){END}", always, digits=6
    ),
    # SWIFT in small letters is an adverb's beginning, so the code is in capitals.
    Shape(
        "[account]",
        (
            r"(?:(?i:swift|bic)(?i:/bic)?(?i: code)?(?i: is)?[\s:]{1,2})"
            r"([A-Z]{6}[A-Z0-9]{2}(?:[A-Z0-9]{3})?)(?![0-9A-Za-z])"
        ),
        signs=("swift", "bic"),
        keeps_case=True,
    ),
)

PAPERS = (
    after(
        "[id]",
        "passport|driver's license|driver's licence|drivers license|driver license|driving license"
        "|driving licence|license|licence|ssn|social security|national insurance|nino|id card|identity card"
        "|identity|identification|id|pan|aadhaar|aadhar|nric|fin|hkid|tax id|taxpayer|tin|tfn|sin|nhs"
        "|medicare|visa|residence permit|green card|dni|nie|bsn|pesel"
        "|身份证|身分證|护照|護照|驾驶证|驾照|军官证|社保|医保|通行证|台胞证|回乡证|证件|證件|学号|工号|居住证",
        r"([a-z]{0,5}[ \-]?\d(?:[ \-./]?\d){4,19}(?:[ \-]?[a-z](?![a-z]))?"
        rf"|(?=[a-z0-9]{{0,9}}\d)[a-z0-9]{{8,20}}){END}",
        at_least(5),
        digits=5,
    ),
)

DEVICES = (
    Shape(
        "[ip]",
        (
            r"(\d(?<![0-9a-z.]\d)(?<!version \d)(?<!firmware \d)(?<!ver \d)(?<!ver\.\d)"
            r"(?<!版本\d)(?<!版本号\d)(?<!固件\d)"
            rf"\d{{0,2}}(?:\.\d{{1,3}}){{3}})(?!\.?\d){END}"
        ),
        is_ipv4,
        digits=6,
        signs=(".",),
    ),
    Shape(
        "[ip]",
        (
            r"(?<![0-9a-z])ip(?:v4| address| addr|地址)?[\s:是为]{1,3}(?:is |was )?"
            r"(\d{1,3}(?:\.\d{1,3}){3})(?!\.?\d)"
        ),
        digits=4,
        signs=("ip",),
    ),
    Shape(
        "[ip]",
        (r"(?<![0-9a-z:])([0-9a-f]{1,4}(?:::?[0-9a-f]{1,4}){2,7})(?![0-9a-z:])"),
        is_ipv6,
        digits=2,
        signs=(":",),
    ),
    Shape(
        "[device]",
        (
            r"(?<![0-9a-z])([0-9a-f]{2}([:\-])(?:[0-9a-f]{2}\2){4}[0-9a-f]{2}"
            rf"|(?=[0-9.]{{0,13}}[a-f])[0-9a-f]{{4}}\.[0-9a-f]{{4}}\.[0-9a-f]{{4}}){END}"
        ),
        digits=1,
        signs=(":", "-", "."),
    ),
    after(
        "[device]",
        "imei|imei1|imei2|meid|iccid|eid|udid|mac|serial|s/n|sn|serial no|service tag|asset tag"
        "|序列号|序号|串号|串码|设备号|设备码|机身号|机身码|机器码|识别码",
        rf"([0-9a-z](?:[\-/ ]?[0-9]|[\-/]?[a-z]){{3,38}}){END}",
        at_least(4),
        digits=4,
    ),
)

_ORDER = (
    "order|purchase|tracking|invoice|receipt|ticket|case|reference|ref|shipment|shipping|parcel|package|waybill"
    "|awb|rma|customer|confirmation|transaction|booking|reservation|consignment|claim|membership|member|loyalty"
    "|policy|complaint|po|job|incident|contract|delivery|coupon|voucher|gift card"
    "|订单|訂單|单号|單號|运单|快递|快件|包裹|物流|会员|會員|编号|編號|流水|交易|发票|發票|工单|投诉单|预约"
    "|合同|保单|取件|取件码|验证码|提货码|凭证|车票|案件"
)
_CODE = rf"([0-9a-z][0-9a-z\-_/]{{2,38}}[0-9a-z]){END}(?!\s?(?:pieces|pcs|units|bottles|件|个|元|块))"
_NUMBER_IS_SURELY = (
    r"\s{0,2}(?:(?:numbers?|num|no|nr|id|code|号码|號碼|号|號|编号|編號|码)(?![a-z])"
    r"\s{0,2}[.:#=]{0,2}\s{0,2}(?:is|was|为|是|為)?\s{0,2}[:#]{0,2}|[.:=]{0,2}\s{0,2}#|(?<=[号號码]):)\s{0,2}"
)

ORDERS = (
    after("[order]", _ORDER, _CODE, at_least(5), digits=5),
    after("[order]", _ORDER, _CODE, at_least(4), digits=4, between=_NUMBER_IS_SURELY),
    # Of letters and few digits: not "case iPhone15".
    after(
        "[order]",
        "reference|ref|confirmation|booking|reservation|pnr|预订号|订位代码",
        rf"(?=[a-z]{{0,9}}\d)([0-9a-z]{{6,10}}){END}",
        lambda match: not match.isdecimal(),
        digits=1,
    ),
    after(
        "[order]",
        _ORDER,
        rf"(?=[a-z]{{0,9}}\d)([0-9a-z]{{6,20}}){END}",
        lambda match: not match.isdecimal(),
        digits=1,
        between=_NUMBER_IS_SURELY,
    ),
    after("[order]", _ORDER, rf"({FIRST}(?:[ \-]?\d){{4,24}}){END}(?!\.\d)", at_least(5), digits=5),
    Shape("[order]", (r"(?<![\w&])(#\d{5,30})(?!\w)"), digits=5, signs=("#",)),
)

_PROVINCES = "京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼"

PLATES = (
    # Five places, three of them digits; or six, where D or F says that the car is electric.
    Shape(
        "[plate]",
        (
            rf"([{_PROVINCES}][A-HJ-Z][ ·•\-]?(?:[DF][A-HJ-NP-Z0-9]\d{{4}}|\d{{5}}[DF]"
            r"|[A-HJ-NP-Z0-9]{4}[A-HJ-NP-Z0-9挂学警港澳]))(?![0-9A-Za-z])"
        ),
        at_least(3),
        digits=3,
        keeps_case=True,
    ),
    after(
        "[plate]",
        "license plate|licence plate|number plate|plate number|plate no|plates|registration|reg|vin"
        "|tag number|车牌|車牌|牌照|车架号",
        r"([a-z0-9]{17}|(?=[a-z \-]{0,6}\d)[a-z0-9]{1,8}"
        rf"(?:[ \-·](?=[a-z]{{0,3}}\d)[a-z0-9]{{2,5}}|[ \-][a-z]{{3}})?){END}",
        lambda match: len(match) >= 5 and len(digits_of(match)) >= 2,
        digits=2,
    ),
)

_EXTENSION = r"(?:[ ,\-]{0,2}(?:ext\.?|x|extension|转|轉|分机)[ .:\-]{0,2}\d{1,6})?"
_ABROAD = rf"(?:{GAP}?[()]{{0,2}}{GAP}?\d){{6,13}}"

MOBILES = (
    Shape(
        "[phone]",
        (rf"(\+[ (]{{0,2}}\d{{1,3}}{_ABROAD}{_EXTENSION}){END}"),
        is_no_row,
        digits=7,
        signs=("+",),
    ),
    # Chinese mobile numbers, however they are grouped.
    Shape(
        "[phone]",
        (rf"(?<![0-9a-z])((?:\(?86\)?{GAP}?)?1{GAP}?[3-9](?:{GAP}?\d){{9}}){END}"),
        is_no_row,
        digits=11,
    ),
)

PHONES = (
    Shape(
        "[phone]",
        (rf"({FIRST}(?<=0)0[ (]{{0,2}}\d{{1,3}}{_ABROAD}{_EXTENSION}){END}"),
        is_no_row,
        digits=8,
    ),
    # North America; China's 400 and 800 numbers.
    Shape(
        "[phone]",
        (
            rf"(?<![0-9a-z])((?:(?:1{GAP}?)?(?:\(\d{{3}}\){GAP}{{0,2}}|\d{{3}}{GAP}{{1,3}}|\d{{3}}/)"
            rf"\d{{3}}{GAP}{{1,3}}\d{{4}}"
            rf"|[48]00(?:{GAP}\d{{4}}{GAP}\d{{3}}|{GAP}\d{{7}}|\d{{3}}{GAP}\d{{4}})|555-\d{{4}}){_EXTENSION}){END}"
        ),
        is_no_row,
        digits=7,
    ),
    # The trunk prefix 0: landlines of China and most of the world.
    Shape(
        "[phone]",
        (rf"(?<![0-9a-z])(?<!\d[.,])(\(?0\d{{1,4}}\)?/?(?:{GAP}{{0,3}}\d){{6,9}}{_EXTENSION}){END}"),
        is_no_date,
        digits=8,
    ),
    # India (5-5), Russia (8-3-3-2-2), Spain (3-3-3), Brazil ((11) 98765-4321), and 3-7 and 3-8.
    Shape(
        "[phone]",
        (
            r"(?<![0-9a-z])(?<!\d[.,])([6-9]\d{4}[ \-]\d{5}|8[ \-]?\(?\d{3}\)?[ \-]?\d{3}[ \-]\d\d[ \-]\d\d"
            rf"|[679]\d\d \d{{3}} \d{{3}}|\(\d{{2}}\) ?\d{{4,5}}[ \-]\d{{4}}|\d{{3}}[ \-]\d{{7,8}}){END}"
        ),
        is_no_row,
        digits=9,
    ),
    # Three groups of four: a parcel of FedEx, an Aadhaar number, a telephone; somebody's in each case.
    Shape("[number]", (rf"({FIRST}\d{{3}}([ \-])\d{{4}}\2\d{{4}}){END}"), is_no_row, digits=12),
    after(
        "[phone]",
        "tel|telephone|phone|call|text|sms|mobile|cell|cellphone|whatsapp|fax|contact|hotline|viber|dial|ring"
        "|reach me at|imessage"
        "|电话|電話|手机|手機|联系方式|联系|聯繫|致电|座机|传真|热线|拨打|来电|微信同号|号码|小灵通",
        rf"(\(?\d(?:{GAP}?[()]?{GAP}?\d){{6,14}}{_EXTENSION}){END}",
        is_no_date,
        digits=7,
        between=r"(?:[ \-]{0,2}(?:numbers?|no|号码|號碼|号|號|me|us|him|her|them|at|on|is|was|or|text"
        r"|是|为|為|我)){0,4}[\W_]{0,4}",
    ),
)

_CHINESE_DIGIT = "零〇一二三四五六七八九幺两壹贰叁肆伍陆柒捌玖"
_SPELLED = r"(?:zero|oh|one|two|three|four|five|six|seven|eight|nine|double|triple)"

REST = (
    # Carriers' and shops' own: many digits behind a few letters (SF1234567890123), or a code in capitals.
    Shape(
        "[order]",
        (rf"(?<![0-9a-z])([a-z]{{1,6}}-?\d{{8,30}}(?:-[0-9a-z]{{1,6}}){{0,3}}[a-z]{{0,3}}){END}"),
        digits=8,
    ),
    Shape(
        "[order]",
        (r"(?<![0-9A-Za-z])((?=[A-Z]{0,11}\d)[0-9A-Z]{14,40})(?![0-9A-Za-z])"),
        at_least(8),
        digits=8,
        keeps_case=True,
    ),
    Shape("[number]", (r"(\d{9,40})"), is_no_row, digits=9),
    # Written out to get past filters such as this one.
    Shape("[number]", (rf"([{_CHINESE_DIGIT}]{{8,20}})")),
    Shape(
        "[number]",
        (rf"(?<![a-z])((?:{_SPELLED}[ \-,.]{{1,2}}){{6,20}}{_SPELLED})(?![a-z])"),
        signs=("zero", "four", "five", "six", "seven", "eight", "nine"),
    ),
)
