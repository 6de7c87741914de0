// Numbers as people read them, in the interface's language.

import { locale } from "./texts.js";

const whole = new Intl.NumberFormat(locale);
const short = new Intl.NumberFormat(locale, { notation: "compact", maximumFractionDigits: 1 });
const one = new Intl.NumberFormat(locale, { maximumFractionDigits: 1, minimumFractionDigits: 1 });
const signed = new Intl.NumberFormat(locale, { maximumFractionDigits: 2, minimumFractionDigits: 2, signDisplay: "exceptZero" });
const percents = new Intl.NumberFormat(locale, { style: "percent", maximumFractionDigits: 1, minimumFractionDigits: 1 });
const roundPercents = new Intl.NumberFormat(locale, { style: "percent", maximumFractionDigits: 0 });

export const NONE = "–";

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

/** 12,345; from 100,000 on 1.2M. */
export const count = (value) => (isNumber(value) ? (Math.abs(value) < 100_000 ? whole : short).format(value) : NONE);

export const exact = (value) => (isNumber(value) ? whole.format(value) : NONE);

/** Events a second: 27.4, 1,234. */
export const rate = (value) => (isNumber(value) ? (value < 100 ? one : whole).format(value < 100 ? value : Math.round(value)) : NONE);

/** 12.3%. */
export const percent = (share) => (isNumber(share) ? percents.format(share) : NONE);

/** 12%: for axes and intervals. */
export const roundPercent = (share) => (isNumber(share) ? roundPercents.format(share) : NONE);

export const interval = (ends) => `${roundPercent(ends[0])}–${roundPercent(ends[1])}`;

/** A mean sentiment: +0.31. */
export const sentiment = (value) => (isNumber(value) ? signed.format(value) : NONE);

/** 18 ms, 1.2 s. */
export function duration(ms) {
  if (!isNumber(ms)) return NONE;
  return ms < 1000 ? `${whole.format(Math.round(ms))} ms` : `${(ms < 10_000 ? one : whole).format(ms < 10_000 ? ms / 1000 : Math.round(ms / 1000))} s`;
}
