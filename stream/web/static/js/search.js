// Finds products by a part of their id: an ARIA combobox with a list box. One question at a time, after a pause.

import { ApiError, get } from "./api.js";
import { byId, el, fill, say, show } from "./dom.js";
import { t, visible } from "./texts.js";

const PAUSE_MS = 200;
const MOST = 12;

export const productAddress = (id) => `/product?id=${encodeURIComponent(id)}`;

export function searching() {
  const input = byId("search-text");
  let timer = null;
  let asked = 0;

  document.addEventListener("keydown", (event) => {
    const isTyping = event.target.closest("input, select, textarea, dialog");
    if (event.key === "/" && !isTyping && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      input.focus();
      input.select();
    }
  });
  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(ask, PAUSE_MS);
  });
  input.addEventListener("focus", () => input.value && ask());
  input.addEventListener("keydown", keys);
  byId("search").addEventListener("submit", (event) => {
    event.preventDefault();
    if (options().length) go(chosen() ?? options()[0]);
    else ask();
  });
  byId("search").addEventListener("focusout", (event) => {
    if (!byId("search").contains(event.relatedTarget)) open(false);
  });

  async function ask() {
    const text = input.value.trim();
    asked += 1;
    const mine = asked;
    if (!text) return open(false);
    try {
      const found = await get("products", { search: text, limit: MOST });
      if (mine === asked) list(found.products);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (mine === asked) list([], error.message);
    }
  }

  function list(products, trouble = "") {
    fill(
      byId("search-found"),
      products.map((id, place) =>
        el("li", { role: "option", id: `found-${place}`, "aria-selected": "false", "data-id": id, onpointerdown: (event) => {
          event.preventDefault();
          go(event.currentTarget);
        } }, el("bdi", {}, visible(id))),
      ),
    );
    say(byId("search-note"), trouble || (products.length ? "" : t("search.none")));
    show(byId("search-note"), !products.length);
    open(true);
  }

  function keys(event) {
    if (event.key === "Escape") {
      open(false);
      return;
    }
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step || !options().length) return;
    event.preventDefault();
    const all = options();
    const from = all.indexOf(chosen());
    choose(all[from === -1 ? (step > 0 ? 0 : all.length - 1) : (from + step + all.length) % all.length]);
  }

  const options = () => (byId("search-box").hidden ? [] : [...byId("search-found").children]);
  const chosen = () => options().find((each) => each.getAttribute("aria-selected") === "true");

  function choose(option) {
    for (const each of options()) each.setAttribute("aria-selected", String(each === option));
    input.setAttribute("aria-activedescendant", option.id);
    option.scrollIntoView({ block: "nearest" });
  }

  function open(isOpen) {
    show(byId("search-box"), isOpen);
    input.setAttribute("aria-expanded", String(isOpen));
    if (!isOpen) input.removeAttribute("aria-activedescendant");
  }

  function go(option) {
    location.assign(productAddress(option.dataset.id));
  }
}
