"""Words that are no phrases of their own, English and Chinese: see ``stream.core.words``."""

from __future__ import annotations


def _words(listed: str) -> frozenset[str]:
    return frozenset(listed.split())


NEGATIONS = _words(
    """
    not never cannot no without nothing none dont doesnt didnt wont cant isnt wasnt arent couldnt wouldnt
    havent
    hasnt hadnt
    """
)

NEGATIONS_CHINESE = _words(
    """
    不 没 没有 没法 无法 不能 不会 不可 不可以 不给 未 无 毫无 从不
    """
)

NEGATED = _words(
    """
    can don won doesn didn isn wasn aren weren couldn wouldn shouldn hasn haven hadn ain
    """
)
"""What is left of "don't" where a space stands for the apostrophe."""

AUXILIARIES = _words(
    """
    do does did is are was were am be been can could will would shall should has have had may might must
    """
)

PASSED_OVER = _words(
    """
    a an the my your his her its our their this that these those very really so quite extremely super
    absolutely totally completely truly pretty rather just even always
    很 太 非常 特别 极 极其 十分 超 超级 真 好 挺 更 最 相当 实在 实在是 完全 根本 都 也 还 就 总是 老是
    确实 简直 有点
    """
)
"""Articles and intensifiers: phrases are counted without them."""

VERDICTS = _words(
    """
    bad terrible horrible awful worst worse poor poorly junk crap garbage trash useless worthless piece
    shit suck sucks waste money disappointing disappointment beware regret stay avoid recommend return
    refund star product item purchase buy bought buyer order sad unhappy unfortunately sorry ridiculous
    joke complete problem issue amazon review customer happy hope expect love good great nice better best
    fine time day thanks read reviewers
    垃圾 差评 失望 坑 坑爹 后悔 恶心 无语 差 太差 很差 差劲 不好 不要 千万 再也 再也不 上当 骗子 骗人 坑人
    破烂 东西 产品 商品 购买 买 买来 收到 失败 糟糕 不值 郁闷 严重 一般 不错 喜欢 满意 希望 建议 问题 厉害
    真心 极差 好评 购物 网购 次 买到 评价 退货
    """
)
"""Words that say that something is bad, or that it was bought, but not why."""

STOP_WORDS = _words(
    """
    it it's i im ive i'm i've i'd i'll me mine myself we we're we've us you you're yours he she him they
    they're
    them there there's here who whom which what whatever when where why how and or but nor if then than as
    because since while though although until unless of at by for from in into on onto to too with within
    about after again against all also any anyone anything around away back before being between both down
    during each either else ever every few first further get gets getting got gotten go goes going gone
    went having last let like lot lots made make makes making many maybe more most much need now off once
    one ones only other others out over own per put same say says said see seem seems some someone
    something still such sure take thing things think thought through together tried try trying two under
    up upon use used using via want wanted way well whether yes yet able actually another anyway already
    almost came come comes especially done give gave given however instead keep kept know least less long
    next nearly often perhaps please probably simply sometimes somewhat soon that's till today tell told
    usually what's yeah ok okay guess bit bunch couple previously everything nothing's later
    的 了 着 过 地 得 是 又 才 再 在 有 和 与 及 跟 同 把 被 给 让 叫 使 对 对于 从 到 向 往 为 为了 以 于
    而 而且 但 但是 可 可是 不过 然而 虽然 因为 所以 如果 要是 的话 或 或者 还是 并 并且 我 我们 你 你们
    您 他 她 它 他们 它们 自己 人家 大家 别人 这 那 这个 那个 这些 那些 这样 那样 这种 那种 这里 那里 这次
    哪 什么 怎么 怎样 怎么样 为什么 多少 几 一 一个 一些 一点 一下 一样 一次 一直 一定 两 二 三 个 只 件
    款 点 块 种 些 上 下 里 中 内 外 前 后 时 时候 之 之后 以后 以前 之前 然后 后来 现在 今天 昨天 刚 刚刚
    已 已经 曾 曾经 将 要 会 能 能够 可以 可能 应该 想 去 来 说 看 用 做 弄 搞 吧 吗 呢 啊 呀 哦 嗯 啦 嘛
    哈 哎 唉 那么 这么 等 等等 其 其他 其实 就是 不是 只是 只有 只能 还有 还要 而已 什么样 起来 出来 下来
    上去 回来 觉得 感觉 知道 真的 本来 居然 竟然 结果 反正 所 此 该 每 各 本 某 由 便 却 则 若 且 呵呵
    哈哈 多 时间 比较 第一次 有些 好像 算 不知 不知道 两个 三个 每个 几个 几天 第二天 另外 里面 外面 左右 任何
    最后 看到 发现 两次 几次 多次 全是 都是 直接 经常 使用 开始 上面 下面 还没 没什么 说好 这是 那是 我的
    别的 所有 很多 需要 不到 不用
    """
)
"""Words that neither begin nor end a phrase."""
