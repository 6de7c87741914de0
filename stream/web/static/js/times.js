// Times: the server says UTC, the reader sees the zone of their own device, which is named; the title has UTC.

import { el, say } from "./dom.js";
import { locale, t } from "./texts.js";

const clockFormat = new Intl.DateTimeFormat(locale, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const minuteFormat = new Intl.DateTimeFormat(locale, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const dayFormat = new Intl.DateTimeFormat(locale, { day: "numeric", month: "short" });
const dayMinuteFormat = new Intl.DateTimeFormat(locale, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const yearFormat = new Intl.DateTimeFormat(locale, { year: "numeric", month: "short", day: "numeric" });

const TICK_MS = 5_000;

/** How far this device's clock is behind the server's, ms: ages are told by the server's. */
let behindMs = 0;

export function serverSays(at) {
  const ms = Date.parse(at);
  if (Number.isFinite(ms)) behindMs = ms - Date.now();
}

export const now = () => Date.now() + behindMs;

/** 2026-11-27 18:50:51 UTC. */
export const utc = (ms) => `${new Date(ms).toISOString().slice(0, 19).replace("T", " ")} UTC`;

export const clock = (ms) => clockFormat.format(ms);
export const minute = (ms) => minuteFormat.format(ms);
export const day = (ms) => dayFormat.format(ms);

function isSameDay(a, b) {
  return new Date(a).toDateString() === new Date(b).toDateString();
}

/** The time of day, with the date unless it is today's, and with the year alone when it is long ago. */
export function moment(ms) {
  if (isSameDay(ms, Date.now())) return clock(ms);
  return Math.abs(Date.now() - ms) < 300 * 86_400_000 ? dayMinuteFormat.format(ms) : yearFormat.format(ms);
}

/** The start of a bucket: whole minutes. */
export const bucket = (ms) => (isSameDay(ms, Date.now()) ? minute(ms) : dayMinuteFormat.format(ms));

/** A `<time>` of an RFC 3339 time. */
export function time(at) {
  const ms = Date.parse(at);
  if (!Number.isFinite(ms)) return el("span", {}, "–");
  return el("time", { datetime: at, title: utc(ms) }, moment(ms));
}

/** Seconds as people say them: 42 s, 7 min, 3 h 20 min, 2 d 4 h. */
export function span(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return t("span.s", { n: whole });
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return t("span.min", { n: minutes });
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return joined(t("span.h", { n: hours }), minutes % 60 ? t("span.min", { n: minutes % 60 }) : "");
  const days = Math.floor(hours / 24);
  return joined(t("span.d", { n: days }), hours % 24 ? t("span.h", { n: hours % 24 }) : "");
}

const joined = (...parts) => parts.filter(Boolean).join(" ");

/** A `<time>` that says how long ago, or how far ahead, and goes on saying it. */
export function age(at) {
  const ms = Date.parse(at);
  const node = el("time", { datetime: at, title: `${moment(ms)} · ${utc(ms)}`, "data-age": ms });
  tell(node);
  return node;
}

function tell(node) {
  say(node, span(Math.abs(now() - Number(node.dataset.age)) / 1000));
}

setInterval(() => document.querySelectorAll("[data-age]").forEach(tell), TICK_MS);

/** The zone's name and its offset from UTC now. */
export function zone() {
  const name = Intl.DateTimeFormat().resolvedOptions().timeZone ?? "";
  const offset = -new Date().getTimezoneOffset();
  const sign = offset < 0 ? "−" : "+";
  const [hours, minutes] = [Math.floor(Math.abs(offset) / 60), Math.abs(offset) % 60];
  return `${name} (UTC${sign}${hours}${minutes ? `:${String(minutes).padStart(2, "0")}` : ""})`;
}
