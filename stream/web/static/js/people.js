// What people say about alerts: the two dialogs, and the list of silences.

import { announce } from "./announce.js";
import { ApiError, post, remove } from "./api.js";
import { byId, el, fill, say } from "./dom.js";
import { change } from "./alerts.js";
import { may } from "./session.js";
import { named, t, visible } from "./texts.js";
import { age, now, time } from "./times.js";

const NAME = "reviewpulse-name";

/** Whether the viewer may silence and acknowledge. */
export const mayOperate = () => may("operate");

/**
 * Opens the silence dialog.
 *
 * @param about {product, category, rule}; the last two where they are known.
 * @param onDone called when it is said.
 */
export function askSilence({ product, category, rule }, onDone) {
  const scopes = [
    { text: t("silence.product", { product: visible(product) }), body: { product } },
    rule && { text: t("silence.product_rule", { product: visible(product), rule: named("rule", rule) }), body: { product, rule } },
    category && { text: t("silence.category", { category: visible(category) }), body: { category } },
  ].filter(Boolean);
  fill(byId("silence-scope"), scopes.map((each, place) => el("option", { value: place }, each.text)));
  byId("silence-reason").value = "";
  ask("silence", byId("silence-reason"), onDone, () =>
    post("silences", {
      ...scopes[Number(byId("silence-scope").value)].body,
      for: new FormData(byId("silence-form")).get("for"),
      reason: byId("silence-reason").value.trim(),
      ...nameGiven("silence"),
    }));
}

/** Opens the dialog that acknowledges an alert. */
export function askAcknowledge(alert, onDone) {
  fill(byId("acknowledge-alert"), el("bdi", {}, visible(alert.product_id)), ` · ${named("rule", alert.rule)} · ${change(alert)}`);
  byId("acknowledge-note").value = "";
  ask("acknowledge", byId("acknowledge-note"), onDone, () =>
    post("acknowledgements", {
      alert_id: alert.id,
      note: byId("acknowledge-note").value.trim(),
      ...nameGiven("acknowledge"),
    }));
}

/** Left out when empty: the server then knows us by our token. */
function nameGiven(form) {
  const author = byId(`${form}-author`).value.trim();
  return author ? { author } : {};
}

function ask(name, first, onDone, send) {
  const dialog = byId(`${name}-dialog`);
  const form = byId(`${name}-form`);
  const author = byId(`${name}-author`);
  const error = byId(`${name}-error`);
  const button = form.querySelector(".primary");
  say(error, "");
  author.value = localStorage.getItem(NAME) ?? "";
  form.onsubmit = async (event) => {
    event.preventDefault();
    button.disabled = true;
    try {
      const said = await send();
      localStorage.setItem(NAME, author.value.trim());
      dialog.close();
      announce(t(`${name}.done`));
      await onDone(said);
      // The button that opened the dialog may be gone with what it was for.
      if (!document.activeElement?.checkVisibility?.() || document.activeElement === document.body) byId("main").focus({ preventScroll: true });
    } catch (refusal) {
      if (!(refusal instanceof ApiError)) throw refusal;
      say(error, visible(refusal.message));
    } finally {
      button.disabled = false;
    }
  };
  form.querySelector("[data-close]").onclick = () => dialog.close();
  dialog.showModal();
  first.focus();
}

/** Whether a silence is on now. */
export const isOn = (silence) => Date.parse(silence.end) > now();

/** A line for a silence, with a button that ends it. */
export function silenceLine(silence, onDone) {
  const end = el("button", { type: "button", class: "small", onclick: async () => {
    end.disabled = true;
    try {
      await remove(`silences/${encodeURIComponent(silence.id)}`);
      onDone();
    } catch (refusal) {
      if (!(refusal instanceof ApiError)) throw refusal;
      end.disabled = false;
      say(note, visible(refusal.message));
    }
  } }, t("silence.end"));
  const note = el("span", { class: "error", role: "alert" });
  return el("li", { class: "silence" },
    el("span", { class: "silence-sign", "aria-hidden": "true" }, "◌"),
    el("span", {}, el("strong", {}, t("silence.on_until")), " ", time(silence.end), " (", age(silence.end), ")", " · ", scope(silence), " · ",
      el("bdi", { class: "stranger" }, visible(silence.reason)), silence.author ? el("span", { class: "muted" }, " — ", el("bdi", {}, visible(silence.author))) : null),
    mayOperate() ? end : null, note);
}

function scope(silence) {
  const parts = [
    silence.everything && t("silence.everything"),
    silence.product && visible(silence.product),
    silence.category && t("silence.category", { category: visible(silence.category) }),
    silence.pattern && visible(silence.pattern),
    silence.rule && named("rule", silence.rule),
  ].filter(Boolean);
  return parts.join(" · ");
}
