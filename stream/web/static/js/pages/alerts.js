// All alerts: filters that are in the address, a page at a time, the evidence of each on demand.

import { Book, badge, change, isSilenced, standing, tags } from "../alerts.js";
import { get } from "../api.js";
import { byId, el, fill, keyed, part, say, show } from "../dom.js";
import { evidence } from "../evidence.js";
import { failed, start } from "../frame.js";
import { askAcknowledge, askSilence, mayOperate } from "../people.js";
import { productAddress } from "../search.js";
import { counted, named, t, visible } from "../texts.js";
import { age, span, time } from "../times.js";

const PAGE = 50;
const NAMES = ["state", "severity", "product_id", "category", "rule"];

const form = byId("filters");
const book = new Book();
let next = null;
let waiting = [];

const wanted = () => Object.fromEntries(NAMES.map((name) => [name, form.elements[name].value.trim()]));
const fits = (alert) => Object.entries(wanted()).every(([name, value]) => !value || alert[name] === value);

function fromAddress() {
  const given = new URLSearchParams(location.search);
  for (const name of NAMES) form.elements[name].value = given.get(name) ?? "";
}

function toAddress() {
  const query = new URLSearchParams(Object.entries(wanted()).filter(([, value]) => value)).toString();
  history.pushState(null, "", query ? `?${query}` : location.pathname);
}

// The list.

function list() {
  const all = book.all();
  keyed(byId("alerts"), all, (each) => each.id, card, update);
  show(byId("alerts-empty"), !all.length);
  const isFiltered = Object.values(wanted()).some(Boolean);
  say(byId("alerts-empty-text"), t(isFiltered ? "alerts.none_fit" : "alerts.none"));
  show(byId("older"), next !== null);
  const firing = book.firing().length;
  say(byId("alerts-note"), all.length ? `${counted("alerts.shown", all.length)} · ${counted("active.n", firing)}` : "");
}

function card(alert) {
  const id = `evidence-${alert.id}`;
  const toggle = el("button", { type: "button", class: "small", "aria-expanded": "false", "aria-controls": id, "data-part": "toggle" }, t("alerts.evidence"));
  const node = el("li", { class: "card panel", id: alert.id },
    el("div", { class: "card-head" },
      el("span", { "data-part": "badge" }),
      el("h2", {}, el("a", { "data-part": "product", dir: "auto", href: productAddress(alert.product_id) }, visible(alert.product_id))),
      el("strong", { class: "card-change", "data-part": "change" }),
      el("span", { class: "card-actions" }, toggle, el("button", { type: "button", class: "small", "data-part": "acknowledge" }, t("acknowledge.open")), el("button", { type: "button", class: "small", "data-part": "silence" }, t("silence.open")))),
    el("p", { class: "card-facts muted", "data-part": "facts" }),
    el("p", { class: "phrases", "data-part": "phrases" }),
    el("p", { class: "tags", "data-part": "tags" }),
    el("div", { id, "data-part": "evidence", hidden: true }));
  const now = () => book.known.get(alert.id);
  toggle.addEventListener("click", () => open(node, now(), toggle.getAttribute("aria-expanded") !== "true"));
  part(node, "acknowledge").addEventListener("click", () => askAcknowledge(now(), said));
  part(node, "silence").addEventListener("click", () => askSilence({ product: alert.product_id, category: alert.category, rule: alert.rule }, said));
  return node;
}

function update(node, alert) {
  const stamp = JSON.stringify([alert.sequence, alert.acknowledged, alert.silenced_until, isSilenced(alert)]);
  if (node.dataset.stamp === stamp) return;
  node.dataset.stamp = stamp;
  node.dataset.kind = standing(alert).kind;
  fill(part(node, "badge"), badge(alert));
  fill(part(node, "change"), change(alert));
  const facts = [
    [named("rule", alert.rule)], [named("channel", alert.channel)], alert.category && [visible(alert.category)],
    [t("alert.onset"), " ", time(alert.onset)],
    alert.state === "firing" ? [t("alert.for"), " ", age(alert.onset)] : [t("alert.resolved_at"), " ", time(alert.at), " (", span(alert.duration_s), ")"],
  ].filter(Boolean);
  fill(part(node, "facts"), facts.flatMap((each, place) => (place ? [" · ", ...each] : each)));
  fill(part(node, "phrases"), alert.phrases.slice(0, 6).map((each) => el("span", { class: "phrase", dir: "auto" }, visible(each.text))));
  fill(part(node, "tags"), tags(alert));
  show(part(node, "acknowledge"), mayOperate() && alert.state === "firing" && !alert.acknowledged);
  show(part(node, "silence"), mayOperate() && alert.state === "firing" && !isSilenced(alert));
  if (!part(node, "evidence").hidden) open(node, alert, true);
}

function open(node, alert, isOpen) {
  const place = part(node, "evidence");
  part(node, "toggle").setAttribute("aria-expanded", String(isOpen));
  fill(place, isOpen ? evidence(alert) : []);
  show(place, isOpen);
}

// Reading.

let asked = 0;

async function read() {
  asked += 1;
  const mine = asked;
  const found = await get("alerts", { ...wanted(), limit: PAGE });
  if (mine !== asked) return;
  book.known.clear();
  book.reset(found.alerts);
  next = found.next;
  waiting = [];
  fresh();
  list();
}

async function older() {
  const found = await get("alerts", { ...wanted(), limit: PAGE, before: next });
  for (const each of found.alerts) book.take(each);
  next = found.next;
  list();
}

const said = () => read().catch(failed);

/** New alerts wait for a press while somebody reads further down: what is read must not move away. */
function fresh() {
  show(byId("fresh"), waiting.length > 0);
  say(byId("fresh-text"), counted("alerts.new", waiting.length));
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  toAddress();
  said();
});
form.addEventListener("reset", () => setTimeout(() => {
  for (const name of NAMES) form.elements[name].value = "";
  toAddress();
  said();
}));
for (const each of form.querySelectorAll("select")) each.addEventListener("change", () => form.requestSubmit());
addEventListener("popstate", () => {
  fromAddress();
  said();
});
byId("older").addEventListener("click", () => older().catch(failed));
byId("fresh-show").addEventListener("click", () => {
  for (const each of waiting) book.take(each);
  waiting = [];
  fresh();
  list();
  scrollTo({ top: 0 });
});

fromAddress();
let isFirst = true;

await start({
  async refresh() {
    await read();
    const named = isFirst && location.hash ? document.getElementById(decodeURIComponent(location.hash.slice(1))) : null;
    isFirst = false;
    if (named?.classList.contains("card")) {
      open(named, book.known.get(named.id), true);
      named.scrollIntoView();
    }
  },
  listeners: {
    alert(alert) {
      const isKnown = book.known.has(alert.id);
      if (!isKnown && !fits(alert)) return;
      if (isKnown && !fits(alert)) {
        book.known.delete(alert.id);
        return list();
      }
      if (!isKnown && scrollY > 200) {
        waiting = [...waiting.filter((each) => each.id !== alert.id), alert];
        return fresh();
      }
      if (book.take(alert)) list();
    },
    silences: said,
  },
});
