"""Where people live and what they are called.

Rules:
- An English address begins with a house number and goes on in capitals to a kind of street ("221B Baker
  Street"), or is a post office box, a flat, or a postcode behind a town. "500 GB Hard Drive" is none.
- A Chinese address has a road or village with a house number; a building with a room; or three levels from
  the province down. Where it begins in a sentence without spaces is a guess: no place is called "at" or "to".
- A name is known only by the words before it ("my name is", "收件人:"): no list of names would leave ordinary
  words alone. Chinese names begin with one of the common surnames.
"""

from __future__ import annotations

import re

from stream.core.personal.shape import END, Shape, after, always

_STATE = (
    "(?:A[KLRZ]|C[AOT]|D[CE]|FL|GA|HI|I[ADLN]|K[SY]|LA|M[ADEINOST]|N[CDEHJMVY]|O[HKR]|PA|PR|RI|S[CD]|T[NX]|UT"
    "|V[AT]|W[AIVY]|NSW|VIC|QLD|ON|QC|BC|AB)"
)
# Britain's and Canada's. What ends in a unit is a model and its size: "S7 4GB".
_POSTCODE = (
    r"(?:[A-Z]{1,2}\d[A-Z\d]? \d(?!GB|TB|LB|FT|ST|ND|RD|TH|HZ|HR|HP|AH|PS|WD|HD)[ABD-HJLNP-UW-Z]{2}"
    r"|[A-Z]\d[A-Z] \d[A-Z]\d)(?![0-9A-Za-z])"
)
_ZIP = rf"(?:{_STATE}\.?,? \d{{4,5}}(?:-\d{{4}})?(?!\d)|{_POSTCODE})"
_TOWN = r"[A-Z][A-Za-z.'\-]{1,20}(?: [A-Z][A-Za-z.'\-]{1,20}){0,2}"
_COMPASS = r"(?:NW|NE|SW|SE|[NSEW]|North|South|East|West)"
_FLAT = (
    r"(?:[Aa]pt|[Aa]partment|APT|[Ss]uite|[Ss]te|[Uu]nit|[Ff]loor|[Rr]oom|[Rr]m|[Ff]lat|#)"
    r"\.? ?#?[0-9A-Za-z\-]{1,6}"
)
_STREET = (
    "Street|St|Avenue|Ave|Road|Rd|Boulevard|Blvd|Lane|Ln|Highway|Hwy|Parkway|Pkwy|Terrace|Crescent|Turnpike|Mews"
    "|Drive|Dr|Court|Ct|Place|Pl|Square|Way|Circle|Cir|Close|Gardens|Grove|Walk"
)
# "Hard Drive", "2 Way", "5 miles down the road".
_NO_STREET = re.compile(
    r"(?<![a-z\-])(?:[gtmk]b|hard|flash|thumb|pen|usb|dis[kc]|cd|dvd|(?:cd|dvd)-rom|zip|ssd|test|external|portable"
    r"|solid|state|optical|stars?|miles?|years?|months?|days?|weeks?|hours?|minutes?|seconds?|way|lane|side|times?|km|ft"
    r"|foot|inch|inches|people|cars|different|wheel|prong|piece|port|pin|step|speed|full|front|all|a|an|the|of|on|in|to"
    r"|off|from|for|down|up|out|along|and|or|at|by|with|this|that|my|his|her|their|your|our|its|no|one|dirt|long|hp"
    r"|volt|watt)(?![a-z\-])"
)


def _is_street(match: str) -> bool:
    """No word before the first comma says that it is a disk drive or a way of doing things."""
    return _NO_STREET.search(match.partition(",")[0].lower()) is None


_HOUSE = r"\d(?<![0-9A-Za-z.,$£€¥\-]\d)\d{0,4}[A-Za-z]?(?:[\-/]\d{1,4}[A-Za-z]?)?"
_WORDS = r"(?:[A-Z][A-Za-z'\-]{0,19}\.? |\d{1,3}(?:st|nd|rd|th|ST|ND|RD|TH) ){0,3}"
_TAIL = (
    rf"(?:,? {_COMPASS}\b\.?)?(?:,? {_FLAT}\b)?"
    rf"(?:,? (?:{_TOWN},? ){{0,3}}?(?:{_ZIP}|[A-Z]{{2}}\d{{2}}[A-Z]{{2}}(?![0-9A-Za-z])))?"
)

_ENGLISH_ADDRESSES = (
    Shape(
        "[address]",
        (rf"({_HOUSE},? {_WORDS}(?:{_STREET}|{_STREET.upper()})\b\.?{_TAIL})"),
        _is_street,
        digits=1,
        keeps_case=True,
        signs=tuple(_STREET.lower().split("|")),
    ),
    # In small letters, for the kinds of street that are nothing else.
    Shape(
        "[address]",
        (
            r"(\d(?<![0-9a-z.,$\-]\d)\d{0,4}[a-z]?(?: ?- ?\d{1,4})? (?:[a-z]{3,20} ){1,2}"
            r"(?:street|avenue|boulevard|blvd|road)"
            rf"(?:,? [a-z]{{1,2}}\d{{1,2}}[a-z]? ?\d[a-z]{{2}})?){END}"
        ),
        _is_street,
        digits=1,
        signs=("street", "avenue", "boulevard", "blvd", "road"),
    ),
    Shape("[address]", (rf"({_TOWN}, {_ZIP})"), digits=2, signs=(",",), keeps_case=True),
    Shape(
        "[address]",
        (
            rf"(?<![a-z])((?:p\.? ?o\.? ?|post office |gpo )box ?(?:#|no\.? ?|number )?\d{{1,6}}"
            rf"|(?:apt|apartment)\.? ?(?:#|no\.? ?|number )?\d{{1,5}}-?[a-z]?){END}"
        ),
        digits=1,
        signs=("box", "apt", "apartment"),
    ),
    Shape("[address]", (rf"(?<![0-9A-Za-z])({_POSTCODE})"), digits=2, keeps_case=True),
    after(
        "[address]",
        "zip code|zipcode|zip|postcode|post code|postal code|邮编|邮政编码|郵遞區號",
        rf"(\d{{5,6}}(?:-\d{{4}})?|[a-z]{{1,2}}\d[a-z\d]? ?\d[a-z]{{2}}){END}",
        always,
        digits=2,
        between=r"(?: (?:of|for) [a-z' ]{1,30}?)?[\s:]{0,2}(?:is|was|是|为)?[\s:]{0,2}",
    ),
)

# What a Chinese place's name is made of: no word that leads to it, and no kind of place.
_HAN = (
    r"[^\W\da-z_在住寄到是址我你他她它的了给給发發送于於至从從和与與往去来來离離有这這那就也很不"
    r"省市区區县縣镇鎮乡鄉路街巷弄号號栋幢棟座室]"
)
_PROVINCE = (
    "北京|天津|上海|重庆|河北|山西|辽宁|吉林|黑龙江|江苏|浙江|安徽|福建|江西|山东|河南|湖北|湖南|广东|海南"
    "|四川|贵州|云南|陕西|甘肃|青海|台湾|臺灣|内蒙古|广西|西藏|宁夏|新疆|香港|澳门|台北|臺北|高雄"
)
_STATE_LEVEL = rf"(?:{_PROVINCE})(?:省|市|(?:壮族|维吾尔|回族)?自治区|特别行政区)?[ ,]?"
_CITY_LEVEL = rf"{_HAN}{{2,5}}(?:市|地区|自治州|盟)[ ,]?"
_DISTRICT_LEVEL = rf"{_HAN}{{1,4}}(?:区|區|县|縣|旗)[ ,]?"
_TOWN_LEVEL = rf"{_HAN}{{1,5}}(?:街道|镇|鎮|乡|鄉)[ ,]?"
_NUMERAL = "[0-9一二三四五六七八九十百零〇甲乙]"  # noqa: RUF001
_ESTATE = rf"{_HAN}{{1,8}}(?:小区|社区|花园|花苑|公寓|大厦|家园|新村|苑|宿舍|写字楼)"
_ROOMS = (
    rf"(?:[ ,\-]{{0,2}}(?:{_ESTATE})?[ ,\-]{{0,2}}{_NUMERAL}{{1,5}}[a-z]?"
    r"(?:号楼|號樓|单元|幢|栋|棟|座|楼|樓|层|層|室|房|户|号|號|组|弄)){0,6}"
    r"(?:[ \-]{0,2}\d{3,4}(?!\d|\.\d|[元块]))?"
)

_CHINESE_ADDRESSES = (
    Shape(
        "[address]",
        (
            rf"((?:{_STATE_LEVEL})?(?:{_CITY_LEVEL})?(?:{_DISTRICT_LEVEL})?(?:{_TOWN_LEVEL})?"
            rf"{_HAN}{{1,8}}(?:大道|大街|路|街|巷|胡同|村|道)(?:[东西南北中一二三四五六七八九]段?)?"
            rf" ?{_NUMERAL}{{1,6}}(?:[\-之]\d{{1,3}})?(?:号|號|弄|#)(?!线|線|店|车){_ROOMS})"
        ),
        signs=("路", "街", "巷", "大道", "胡同", "村", "道"),
    ),
    Shape(
        "[address]",
        (
            rf"((?:{_STATE_LEVEL})?(?:{_CITY_LEVEL})?(?:{_DISTRICT_LEVEL})?(?:{_TOWN_LEVEL})?"
            rf"(?:{_ESTATE}[ ,]?)?{_NUMERAL}{{1,4}}[a-z]?(?:号楼|號樓|幢|栋|棟|座|单元) ?"
            rf"(?:{_NUMERAL}{{1,2}}(?:单元|门|楼|层) ?)?"
            r"\d{2,4}(?:室|房|号|户)?)(?!\d|\.\d|[元块])"
        ),
        digits=2,
        signs=("号楼", "號樓", "幢", "栋", "棟", "座", "单元"),
    ),
    # Three levels down from the province need no number.
    Shape(
        "[address]",
        (
            rf"({_STATE_LEVEL}(?:{_CITY_LEVEL}{_DISTRICT_LEVEL}|{_DISTRICT_LEVEL}{_TOWN_LEVEL})(?:{_TOWN_LEVEL})?"
            rf"(?:{_HAN}{{1,8}}(?:大道|大街|路|街|村))?(?:{_ESTATE})?{_ROOMS})"
        ),
        signs=("区", "區", "县", "縣"),
    ),
    Shape(
        "[address]",
        (rf"((?:{_STATE_LEVEL})?(?:{_CITY_LEVEL}|{_DISTRICT_LEVEL}){{1,2}}{_ESTATE})"),
        signs=("小区", "花园", "公寓", "家园", "新村"),
    ),
)

ADDRESSES = (*_ENGLISH_ADDRESSES, *_CHINESE_ADDRESSES)

_FORE = r"[A-Z][A-Za-z\u00df-\u024f'\-]{1,20}|[A-Z]\."
_FULL_NAME = (
    rf"(?:(?:Mr|Mrs|Ms|Dr|Miss)\.? )?(?:{_FORE})(?: (?:de|van|von|der|la|bin|al) ?)?(?: (?:{_FORE})){{0,3}}"
)
_NO_NAME = (
    r"(?:a|all|already|also|an|and|as|associated|at|attached|being|but|by|clearly|correct|correctly|engraved|etched"
    r"|for|from|here|i|in|incorrectly|is|it|just|listed|mis[a-z]{3,10}|mud|my|never|no|not|now|of|on|only|out|please"
    r"|printed|right|so|spelled|spelt|still|that|the|there|this|to|too|under|used|very|was|we|what|which|with"
    r"|written|wrong|you)"
    r"(?![a-z])"
)
_SURNAME = (
    "[王李张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗梁宋郑谢韩唐冯于董萧肖程曹袁邓许傅沈曾彭吕苏卢蒋蔡贾丁魏薛"
    "叶阎余潘杜戴夏钟汪田任姜范方石姚谭廖邹熊金陆郝孔白崔康毛邱秦江史顾侯邵孟龙万段雷钱汤尹黎易常武乔贺赖"
    "龚文倪章鲁韦洪俞华柳凌霍"
    "張劉陳楊趙黃吳孫馬羅鄭謝韓馮鄧許呂蘇盧蔣賈葉鐘]"
)
_SURNAMES = rf"(?:欧阳|歐陽|司马|上官|诸葛|皇甫|令狐|慕容|尉迟|{_SURNAME})"
_GIVEN = r"[^\W\da-z_的了是在我你您他她它也很就都和与跟说来去不没过给把被让要有想会]"
_CHINESE_NAME = (
    r"(?!马上|任何|方便|高手|白天|万一|常常|何时|何人|于是|黄牛|龙虾|石头|马桶|毛巾|夏天|金牌|文员|高级)"
    rf"{_SURNAMES}{_GIVEN}{{1,2}}"
)

NAMES = (
    # Not "My Name Is": that is a title ("My Name Is Earl").
    Shape(
        "[name]",
        (
            r"(?:(?:[Mm]y|MY)(?: (?:full|first|last|real|legal))? (?:name(?:'s| is|:| -)|NAME IS)"
            r"|[Ii]'?m called|[Ii] am called) "
            rf"({_FULL_NAME})"
        ),
        signs=("name", "called"),
        keeps_case=True,
    ),
    # In small letters: up to two words, unless they say something about the name.
    Shape(
        "[name]",
        (
            r"(?<![A-Za-z])[Mm]y (?:full |first |last |real )?name(?:'s| is) "
            rf"((?!{_NO_NAME})[a-z]{{2,15}}(?: (?!{_NO_NAME})[a-z]{{2,15}})?)(?![A-Za-z'])"
        ),
        signs=("name",),
        keeps_case=True,
    ),
    Shape(
        "[name]",
        (
            r"(?<![A-Za-z])(?i:(?:full |first |last |sur|customer |cardholder |contact |recipient )name"
            r"|(?<![a-z] )name|recipient|cardholder|buyer|consignee|contact(?: person)?"
            r"|account holder|passenger|patient|attn"
            rf"|(?:ship|deliver|bill)(?:p?ed)? to|signed(?: for)? by) ?: ?({_FULL_NAME})"
        ),
        signs=(":",),
        keeps_case=True,
    ),
    Shape(
        "[name]",
        (rf"(?:[Tt]his is|[Ii] am|[Ii]'m) ({_FULL_NAME})(?= (?:speaking|writing|here|calling|from [A-Z]))"),
        signs=("speaking", "writing", "here", "calling", "from"),
        keeps_case=True,
    ),
    # A signature ends the text.
    Shape(
        "[name]",
        (
            r"(?:[Rr]egards|[Ss]incerely|[Yy]ours truly|[Yy]ours faithfully|[Bb]est wishes|[Yy]ours)"
            rf"(?:, ?|\s{{1,3}})({_FULL_NAME})(?=[.!]?\s{{0,3}}\Z)"
        ),
        signs=("regards", "sincerely", "yours", "best wishes"),
        keeps_case=True,
    ),
    Shape(
        "[name]",
        (rf"(?:我叫|叫做|我的名字是|我的名字叫|名字叫|本人叫|我姓名)[ :]?({_CHINESE_NAME})"),
        signs=("我", "叫"),
    ),
    Shape(
        "[name]",
        (
            r"(?:收件人|收货人|收貨人|联系人|聯繫人|寄件人|发件人|收款人|签收人|购买人|下单人|姓名|户名|会员名"
            r"|客户名|真名|署名)"
            rf"(?:叫|是|为|写的是)?[ :]{{0,2}}({_CHINESE_NAME}|(?<=[: ])[a-z]{{2,12}}(?: [a-z]{{2,12}})?)"
        ),
        signs=("人", "名"),
    ),
)
