// What every page has: the connection's state, language, theme, search, the count of what fires, the zone.

import { announce } from "./announce.js";
import { ApiError, get } from "./api.js";
import { byId, el, fill, say, show } from "./dom.js";
import { Live } from "./live.js";
import { searching } from "./search.js";
import { enter } from "./session.js";
import { language, named, t, visible } from "./texts.js";
import { clock, serverSays, span, utc, zone } from "./times.js";

const YEAR_S = 31_536_000;
/** What could not be read is read again so much later, and a little more, so that viewers do not come all at once. */
const AGAIN_MS = 4_000;
const title = document.title;

/** Listeners of "theme": who draws on a canvas draws again. */
export const look = new EventTarget();

/**
 * Starts a page for those who may read.
 *
 * @param page `refresh()` reads all it shows, at the start and whenever the stream is back; `listeners` are those of
 *   the stream; `query` says which stream.
 */
export async function start(page, query = "") {
  switches();
  searching();
  scrollable();
  say(byId("zone"), t("frame.zone", { zone: zone() }));
  let isIn;
  while (isIn === undefined) {
    try {
      isIn = await enter();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      linked({ state: "lost", since: Date.now(), nextAt: Date.now() + 3000 });
      await new Promise((resolve) => setTimeout(resolve, 3000));
    }
  }
  if (!isIn) return;
  refresh = () => page.refresh().then(() => trouble(""), failed);
  let wasLive = false;
  const live = new Live(`/api/v1/live${query}`, { ...page.listeners, overview: overview(page), alert: alert(page) }, (link) => {
    linked(link);
    if (link.state === "live") {
      if (wasLive) announce(t("link.back"));
      wasLive = true;
      refresh();
    } else if (link.state === "lost") lost();
  });
  byId("retry").addEventListener("click", () => live.retry());
  document.body.dataset.ready = "true";
}

let refresh = null;
let again = null;

/** Shows what went wrong, on top of the page, and reads all of it again until it goes right. */
export function failed(error) {
  if (!(error instanceof ApiError)) throw error;
  if (error.status === 401) return;
  trouble(error.message);
  again ??= setTimeout(() => {
    again = null;
    if (document.body.dataset.link === "live") refresh();
  }, AGAIN_MS * (1 + Math.random()));
}

function trouble(sentence) {
  say(byId("trouble-text"), visible(sentence));
  show(byId("trouble"), sentence !== "");
}

function overview(page) {
  return (overview) => {
    serverSays(overview.at);
    const away = [overview.redis_ok || t("away.redis"), overview.kafka_ok || t("away.kafka")].filter((each) => each !== true);
    say(byId("away-text"), away.join(" "));
    show(byId("away"), away.length > 0);
    pip(overview);
    document.title = overview.firing ? `(${overview.firing}) ${title}` : title;
    page.listeners.overview?.(overview);
  };
}

/** How many alerts fire, beside the link to them. */
function pip({ firing, critical }) {
  const node = byId("firing-pip");
  show(node, firing > 0);
  node.dataset.severity = critical ? "critical" : "warning";
  if (node.dataset.firing === String(firing)) return;
  node.dataset.firing = firing;
  fill(node, String(firing), el("span", { class: "unseen" }, ` ${t("state.firing")}`));
}

const told = new Map();

function alert(page) {
  return (alert) => {
    const isNews = (told.get(alert.id) ?? 0) < alert.sequence;
    told.set(alert.id, alert.sequence);
    if (isNews && !alert.historic && Date.now() - Date.parse(alert.at) < 600_000) {
      const values = { product: visible(alert.product_id), severity: named("severity", alert.severity) };
      announce(t(alert.state === "firing" ? "announce.firing" : "announce.resolved", values));
    }
    page.listeners.alert?.(alert);
  };
}

// The connection.

let counting = null;
let wasLost = false;

function linked({ state, since, nextAt }) {
  byId("link-state").dataset.state = state;
  say(byId("link-text"), t(`link.${state}`));
  show(byId("lost"), state === "lost");
  document.body.dataset.link = state;
  clearInterval(counting);
  if (state !== "lost") {
    wasLost = false;
    return;
  }
  if (!wasLost) announce(t("link.lost"));
  wasLost = true;
  say(byId("lost-since"), t("link.since", { time: clock(since) }));
  byId("lost-since").title = utc(since);
  const tell = () => say(byId("lost-next"), nextAt ? t("link.next", { span: span((nextAt - Date.now()) / 1000 + 1) }) : "");
  tell();
  counting = setInterval(tell, 1000);
}

/** A stream that was refused looks like one that broke: asking who we are tells them apart. */
async function lost() {
  try {
    const session = await get("session");
    if (!session.scopes.includes("read")) location.reload();
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
  }
}

// Language and theme, kept in cookies, so that the server's page is right before a script runs.

function switches() {
  byId("language").addEventListener("click", (event) => {
    event.preventDefault();
    remember("language", language === "en" ? "zh" : "en");
    location.reload();
  });
  byId("language").addEventListener("keydown", (event) => event.key === " " && (event.preventDefault(), event.target.click()));
  byId("theme").addEventListener("change", (event) => {
    document.documentElement.dataset.theme = event.target.value;
    remember("theme", event.target.value);
    look.dispatchEvent(new Event("theme"));
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => look.dispatchEvent(new Event("theme")));
}

/** What can be scrolled can be scrolled by keyboard, and is no stop for the Tab key where it cannot. */
function scrollable() {
  const look = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      const node = target.closest(".scroll");
      if (node.scrollWidth > node.clientWidth + 1) node.setAttribute("tabindex", "0");
      else node.removeAttribute("tabindex");
    }
  });
  for (const node of document.querySelectorAll(".scroll")) {
    node.setAttribute("role", "group");
    node.setAttribute("aria-label", node.querySelector("caption").textContent);
    look.observe(node);
    look.observe(node.firstElementChild);
  }
}

function remember(what, value) {
  document.cookie = `reviewpulse-${what}=${value}; Path=/; Max-Age=${YEAR_S}; SameSite=Strict`;
}

/** A group of buttons of which one is pressed; calls back with its value. */
export function switched(group, onChange) {
  group.addEventListener("click", (event) => {
    const pressed = event.target.closest("button");
    if (!pressed) return;
    for (const each of group.querySelectorAll("button")) each.setAttribute("aria-pressed", String(each === pressed));
    onChange(pressed.value);
  });
}
