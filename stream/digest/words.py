"""The digest's words, in English and Chinese.

Rules:
- Every key is in every language, with the same places to fill (a test compares them).
- What is filled in is hostile text: the template escapes the whole.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = get_args(Language)

WORDS: dict[Language, dict[str, str]] = {
    "en": {
        "lang": "en",
        "space": " ",
        "comma": ", ",
        "colon": ": ",
        "stop": ".",
        "digest": "Customer sentiment digest",
        "day": "{day} (UTC)",
        "day_so_far": "{day} (UTC), until {until}",
        "span": "{begin} to {end} (UTC)",
        "all": "All categories",
        "none_stated": "No category stated",
        "quiet": "A quiet day: no alert.",
        "alerts_all_on": "{fired}, still on.",
        "alerts_on": "{fired}, {firing} still on.",
        "alerts_over": "{fired}, none still on.",
        "alert_1": "1 alert",
        "alert_n": "{n} alerts",
        "share_said": "{share} of {events} were negative",
        "event_1": "1 event",
        "event_n": "{n} events",
        "share_up": "{share_said}, {points} points more than in the days before.",
        "share_down": "{share_said}, {points} points fewer than in the days before.",
        "share_same": "{share_said}, as in the days before.",
        "share_alone": "{share_said}.",
        "no_events": "No event was counted.",
        "events": "Events",
        "negative": "Negative",
        "neutral": "Neutral",
        "positive": "Positive",
        "alerts": "Alerts",
        "products": "Products",
        "before": "days before: {share}",
        "nothing_before": "nothing to compare with",
        "still_on": "{n} still on",
        "recovered_n": "{n} recovered",
        "badly": "What went badly",
        "well": "What went well",
        "firing": "Still on",
        "recovered": "Recovered",
        "new_normal": "Over: the new normal",
        "critical": "critical",
        "warning": "warning",
        "historic": "from old events",
        "reviews": "reviews",
        "chats": "chats",
        "rule_negative_share": "negative share",
        "rule_negative_rate": "number of negatives",
        "since": "since {at}",
        "from_to": "{begin} to {end}",
        "lasted": "lasted {length}",
        "lasting": "for {length} so far",
        "figures": "{negatives} of {events} negative since it began: {share} ({low} to {high}), usually {usual}"
        " ({usual_low} to {usual_high})",
        "rate_figures": "{per_day} negatives a day, usually {usual}; {negatives} of {events} negative since it"
        " began",
        "authors": "{n} known authors",
        "peak": "peak {share}",
        "about": "What it is about",
        "times": "× {n}",
        "their_words": "In customers’ words",
        "quotes": "Quotes, personal data masked",
        "more_alerts": "And {n} more alerts.",
        "worse": "Worse than in the days before",
        "better": "Better than in the days before",
        "worst": "Most negative",
        "praised": "Most praised",
        "product": "Product",
        "share": "Negative",
        "positive_share": "Positive",
        "was": "Before",
        "nothing_bad": "Nothing stands out.",
        "nothing_good": "Nothing stands out.",
        "more_products": "And {n} more.",
        "category": "Category",
        "categories": "Categories",
        "change": "Change, points",
        "refused": "Dead letters of this period",
        "refused_none": "None.",
        "stage": "Stage",
        "reason": "Reason",
        "letters": "Letters",
        "ended": "What became of every event since counting began",
        "channel": "Channel",
        "counted": "Counted",
        "dead": "Dead letters",
        "skipped": "Skipped by rule",
        "duplicate": "Duplicates",
        "late": "Late",
        "missing": "Missing",
        "rests": "What this rests on",
        "rests_counts": "Counts are by the events’ own time, alerts and dead letters by when they reached us."
        " “The days before” are the up to seven days that counters keep. A product is told of from {least}"
        " events on, and compared where it had {least_before} before; shares are ordered by their 95% interval.",
        "rests_categories": "The counters know no categories: a product is of the category that its events among"
        " the newest {records} in Kafka state, else of the one its alerts state.",
        "rests_alerts": "Alerts are shown as they are now, with the evidence of their last transition.",
        "made": "Made {at} UTC by Reviewpulse {version}.",
        "back": "All categories",
        "d": "{n} d", "h": "{n} h", "min": "{n} min", "s": "{n} s",
    },
    "zh": {
        "lang": "zh-Hans",
        "space": "",
        "comma": "，",
        "colon": "：",
        "stop": "。",
        "digest": "顾客情绪日报",
        "day": "{day}（UTC）",
        "day_so_far": "{day}（UTC），截至 {until}",
        "span": "{begin} 至 {end}（UTC）",
        "all": "全部品类",
        "none_stated": "未注明品类",
        "quiet": "平静的一天：没有告警。",
        "alerts_all_on": "{fired}，仍在持续。",
        "alerts_on": "{fired}，其中 {firing} 条仍在持续。",
        "alerts_over": "{fired}，均已结束。",
        "alert_1": "1 条告警",
        "alert_n": "{n} 条告警",
        "share_said": "{events}中 {share} 为负面",
        "event_1": "1 条评价与对话",
        "event_n": "{n} 条评价与对话",
        "share_up": "{share_said}，比前几天高 {points} 个百分点。",
        "share_down": "{share_said}，比前几天低 {points} 个百分点。",
        "share_same": "{share_said}，与前几天持平。",
        "share_alone": "{share_said}。",
        "no_events": "没有计入任何事件。",
        "events": "事件",
        "negative": "负面",
        "neutral": "中性",
        "positive": "正面",
        "alerts": "告警",
        "products": "商品",
        "before": "前几天：{share}",
        "nothing_before": "没有可比较的数据",
        "still_on": "{n} 条仍在持续",
        "recovered_n": "{n} 条已恢复",
        "badly": "变差的",
        "well": "变好的",
        "firing": "仍在持续",
        "recovered": "已恢复",
        "new_normal": "已结束：成为新常态",
        "critical": "严重",
        "warning": "警告",
        "historic": "来自历史事件",
        "reviews": "评价",
        "chats": "客服对话",
        "rule_negative_share": "负面占比",
        "rule_negative_rate": "负面数量",
        "since": "始于 {at}",
        "from_to": "{begin} 至 {end}",
        "lasted": "持续了 {length}",
        "lasting": "至今 {length}",
        "figures": "开始以来 {events} 条中 {negatives} 条为负面：{share}（{low} 至 {high}），平时为 {usual}"
        "（{usual_low} 至 {usual_high}）",
        "rate_figures": "每天 {per_day} 条负面，平时 {usual} 条；开始以来 {events} 条中 {negatives} 条为负面",
        "authors": "{n} 位已知作者",
        "peak": "峰值 {share}",
        "about": "集中在",
        "times": "× {n}",
        "their_words": "顾客原话",
        "quotes": "引文（已隐去个人信息）",
        "more_alerts": "另有 {n} 条告警。",
        "worse": "比前几天更差",
        "better": "比前几天更好",
        "worst": "负面最多",
        "praised": "最受好评",
        "product": "商品",
        "share": "负面",
        "positive_share": "正面",
        "was": "此前",
        "nothing_bad": "没有突出的情况。",
        "nothing_good": "没有突出的情况。",
        "more_products": "另有 {n} 个。",
        "category": "品类",
        "categories": "品类",
        "change": "变化（百分点）",
        "refused": "本期死信",
        "refused_none": "没有。",
        "stage": "环节",
        "reason": "原因",
        "letters": "数量",
        "ended": "自开始计数以来每条事件的去向",
        "channel": "渠道",
        "counted": "已计入",
        "dead": "死信",
        "skipped": "按规则跳过",
        "duplicate": "重复",
        "late": "迟到",
        "missing": "缺失",
        "rests": "数据依据",
        "rests_counts": "计数按事件自身的时间，告警与死信按到达时间。“前几天”指计数器所保留的至多七天。商品至少有 {least}"
        " 条事件才会列出，此前至少有 {least_before} 条才作比较；占比按其 95% 区间排序。",
        "rests_categories": "计数器不含品类：商品的品类取自 Kafka 中最新 {records} 条事件所注明的，否则取自其告警。",
        "rests_alerts": "告警按当前状态显示，证据为其最后一次变化时的证据。",
        "made": "由 Reviewpulse {version} 于 {at}（UTC）生成。",
        "back": "全部品类",
        "d": "{n} 天", "h": "{n} 小时", "min": "{n} 分钟", "s": "{n} 秒",
    },
}  # fmt: skip


class Speaker:
    """Says things in one language.

    >>> Speaker("en").count("alert", 1), Speaker("zh").count("alert", 2)
    ('1 alert', '2 条告警')
    """

    def __init__(self, language: Language) -> None:
        self.language = language
        self._words = WORDS[language]

    def __call__(self, key: str, **filled: Any) -> str:
        """What ``WORDS`` has, filled in."""
        return self._words[key].format(**filled)

    def count(self, key: str, n: int) -> str:
        """A number of things."""
        return self._words[f"{key}_1" if n == 1 else f"{key}_n"].format(n=f"{n:,}")

    def rule(self, rule: str) -> str:
        """What a rule looks at; a threshold rule by its own name."""
        return self._words.get(f"rule_{rule}", rule)

    def length(self, ms: float) -> str:
        """A length of time, in two units at most.

        >>> Speaker("en").length(200_000_000), Speaker("zh").length(3_700_000)
        ('2 d 7 h', '1 小时 1 分钟')
        """
        seconds = max(0, round(ms / 1000))
        for unit, lesser, size, of_lesser in (
            ("d", "h", 86_400, 3_600),
            ("h", "min", 3_600, 60),
            ("min", "s", 60, 1),
        ):
            if seconds >= size:
                count, rest = divmod(seconds, size)
                said = self(unit, n=count)
                return f"{said} {self(lesser, n=rest // of_lesser)}" if rest // of_lesser else said
        return self("s", n=seconds)
