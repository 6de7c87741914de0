// The share of negatives over time, above the number of events: uPlot, with a band for what is usual, lines where
// alerts begin and end, a sentence that says the same, and a table of all points.

import { byId, el, fill, say } from "./dom.js";
import { count, exact, percent, roundPercent, sentiment } from "./numbers.js";
import { look } from "./frame.js";
import { t } from "./texts.js";
import { bucket, day, minute, moment, span, utc, zone } from "./times.js";

const uPlot = globalThis.uPlot;
const VOLUME_PART = 0.28;
const LEAST_TOP = 0.2;
/** A share is drawn over as many buckets as make it one of so many events, in the middle of them: of three events it
 * would be noise. */
const ENOUGH = 20;
const GROUPS = [1, 2, 3, 5, 10];

/** Colours of the lines, the more telling kind first. */
const INK = { firing: "--critical", resolved: "--good", onset: "--muted" };

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** A chart in a node. `draw` shows other points in it. */
export class ShareChart {
  constructor(node) {
    this.node = node;
    this.height = Number(node.dataset.height);
    this.plot = null;
    this.canvas = el("div", { class: "chart-canvas", role: "img", "aria-label": t("chart.loading") });
    this.note = el("p", { class: "chart-note muted" }, t("chart.loading"));
    this.legend = el("p", { class: "legend", "aria-hidden": "true" });
    this.rows = el("tbody");
    this.table = el("details", { class: "chart-table" }, el("summary", {}, t("chart.table")), el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": t("chart.table") },
      el("table", {}, el("caption", { class: "unseen" }, t("chart.table")),
        el("thead", {}, el("tr", {}, ["chart.time", "counts.events", "counts.negative", "counts.neutral", "counts.positive", "counts.share", "counts.sentiment"].map((key, place) =>
          el("th", { scope: "col", class: place ? "number" : null }, t(key))))),
        this.rows)));
    this.table.addEventListener("toggle", () => this.#tabulate());
    fill(node, this.canvas, this.legend, this.note, this.table);
    this.data = { points: [], bands: [], marks: [] };
    look.addEventListener("theme", () => this.#build());
    new ResizeObserver(() => this.#resize()).observe(node);
  }

  /**
   * @param data {points: a series' points; width_s; bands: [{low, high}]; marks: [{ms, kind: "onset" | "firing" |
   *   "resolved", text}]}.
   */
  draw(data) {
    this.data = { bands: [], marks: [], ...data };
    const events = this.data.points.map((each) => each.negative + each.neutral + each.positive);
    this.group = groupOf(events);
    this.columns = [this.data.points.map((each) => Date.parse(each.at) / 1000), events, this.#shares(events)];
    this.top = Math.min(1, Math.max(LEAST_TOP, ...this.columns[2].map((each) => (each ?? 0) * 1.1), ...this.data.bands.map((each) => each.high * 1.15)));
    this.most = Math.max(1, ...events);
    const shape = `${this.data.points.length} ${this.group}`;
    if (this.plot && shape === this.shape) this.plot.setData(this.columns);
    else this.#build();
    this.shape = shape;
    this.#describe();
    if (this.table.open) this.#tabulate();
  }

  /** Groups begin at round times, so that they stay what they are when time goes on; a share stands where most of its
   * group's events are. */
  #shares(events) {
    const { points, width_s: width } = this.data;
    const shares = points.map(() => undefined);
    let start = 0;
    for (let place = 1; place <= points.length; place += 1) {
      const isLast = place === points.length;
      if (!isLast && Math.round(Date.parse(points[place].at) / 1000 / width) % this.group) continue;
      let [all, negative, weighed] = [0, 0, 0];
      for (let each = start; each < place; each += 1) {
        all += events[each];
        negative += points[each].negative;
        weighed += events[each] * each;
      }
      shares[all ? Math.round(weighed / all) : start] = all ? negative / all : null;
      start = place;
    }
    return shares;
  }

  #build() {
    if (!this.columns) return;
    this.plot?.destroy();
    fill(this.canvas);
    this.plot = new uPlot(this.#options(), this.columns, this.canvas);
    this.plot.root.setAttribute("aria-hidden", "true");
  }

  #resize() {
    const width = this.canvas.clientWidth;
    if (this.plot && width && width !== this.plot.width) this.plot.setSize({ width, height: this.height });
  }

  #options() {
    const [text, grid, line, volume] = ["--muted", "--rule", "--negative", "--volume"].map(colour);
    const font = `11px ${getComputedStyle(document.body).fontFamily}`;
    const axis = { stroke: text, font, grid: { stroke: grid, width: 1 }, ticks: { show: false } };
    return {
      width: this.canvas.clientWidth || 600,
      height: this.height,
      legend: { show: false },
      cursor: { y: false, points: { size: 7 }, drag: { setScale: false, x: false, y: false } },
      padding: [14, 8, 0, 0],
      scales: {
        x: { time: true, range: () => this.#span() },
        share: { range: () => [-(this.top * VOLUME_PART) / (1 - VOLUME_PART), this.top] },
        events: { range: () => [0, this.most / (VOLUME_PART * 0.8)] },
      },
      axes: [
        { ...axis, size: 26, values: (_, ticks) => ticks.map((each) => (this.data.width_s >= 21_600 || isMidnight(each) ? day(each * 1000) : minute(each * 1000))), space: 64 },
        { ...axis, scale: "share", size: 44, space: 34, values: (_, ticks) => ticks.map((each) => (each === null ? "" : roundPercent(each))), filter: aboveZero, grid: { ...axis.grid, filter: aboveZero } },
      ],
      series: [
        {},
        { scale: "events", fill: volume, width: 0, points: { show: false }, paths: uPlot.paths.bars({ size: [0.82, 40, 1] }) },
        { scale: "share", stroke: line, width: 1.75, spanGaps: false, points: { show: this.data.points.length / this.group < 40, size: 4, fill: line } },
      ],
      hooks: {
        drawClear: [(plot) => this.#bands(plot)],
        draw: [(plot) => this.#marks(plot)],
        setCursor: [(plot) => this.#read(plot.cursor.idx)],
      },
    };
  }

  /** From half a bucket before the first to half a bucket after the last. */
  #span() {
    const times = this.columns[0];
    const half = (this.data.width_s ?? 60) / 2;
    return times.length ? [times[0] - half, times[times.length - 1] + half] : [0, 1];
  }

  #bands(plot) {
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.fillStyle = colour("--band");
    for (const { low, high } of this.data.bands) {
      const [top, bottom] = [plot.valToPos(Math.min(high, this.top), "share", true), plot.valToPos(low, "share", true)];
      ctx.fillRect(bbox.left, top, bbox.width, Math.max(1, bottom - top));
    }
    ctx.restore();
  }

  #marks(plot) {
    const { ctx, bbox } = plot;
    const scale = devicePixelRatio;
    const marks = this.data.marks
      .map((each) => ({ ...each, x: Math.round(plot.valToPos(each.ms / 1000, "x", true)) }))
      .filter(({ x }) => x >= bbox.left && x <= bbox.left + bbox.width);
    ctx.save();
    ctx.font = `${11 * scale}px ${getComputedStyle(document.body).fontFamily}`;
    ctx.textBaseline = "top";
    ctx.lineWidth = scale * 1.25;
    for (const { x, kind } of marks) {
      ctx.strokeStyle = colour(INK[kind]);
      ctx.setLineDash(kind === "onset" ? [4 * scale, 4 * scale] : []);
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
    }
    this.#labels(plot, marks, scale);
    ctx.restore();
  }

  /** A word at each line, the more telling first, in two rows; where there is no room, or the same word is close, none. */
  #labels({ ctx, bbox }, marks, scale) {
    const taken = [[], []];
    const rank = Object.keys(INK);
    for (const { x, kind, text } of [...marks].sort((a, b) => rank.indexOf(a.kind) - rank.indexOf(b.kind))) {
      const width = ctx.measureText(text).width;
      const isLeft = x + width + 6 * scale > bbox.left + bbox.width;
      const [from, to] = isLeft ? [x - width - 4 * scale, x] : [x + 4 * scale, x + width + 8 * scale];
      if (taken.flat().some((each) => each.text === text && each.from < to + 20 * scale && from < each.to + 20 * scale)) continue;
      const row = taken.findIndex((row) => row.every((each) => each.to < from || to < each.from));
      if (row === -1) continue;
      taken[row].push({ from, to, text });
      ctx.fillStyle = colour(INK[kind]);
      ctx.fillText(text, from, row ? bbox.top + 3 * scale : Math.max(0, bbox.top - 13 * scale));
    }
  }

  // What the chart says, for those who point at it and those who do not see it.

  #read(place) {
    const point = this.data.points[place];
    if (!point) return this.#key();
    const events = this.columns[1][place];
    const share = events ? point.negative / events : null;
    fill(this.legend, el("b", {}, bucket(Date.parse(point.at))), el("span", { class: "key-share" }, `${t("counts.share")} ${percent(share)}`),
      el("span", { class: "key-volume" }, `${t("counts.events")} ${count(events)}`));
  }

  #key() {
    fill(this.legend, el("span", { class: "key-share" }, this.group === 1 ? t("counts.share") : t("chart.over", { span: span(this.group * this.data.width_s) })), el("span", { class: "key-volume" }, t("counts.events")),
      this.data.bands.length ? el("span", { class: "key-band" }, t("chart.band")) : null);
  }

  #describe() {
    this.#key();
    const shares = this.columns[2].flatMap((share, place) => (share === null || share === undefined ? [] : [{ share, at: Date.parse(this.data.points[place].at) }]));
    this.node.toggleAttribute("data-empty", !shares.length);
    if (!shares.length) {
      say(this.note, t("chart.empty"));
      this.canvas.setAttribute("aria-label", t("chart.empty"));
      return;
    }
    const highest = shares.reduce((a, b) => (b.share > a.share ? b : a));
    const lowest = shares.reduce((a, b) => (b.share < a.share ? b : a));
    const last = shares[shares.length - 1];
    const text = t("chart.says", {
      last: percent(last.share), last_at: bucket(last.at), high: percent(highest.share), high_at: bucket(highest.at), low: percent(lowest.share), low_at: bucket(lowest.at),
    });
    const events = this.columns[1].reduce((a, b) => a + b, 0);
    const marks = this.data.marks.map((each) => `${each.text} ${moment(each.ms)}`).join(", ");
    const label = `${text} ${t("chart.events", { n: exact(events) })}${marks ? ` ${marks}.` : ""}`;
    if (this.canvas.getAttribute("aria-label") !== label) this.canvas.setAttribute("aria-label", label);
    say(this.note, `${text} ${t("chart.zone", { zone: zone() })}`);
  }

  #tabulate() {
    if (!this.table.open || !this.columns) return;
    fill(this.rows, this.data.points.map((point, place) => {
      const ms = Date.parse(point.at);
      return el("tr", {},
        el("th", { scope: "row" }, el("time", { datetime: point.at, title: utc(ms) }, bucket(ms))),
        [exact(this.columns[1][place]), exact(point.negative), exact(point.neutral), exact(point.positive), percent(this.columns[1][place] ? point.negative / this.columns[1][place] : null), sentiment(point.mean_sentiment)].map((each) => el("td", { class: "number" }, each)));
    }).reverse());
  }
}

/** How many buckets a share is drawn over, by their median number of events. */
function groupOf(events) {
  const some = events.filter((each) => each > 0).sort((a, b) => a - b);
  const median = some[some.length >> 1] ?? 0;
  return GROUPS.find((each) => each * median >= ENOUGH) ?? (median ? GROUPS[GROUPS.length - 1] : 1);
}

/** Below zero is where the events are drawn. */
const aboveZero = (_, ticks) => ticks.map((each) => (each >= 0 ? each : null));

const isMidnight = (seconds) => new Date(seconds * 1000).getHours() === 0 && new Date(seconds * 1000).getMinutes() === 0;

/** Where alerts of a product lie on its timeline. */
export function marksOf(alerts) {
  return alerts.slice(0, 8).flatMap((each) => [
    { ms: Date.parse(each.onset), kind: "onset", text: t("mark.onset") },
    each.fired_at && { ms: Date.parse(each.fired_at), kind: "firing", text: t("mark.firing") },
    each.state === "firing" && !each.fired_at && { ms: Date.parse(each.at), kind: "firing", text: t("mark.firing") },
    each.state === "resolved" && { ms: Date.parse(each.at), kind: "resolved", text: t("mark.resolved") },
  ]).filter(Boolean).sort((a, b) => a.ms - b.ms);
}

export const chartIn = (id) => new ShareChart(byId(id));
