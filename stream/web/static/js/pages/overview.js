// The overview: figures, the share of negatives, what fires, the leaders, how the pipeline is.

import { Book, line, lineNode } from "../alerts.js";
import { get } from "../api.js";
import { chartIn } from "../chart.js";
import { byId, el, fill, keyed, part, say, show } from "../dom.js";
import { failed, start, switched } from "../frame.js";
import { NONE, count, duration, exact, percent, rate, sentiment } from "../numbers.js";
import { productAddress } from "../search.js";
import { sparkline } from "../sparkline.js";
import { counted, named, t, visible } from "../texts.js";

const LEADERS = 10;
const LEAST_EVENTS = 5;
const ACTIVE_SHOWN = 8;
const LATELY_SHOWN = 3;
/** How old a series, a sparkline, or leaders in another order than the stream's may be. */
const SERIES_MS = 15_000;
const SPARK_MS = 60_000;
const LEADERS_MS = 10_000;

const book = new Book();
const chart = chartIn("shares-chart");
let seriesWindow = "1h";
let leadersWindow = "1h";
let leadersBy = "negative_share";

// Figures.

function figures(overview) {
  figure("events_per_s", rate(overview.events_per_s), counted("figure.in_24h", overview.events["24h"] ?? 0, { n: count(overview.events["24h"]) }));
  figure("lag", count(overview.lag), overview.lag === null ? "" : overview.lag ? t("figure.events_wait") : t("figure.up_to_date"));
  figure("latency", duration(overview.latency_p50_ms), t("figure.p99", { value: duration(overview.latency_p99_ms) }));
  for (const window of ["5m", "1h", "24h"]) {
    figure(`share_${window}`, percent(overview.negative_share[window]), counted("figure.of_events", overview.events[window] ?? 0, { n: count(overview.events[window]) }));
  }
  figure("products", count(overview.products), counted("figure.workers", overview.workers.length));
  figure("firing", exact(overview.firing), overview.critical ? counted("figure.critical", overview.critical) : t("figure.no_critical"), overview.critical ? "critical" : overview.firing ? "warning" : "calm");
}

function figure(name, value, note, kind = "") {
  const node = document.querySelector(`[data-figure="${name}"]`);
  say(node.querySelector(".value"), value);
  say(node.querySelector(".note"), note);
  node.dataset.kind = kind;
}

// The pipeline.

function pipeline(overview) {
  show(byId("first-steps"), overview.redis_ok && !overview.products);
  show(byId("no-workers"), !overview.workers.length);
  const states = [["redis", overview.redis_ok], ["kafka", overview.kafka_ok], ["workers", overview.workers.length > 0]];
  keyed(byId("health"), states, ([name]) => name, ([name]) => el("li", {}, el("i", { "aria-hidden": "true" }), el("span", {}, t(`health.${name}`)), " ", el("strong")), (node, [, isWell]) => {
    node.dataset.ok = String(isWell);
    say(node.querySelector("strong"), t(isWell ? "health.ok" : "health.away"));
  });
  keyed(byId("workers"), overview.workers, (each) => each.name, () => el("li", {}, el("strong", { "data-part": "name" }), el("span", { "data-part": "rate" }), el("span", { class: "muted", "data-part": "more" })), (node, each) => {
    say(part(node, "name"), visible(each.name));
    say(part(node, "rate"), t("figure.per_s", { n: rate(each.events_per_s) }));
    const partitions = Array.isArray(each.partitions) ? each.partitions.length : each.partitions;
    say(part(node, "more"), `${visible(each.model_version)} · ${visible(each.provider)} · ${counted("pipeline.partitions", partitions)}`);
  });
  totals(overview.totals);
}

const OUTCOMES = ["counted", "dead", "skipped", "duplicate", "late", "missing"];

function totals(byChannel) {
  const channels = Object.keys(byChannel);
  const head = byId("totals-head");
  if (head.dataset.channels !== channels.join()) {
    head.dataset.channels = channels.join();
    fill(head, el("th", { scope: "col" }, t("totals.outcome")), channels.map((each) => el("th", { scope: "col", class: "number" }, named("channel", each))));
    fill(byId("totals"));
  }
  keyed(byId("totals"), channels.length ? OUTCOMES : [], (each) => each, (each) => el("tr", {}, el("th", { scope: "row" }, t(`totals.${each}`)), channels.map(() => el("td", { class: "number" }))), (node, each) => {
    channels.forEach((channel, place) => say(node.children[place + 1], exact(byChannel[channel][each] ?? 0)));
  });
}

// What fires.

function active() {
  const firing = book.firing();
  const lately = book.resolved().slice(0, LATELY_SHOWN);
  say(byId("active-count"), firing.length ? exact(firing.length) : "");
  keyed(byId("active-list"), firing.slice(0, ACTIVE_SHOWN), (each) => each.id, lineNode, line);
  show(byId("active-empty"), !firing.length);
  keyed(byId("lately-list"), lately, (each) => each.id, lineNode, (node, each) => line(node, each, false));
  show(byId("lately"), lately.length > 0);
}

// Leaders.

const trends = new Map();

function leaders(products) {
  show(byId("leaders-empty"), !products.length);
  keyed(byId("leaders-rows"), products, (each) => each.product_id, leaderNode, leader);
  sparks(products);
}

function leaderNode(product) {
  return el("tr", {},
    el("th", { scope: "row", class: "name" }, el("a", { href: productAddress(product.product_id), dir: "auto" }, visible(product.product_id))),
    el("td", { class: "number" }), el("td", { class: "number" }), el("td", { class: "number bar-cell share-column" }), el("td", { class: "number less" }), el("td", { class: "spark-column" }));
}

function leader(node, product) {
  const [, events, negative, share, mean] = node.children;
  say(events, count(product.events));
  say(negative, count(product.negative));
  say(share, percent(product.negative_share));
  share.style.setProperty("--share", product.negative_share ?? 0);
  say(mean, sentiment(product.mean_sentiment));
}

let isDrawing = false;

/** Draws the sparklines one after another, each at most once a minute. */
async function sparks(products) {
  if (isDrawing) return;
  isDrawing = true;
  try {
    for (const { product_id, trend } of products) {
      const known = trends.get(product_id);
      if (!trend && known && Date.now() - known.read < SPARK_MS) {
        spark(product_id, known);
        continue;
      }
      const points = trend ?? (await get("series", { window: "1h", product_id })).points;
      trends.set(product_id, { read: Date.now(), points });
      spark(product_id, trends.get(product_id));
    }
  } catch (error) {
    failed(error);
  } finally {
    isDrawing = false;
  }
}

function spark(id, { points, read }) {
  const row = [...byId("leaders-rows").children].find((each) => each.dataset.key === id);
  const cell = row?.lastElementChild;
  if (!cell || cell.dataset.read === String(read)) return;
  cell.dataset.read = read;
  fill(cell, sparkline(points));
}

const isStreams = () => leadersWindow === "1h" && leadersBy === "negative_share";

async function readLeaders() {
  const asked = `${leadersWindow} ${leadersBy}`;
  const found = await get("leaders", { window: leadersWindow, by: leadersBy, min_events: LEAST_EVENTS, limit: LEADERS });
  if (asked === `${leadersWindow} ${leadersBy}`) leaders(found.products);
}

async function readSeries() {
  const window = seriesWindow;
  const series = await get("series", { window });
  if (window === seriesWindow) chart.draw(series);
}

/** Again and again while somebody looks and the stream is there. */
function every(ms, read, isWanted = () => true) {
  setInterval(() => {
    if (!document.hidden && document.body.dataset.link === "live" && isWanted()) read().catch(failed);
  }, ms);
}

switched(byId("shares-window"), (value) => {
  seriesWindow = value;
  readSeries().catch(failed);
});
switched(byId("leaders-window"), (value) => {
  leadersWindow = value;
  readLeaders().catch(failed);
});
byId("leaders-by").addEventListener("change", (event) => {
  leadersBy = event.target.value;
  readLeaders().catch(failed);
});
every(SERIES_MS, readSeries);
every(LEADERS_MS, readLeaders, () => !isStreams());

await start({
  async refresh() {
    const [overview, firing, resolved] = await Promise.all([
      get("overview"),
      get("alerts", { state: "firing", limit: 200 }),
      get("alerts", { state: "resolved", limit: 20 }),
    ]);
    figures(overview);
    pipeline(overview);
    book.reset([...firing.alerts, ...resolved.alerts]);
    active();
    await Promise.all([readSeries(), readLeaders()]);
  },
  listeners: {
    overview(overview) {
      figures(overview);
      pipeline(overview);
    },
    leaders({ window, by, products }) {
      if (isStreams() && window === "1h" && (by ?? "negative_share") === "negative_share") leaders(products.slice(0, LEADERS));
    },
    alert(alert) {
      if (book.take(alert)) active();
    },
    async silences() {
      const firing = await get("alerts", { state: "firing", limit: 200 });
      book.reset([...firing.alerts, ...book.resolved()]);
      active();
    },
  },
});
