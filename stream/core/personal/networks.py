"""Links, mail addresses and names on networks.

Rules:
- A mail address is one however it is spelled out ("jo (at) mail dot com", "jo艾特qq点com").
- A shop's bare name ("amazon.com") is no link; one with a path is.
- A handle after a network's name has a digit or an underscore, or something says that it is one ("my Skype id
  is"): "WeChat support was useless" stays.
"""

from __future__ import annotations

from stream.core.personal.shape import END, Shape, is_handle

_TLD = (
    "com|cn|net|org|io|me|ly|co|gl|gg|uk|us|de|fr|it|es|nl|ca|au|in|jp|kr|ru|br|tw|hk|sg|eu|tv|cc|app|dev|shop"
    "|store|site|online|link|info|biz|top|xyz|vip|edu|gov"
)
# A Chinese sentence goes on right behind a link; a full stop or a bracket behind it is the sentence's.
_URL = r"[^\0\s<>\"'\u2e80-\uffef]"
_URL_LAST = r"[^\0\s<>\"'\u2e80-\uffef.,;:!?()\[\]{}]"

LINKS = (
    Shape(
        "[link]",
        (rf"((?:(?:https?|ftp)://|(?<![0-9a-z])www\.){_URL}{{0,2000}}{_URL_LAST})"),
        signs=("://", "www."),
    ),
    Shape(
        "[link]",
        (
            rf"(?<![0-9a-z.@\-])((?:[0-9a-z\-]{{1,63}}\.){{1,4}}(?:{_TLD})(?::\d{{2,5}})?/{_URL}{{0,2000}}{_URL_LAST})"
        ),
        signs=tuple(f".{domain}{end}" for domain in _TLD.split("|") for end in "/:"),
    ),
)

_LETTER = r"0-9a-z_\u00df-\u024f"
_LOCAL = rf"[{_LETTER}.%+\-]{{1,64}}"
_LABEL = r"[0-9a-z\-]{1,63}"
_MAILER = (
    "(?:gmail|googlemail|yahoo|ymail|hotmail|outlook|live|msn|icloud|aol|qq|foxmail|163|126|sina|sohu"
    "|protonmail|proton)"
)

EMAILS = (
    Shape(
        "[email]",
        (rf"({_LOCAL}@[{_LETTER}\u4e00-\u9fff\-]{{1,63}}(?:[.。]{_LABEL}){{1,6}})"),
        signs=("@",),
    ),
    # With spaces, only where it ends as a domain does: "look @ this. Then".
    Shape(
        "[email]",
        (rf"({_LOCAL} ?@ ?{_LABEL}(?: ?[.,。点] ?{_LABEL}){{0,3}} ?[.,。点] ?(?:{_TLD})){END}"),
        signs=("@",),
    ),
    Shape(
        "[email]",
        (
            rf"({_LOCAL} ?[\[({{<*_] ?(?:at|a|@) ?[\])}}>*_] ?{_LABEL}"
            rf"(?:(?: ?[\[({{<*_] ?(?:dot|\.) ?[\])}}>*_] ?|\.| dot ){_LABEL}){{1,3}})"
        ),
        signs=tuple(f"{bracket}{space}{at}" for bracket in "[({<*_" for space in ("", " ") for at in "a@"),
    ),
    Shape("[email]", (rf"({_LOCAL} at {_LABEL}(?: dot {_LABEL}){{1,3}}){END}"), signs=(" dot ",)),
    Shape(
        "[email]",
        (rf"({_LOCAL} at {_MAILER}(?:\.| dot ){_LABEL}){END}"),
        signs=tuple(f" at {mailer}" for mailer in _MAILER[3:-1].split("|")),
    ),
    Shape(
        "[email]",
        (rf"({_LOCAL} ?(?:艾特|圈a|#|@) ?{_LABEL} ?[.。点] ?(?:{_TLD})){END}"),
        signs=("艾特", "圈a", "点c", "点 c", "#qq", "#163", "#126", "#gmail"),
    ),
)

_NETWORK = (
    "wechat|weixin|we chat|whatsapp|telegram|signal|skype|instagram|insta|snapchat|snap|twitter|facebook"
    "|tiktok|discord|kik|line|viber|messenger|venmo|cashapp|paypal|zelle|reddit|linkedin|gamertag|psn|wx|vx|tg"
    "|ig|fb"
)
_NETWORK_IN_CHINESE = (
    "qq|微信|薇信|威信|徽信|v信|加v|加微|扣扣|企鹅|q群|q号|抖音|快手|微博|小红书|旺旺|支付宝|陌陌|闲鱼"
    "|淘宝账号|淘宝号|用户名|昵称"
)
_SAID_TO_BE = (
    "(?: ?(?:群|id|号码|号|號|账号|帐号|同号|handle|username|user|name|account|me|my|is|at|on|是|为|搜)){0,4}"
    "[ :=(]{0,3}"
)
_HANDLE = r"([a-z0-9][a-z0-9_\-.]{2,30}(?<![.\-]))"

ACCOUNTS = (
    Shape(
        "[account]",
        (rf"(?:(?<![a-z\-])(?:{_NETWORK})(?=[ :=@(]|id|号)|{_NETWORK_IN_CHINESE}){_SAID_TO_BE}@?{_HANDLE}"),
        is_handle,
        signs=tuple(f"{_NETWORK}|{_NETWORK_IN_CHINESE}".split("|")),
    ),
    # A handle of letters only is known by what stands before it.
    Shape(
        "[account]",
        (
            rf"(?:(?<![a-z\-])(?:{_NETWORK})(?: my)? (?:id|handle|username|user name|account name|name)"
            r"(?: is |[ :]{1,3})|(?:微信|薇信|威信|vx|wx|v信|旺旺|抖音|快手|小红书|微博|支付宝|用户名|昵称)"
            r"(?:号|id|名)?(?:是|为|[:=])[ :]{0,2}"
            rf"|(?<![a-z])(?:user ?name|user ?id|screen name|login)(?: is |: ?))@?{_HANDLE}"
        ),
        signs=("id", "handle", "name", "login", "vx", "wx", *"信旺抖快书博宝名昵"),
    ),
    Shape("[account]", (rf"(?<![a-z])q[ :]{{1,2}}(\d{{5,11}}){END}"), digits=5, signs=("q",)),
    Shape(
        "[account]",
        (rf"(?<![0-9a-z])([a-z][a-z0-9_.]{{2,30}}#\d{{4}}){END}"),
        digits=4,
        signs=("#",),
    ),
    Shape("[account]", (r"(?<![0-9a-z])((?:wxid|gh)_[0-9a-z]{4,30})"), signs=("wxid_", "gh_")),
    Shape(
        "[account]",
        (r"(?<![0-9a-z_.@])(@[a-z_\u4e00-\u9fff][\w\-]{1,29}(?:\.\w{2,20})?)"),
        signs=("@",),
    ),
)
