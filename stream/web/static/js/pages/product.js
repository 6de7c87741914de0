// A product: its counters, its timeline, what its last alert stands on, its alerts so far, and what people say to it.

import { Book, badge, change, isSilenced, standing, tags } from "../alerts.js";
import { get } from "../api.js";
import { chartIn, marksOf } from "../chart.js";
import { byId, el, fill, keyed, say, show } from "../dom.js";
import { evidence } from "../evidence.js";
import { failed, start, switched } from "../frame.js";
import { count, exact, interval, percent, sentiment } from "../numbers.js";
import { askAcknowledge, askSilence, isOn, mayOperate, silenceLine } from "../people.js";
import { counted, named, t, visible } from "../texts.js";
import { span, time } from "../times.js";

const SERIES_MS = 30_000;
const HISTORY = 50;

const product = new URLSearchParams(location.search).get("id") ?? "";
const chart = chartIn("timeline-chart");
const book = new Book();
let series = null;
let seriesWindow = "1h";
let bands = [];
/** When each alert fired, by id: an alert that has resolved no longer says. */
const fired = new Map();

say(byId("product-name"), visible(product) || t("product.none"));
document.title = `${visible(product)} · Reviewpulse`;

// Counters.

const WINDOWS = ["5m", "1h", "24h", "7d", "all"];

function counters(products) {
  const known = WINDOWS.map((window) => products.find((each) => each.window === window)).filter(Boolean);
  keyed(byId("counters"), known, (each) => each.window,
    (each) => el("tr", {}, el("th", { scope: "row" }, t(`span.${each.window}`)), [1, 2, 3, 4].map(() => el("td", { class: "number" })), el("td", { class: "number bar-cell" })),
    (node, each) => {
      const [, events, negative, neutral, positive, share] = node.children;
      say(events, count(each.events));
      say(negative, count(each.negative));
      say(neutral, count(each.neutral));
      say(positive, count(each.positive));
      say(share, percent(each.negative_share));
      share.style.setProperty("--share", each.negative_share ?? 0);
      share.title = `${t("counts.sentiment")} ${sentiment(each.mean_sentiment)}`;
    });
  const all = known[known.length - 1];
  if (!all) return;
  if (!all.last_event_time) say(byId("seen"), t("product.unseen"));
  else fill(byId("seen"), t("product.first"), " ", time(all.first_event_time), " · ", t("product.last"), " ", time(all.last_event_time), " · ", counted("product.late", all.late));
}

function baseline(baselines) {
  bands = baselines.map((each) => ({ low: each.interval[0], high: each.interval[1] }));
  fill(byId("baseline"), baselines.length
    ? baselines.map((each) => el("div", {}, el("dt", {}, named("channel", each.channel)), el("dd", {}, `${percent(each.share)} (${interval(each.interval)})`, " ", el("span", { class: "muted" }, t("baseline.events", { n: count(Math.round(each.events)) })))))
    : el("div", {}, el("dd", { class: "muted" }, t("baseline.none"))));
}

// The timeline.

function timeline() {
  if (series) chart.draw({ ...series, bands, marks: marksOf(book.all().map((each) => ({ ...each, fired_at: fired.get(each.id) }))) });
}

async function readSeries() {
  const window = seriesWindow;
  const found = await get("series", { window, product_id: product });
  if (window !== seriesWindow) return;
  series = found;
  timeline();
}

/** Puts newer points in the place of those known, or after them. */
function addTail(tail) {
  if (!series || seriesWindow !== (tail.window ?? "1h") || !tail.points?.length) return;
  const first = Date.parse(tail.points[0].at);
  const length = series.points.length;
  series.points = [...series.points.filter((each) => Date.parse(each.at) < first), ...tail.points].slice(-length);
  timeline();
}

// Alerts.

function alerts() {
  const all = book.all();
  const firing = book.firing();
  const latest = firing[0] ?? all.find((each) => !each.historic) ?? all[0];
  state(firing);
  show(byId("evidence-empty"), !latest);
  showEvidence(latest);
  show(byId("history-empty"), !all.length);
  keyed(byId("history"), all, (each) => each.id, () => el("tr"), (node, each) => {
    const stamp = JSON.stringify([each.sequence, each.acknowledged, each.silenced_until, isSilenced(each)]);
    if (node.dataset.stamp === stamp) return;
    node.dataset.stamp = stamp;
    fill(node,
      el("td", {}, badge(each)),
      el("td", {}, el("a", { href: `/alerts?product_id=${encodeURIComponent(product)}#${encodeURIComponent(each.id)}` }, named("rule", each.rule))),
      el("td", {}, named("channel", each.channel)), el("td", {}, time(each.onset)), el("td", {}, time(each.at)), el("td", { class: "number" }, span(each.duration_s)),
      el("td", { class: "number" }, percent(each.peak_share)), el("td", { class: "number" }, `${exact(each.negatives)} / ${exact(each.events)}`), el("td", { class: "tags" }, tags(each)));
  });
  timeline();
}

let shown = "";

function showEvidence(alert) {
  const stamp = alert ? `${alert.id} ${alert.sequence}` : "";
  if (stamp === shown) return;
  shown = stamp;
  fill(byId("evidence"), alert ? [el("p", { class: "evidence-head" }, badge(alert), " ", el("strong", {}, change(alert)), " ", el("span", { class: "muted" }, named("rule", alert.rule))), evidence(alert)] : []);
  if (alert?.category) say(byId("category"), visible(alert.category));
}

let toAcknowledge = null;

function state(firing) {
  const node = byId("product-state");
  show(node, true);
  const { kind, sign, text } = firing[0] ? standing(firing[0]) : { kind: "calm", sign: "✓", text: t("product.calm") };
  node.dataset.kind = kind;
  fill(node, el("span", { "aria-hidden": "true" }, sign), ` ${text}`);
  toAcknowledge = firing.find((each) => !each.acknowledged) ?? null;
  show(byId("acknowledge"), mayOperate() && toAcknowledge !== null);
  say(byId("product-note"), firing.length ? firing.map((each) => `${named("rule", each.rule)} (${named("channel", each.channel)}): ${change(each)}`).join(" · ") : t("product.calm_note"));
}

async function readAlerts() {
  const found = await get("alerts", { product_id: product, limit: HISTORY });
  book.reset(found.alerts);
  const unknown = book.all().slice(0, 8).filter((each) => !fired.has(each.id) && each.sequence > 1);
  for (const each of book.all()) if (each.sequence === 1) fired.set(each.id, each.at);
  await Promise.all(unknown.map(async ({ id }) => {
    const { alerts: story } = await get("alerts/transitions", { id });
    const first = story.find((each) => each.sequence === 1);
    if (first) fired.set(id, first.at);
  }));
  alerts();
}

// Silences.

async function readSilences() {
  const { silences } = await get("silences");
  showSilences(silences);
}

function showSilences(silences) {
  const latest = book.all()[0];
  const mine = silences.filter((each) => isOn(each) && (each.everything || each.product === product || (each.pattern && matches(each.pattern)) || (!each.product && !each.pattern && each.category && each.category === latest?.category)));
  keyed(byId("silences"), mine, (each) => each.id, (each) => silenceLine(each, said), () => {});
  show(byId("silences"), mine.length > 0);
}

/** A glob as the server reads it: `*`, `?` and `[...]`. */
function matches(pattern) {
  const text = pattern.replace(/[.+^${}()|\\]/g, "\\$&").replaceAll("*", ".*").replaceAll("?", ".").replaceAll("[!", "[^");
  try {
    return new RegExp(`^${text}$`, "su").test(product);
  } catch {
    return false;
  }
}

const said = () => Promise.all([readSilences(), readAlerts()]).catch(failed);

byId("silence").addEventListener("click", () => {
  const latest = book.firing()[0] ?? book.all()[0];
  askSilence({ product, category: latest?.category, rule: latest?.rule }, said);
});
byId("acknowledge").addEventListener("click", () => toAcknowledge && askAcknowledge(toAcknowledge, said));
switched(byId("timeline-window"), (value) => {
  seriesWindow = value;
  readSeries().catch(failed);
});
setInterval(() => {
  // The stream carries the last hour's newest minutes.
  if (seriesWindow !== "1h" && !document.hidden && document.body.dataset.link === "live") readSeries().catch(failed);
}, SERIES_MS);

if (product) {
  await start({
    async refresh() {
      show(byId("silence"), mayOperate());
      show(byId("may-not"), !mayOperate());
      const [found, usual] = await Promise.all([get("counters", { product_id: product }), get("baseline", { product_id: product })]);
      counters(found.products);
      baseline(usual.baselines);
      await Promise.all([readSeries(), readAlerts()]);
      await readSilences();
    },
    listeners: {
      product(update) {
        if (update.counters) counters(update.counters);
        if (update.series_tail) addTail(update.series_tail);
      },
      alert(alert) {
        if (alert.product_id !== product || !book.take(alert)) return;
        if (alert.sequence === 1) fired.set(alert.id, alert.at);
        alerts();
      },
      silences: said,
    },
  }, `?product_id=${encodeURIComponent(product)}`);
} else {
  show(byId("silence"), false);
}
