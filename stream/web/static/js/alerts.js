// Alerts as data and in a line: which is newest, which comes first, how each is shown in a list.

import { counted, named, t, visible } from "./texts.js";
import { el, fill, part } from "./dom.js";
import { percent } from "./numbers.js";
import { productAddress } from "./search.js";
import { age, now, time } from "./times.js";

const RANK = { critical: 0, warning: 1 };

/** Alerts by id, each as it is now. A transition that is older than the one known changes nothing. */
export class Book {
  constructor() {
    this.known = new Map();
  }

  /** Takes an alert; says whether anything changed. */
  take(alert) {
    const before = this.known.get(alert.id);
    if (before && before.sequence > alert.sequence) return false;
    this.known.set(alert.id, alert);
    return true;
  }

  /** Forgets all and takes these. What came by the stream meanwhile and is newer, stays. */
  reset(alerts) {
    const before = this.known;
    this.known = new Map(alerts.map((each) => [each.id, each]));
    for (const each of this.known.values()) {
      const older = before.get(each.id);
      if (older && older.sequence > each.sequence) this.known.set(each.id, older);
    }
  }

  all() {
    return [...this.known.values()].sort((a, b) => (a.at < b.at ? 1 : a.at > b.at ? -1 : a.id < b.id ? 1 : -1));
  }

  /** What fires now, the worst first. */
  firing() {
    return this.all()
      .filter((each) => each.state === "firing" && !each.historic)
      .sort((a, b) => RANK[a.severity] - RANK[b.severity]);
  }

  resolved() {
    return this.all().filter((each) => each.state === "resolved" && !each.historic);
  }
}

/** What a badge says and how it looks: not by colour alone. */
export function standing(alert) {
  return alert.state === "firing"
    ? { kind: alert.severity, sign: alert.severity === "critical" ? "▲" : "●", text: named("severity", alert.severity) }
    : { kind: "resolved", sign: "✓", text: alert.resolution ? named("resolution", alert.resolution) : t("state.resolved") };
}

export function badge(alert) {
  const { kind, sign, text } = standing(alert);
  return el("span", { class: "badge", "data-kind": kind }, el("span", { "aria-hidden": "true" }, sign), ` ${text}`);
}

export const isSilenced = (alert) => Boolean(alert.silenced_until) && Date.parse(alert.silenced_until) > now();

/** What people did about it, as small tags. */
export function tags(alert) {
  return [
    alert.historic && el("span", { class: "tag" }, t("alert.historic")),
    alert.acknowledged && el("span", { class: "tag", title: visible(alert.acknowledged.note ?? "") },
      alert.acknowledged.author ? t("alert.acknowledged_by", { name: visible(alert.acknowledged.author) }) : t("alert.acknowledged")),
    isSilenced(alert) && el("span", { class: "tag" }, t("alert.silenced_until"), " ", time(alert.silenced_until)),
  ].filter(Boolean);
}

/** What changed, in short: 9.1% → 68.0%, and back where it is over; or negatives a day. */
export function change(alert) {
  const rate = alert.rate;
  if (alert.rule === "negative_rate" && rate) {
    return t("alert.change_rate", { from: counted("alert.per_day", Math.round(rate.usual_per_day)), to: counted("alert.per_day", Math.round(rate.per_day)) });
  }
  const shares = [alert.baseline_share, ...(alert.state === "resolved" ? [alert.peak_share] : []), alert.current_share];
  return shares.map(percent).join(" → ");
}

/** The row of an alert in a list; `line` fills it. */
export function lineNode() {
  return el("li", { class: "alert-line" },
    el("div", { class: "alert-top" }, el("span", { "data-part": "badge" }), el("a", { "data-part": "product", dir: "auto" }), el("span", { class: "muted", "data-part": "age" })),
    el("p", { class: "alert-what" }, el("strong", { "data-part": "change" }), " ", el("span", { "data-part": "rule" })),
    el("p", { class: "phrases", "data-part": "phrases" }),
    el("p", { class: "tags", "data-part": "tags" }));
}

export function line(node, alert, withPhrases = true) {
  const stamp = JSON.stringify([alert.sequence, alert.acknowledged, alert.silenced_until, isSilenced(alert)]);
  if (node.dataset.stamp === stamp) return;
  node.dataset.stamp = stamp;
  node.dataset.kind = standing(alert).kind;
  fill(part(node, "badge"), badge(alert));
  const link = part(node, "product");
  link.href = productAddress(alert.product_id);
  fill(link, visible(alert.product_id));
  fill(part(node, "age"), alert.state === "firing" ? age(alert.onset) : time(alert.at));
  part(node, "age").title = t(alert.state === "firing" ? "alert.onset" : "alert.resolved_at");
  fill(part(node, "change"), change(alert));
  fill(part(node, "rule"), `${named("rule", alert.rule)} · ${named("channel", alert.channel)}`);
  fill(part(node, "phrases"), withPhrases ? alert.phrases.slice(0, 4).map((each) => el("span", { class: "phrase", dir: "auto" }, visible(each.text))) : []);
  fill(part(node, "tags"), tags(alert));
}
