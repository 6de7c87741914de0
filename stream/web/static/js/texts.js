// The interface's words, in the language the server chose. They come with the page; see stream/web/static/texts.

const known = JSON.parse(document.getElementById("texts").textContent);

export const language = document.documentElement.lang;

/** For numbers and dates: the reader's own kind of the language (en-GB, zh-Hant-TW), where the browser names one. */
export const locale = navigator.languages.find((each) => each.slice(0, 2) === language.slice(0, 2)) ?? language;

const plurals = new Intl.PluralRules(language);

/** The text of a key, its `{names}` filled in. A key that is not there is our mistake, and is shown as one. */
export function t(key, values = {}) {
  const text = known[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));
}

/** The text of `key.one` or `key.other`, whichever goes with a number. */
export function counted(key, number, values = {}) {
  const form = plurals.select(number) === "one" ? "one" : "other";
  return t(`${key}.${form}`, { n: whole.format(number), ...values });
}

/** A text for one of our own names; the name itself where there is none: rules may be anybody's. */
export function named(group, name) {
  return known[`${group}.${name}`] ?? visible(name);
}

const whole = new Intl.NumberFormat(locale);

const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]/g;

/**
 * A stranger's text with what would not be seen, or would reorder its surroundings, written out.
 * Line breaks and tabs stay. U+200D stays: emoji are made with it.
 */
export function visible(text) {
  return text.replace(HIDDEN, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`);
}
