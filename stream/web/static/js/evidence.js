// What an alert stands on: figures with their intervals, phrases, sentences, quotes.

import { el, svg } from "./dom.js";
import { exact, interval, percent, roundPercent } from "./numbers.js";
import { counted, named, t, visible } from "./texts.js";
import { span, time } from "./times.js";

const LONG = 400;

export function evidence(alert) {
  return el("div", { class: "evidence" },
    el("div", { class: "evidence-figures" }, comparison(alert), facts(alert)),
    el("div", { class: "evidence-words" }, said(alert), phrases(alert)),
    quotes(alert));
}

// Before and since, on one scale.

function comparison(alert) {
  const text = t("evidence.compared", {
    from: percent(alert.baseline_share), from_interval: interval(alert.baseline_interval),
    peak: percent(alert.peak_share), to: percent(alert.current_share), to_interval: interval(alert.current_interval),
  });
  return el("figure", { class: "comparison" },
    el("figcaption", {}, t("evidence.share")),
    scale(text, [
      ["usual", t("evidence.before"), alert.baseline_share, alert.baseline_interval],
      ["peak", t("evidence.peak"), alert.peak_share, [alert.peak_share, alert.peak_share]],
      [alert.state === "firing" ? alert.severity : "resolved", t(alert.state === "firing" ? "evidence.since" : "evidence.end"), alert.current_share, alert.current_interval],
    ]),
    alert.rate && rate(alert.rate));
}

function scale(text, rows) {
  return el("div", { class: "scale", role: "img", "aria-label": text },
    rows.map(([kind, name, share, ends]) =>
      el("div", { class: "scale-row", "data-kind": kind, "aria-hidden": "true" },
        el("span", { class: "scale-name" }, name),
        svg("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none", class: "scale-bar" },
          svg("rect", { class: "scale-base", x: 0, y: 4.5, width: 100, height: 1 }),
          svg("rect", { class: "scale-range", x: ends[0] * 100, y: 1.5, width: Math.max(0.6, (ends[1] - ends[0]) * 100), height: 7 }),
          svg("rect", { class: "scale-point", x: Math.min(99.2, share * 100 - 0.4), y: 0, width: 0.8, height: 10 })),
        el("strong", {}, roundPercent(share)))));
}

function rate(known) {
  const perDay = (value) => counted("alert.per_day", Math.round(value));
  return el("p", { class: "muted small-print" }, t("evidence.rate", { from: perDay(known.usual_per_day), to: perDay(known.per_day) }));
}

function facts(alert) {
  const pairs = [
    ["alert.rule", named("rule", alert.rule)],
    ["alert.channel", named("channel", alert.channel)],
    alert.category && ["alert.category", visible(alert.category)],
    ["alert.onset", time(alert.onset)],
    [alert.state === "firing" ? "alert.last" : "alert.resolved_at", time(alert.at)],
    ["alert.duration", span(alert.duration_s)],
    ["alert.negatives", t("evidence.of", { part: exact(alert.negatives), all: exact(alert.events) })],
    ["alert.authors", exact(alert.distinct_authors)],
    ["alert.budget", counted("alert.run_length", Math.round(alert.false_alarm_run_length))],
    ["alert.model", visible(alert.model_version)],
    alert.priors && ["alert.priors", visible(alert.priors)],
    ["alert.id", el("code", {}, visible(alert.id))],
  ].filter(Boolean);
  return el("dl", { class: "pairs" }, pairs.map(([name, value]) => el("div", {}, el("dt", {}, t(name)), el("dd", {}, value))));
}

function said(alert) {
  if (!alert.summary.length) return null;
  return el("div", {},
    el("h3", {}, t("evidence.summary")),
    el("ul", { class: "summary" }, alert.summary.map((each) =>
      el("li", {}, long(each.text), " ", el("span", { class: "muted" }, counted("evidence.said_by", each.complaints))))));
}

function phrases(alert) {
  if (!alert.phrases.length) return null;
  return el("div", {},
    el("h3", {}, t("evidence.phrases")),
    el("table", { class: "phrase-table" },
      el("caption", { class: "unseen" }, t("evidence.phrases")),
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, t("evidence.phrase")), el("th", { scope: "col", class: "number" }, t("evidence.complaints")), el("th", { scope: "col", class: "number" }, t("evidence.share_of")))),
      el("tbody", {}, alert.phrases.map((each) =>
        el("tr", {}, el("th", { scope: "row", class: "name", dir: "auto" }, visible(each.text)), el("td", { class: "number" }, exact(each.complaints)),
          el("td", { class: "number bar-cell", style: { "--share": each.share } }, roundPercent(each.share)))))));
}

function quotes(alert) {
  if (!alert.quotes.length) return null;
  return el("div", { class: "evidence-quotes" },
    el("h3", {}, t("evidence.quotes")),
    el("p", { class: "muted small-print" }, t("evidence.masked")),
    el("ul", { class: "quotes" }, alert.quotes.map((each) =>
      el("li", {}, el("blockquote", { dir: "auto" }, long(each.text)),
        el("p", { class: "muted" }, time(each.event_time), " · ", t("evidence.sure", { share: roundPercent(each.p_negative) }))))));
}

/** A stranger's text; a long one is cut, and a button shows the rest. */
export function long(text) {
  const whole = visible(text);
  const chars = Array.from(whole);
  if (chars.length <= LONG) return el("bdi", { class: "stranger" }, whole);
  const node = el("bdi", { class: "stranger" }, `${chars.slice(0, LONG).join("")}…`);
  const more = el("button", { type: "button", class: "link", "aria-expanded": "false", onclick: () => {
    const isOpen = more.getAttribute("aria-expanded") === "true";
    node.textContent = isOpen ? `${chars.slice(0, LONG).join("")}…` : whole;
    more.setAttribute("aria-expanded", String(!isOpen));
    more.textContent = isOpen ? counted("evidence.more", chars.length) : t("evidence.less");
  } }, counted("evidence.more", chars.length));
  return el("span", {}, node, " ", more);
}
