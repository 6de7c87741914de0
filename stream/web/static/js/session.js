// Who looks, what they may do, and the form for those who must say first.

import { ApiError, get, onRefused, post, remove } from "./api.js";
import { byId, say, show } from "./dom.js";

let scopes = new Set();

/** Whether the viewer may do what needs this scope. */
export const may = (scope) => scopes.has(scope);

/** Asks who we are; resolves with whether we may read, and shows the form if not. */
export async function enter() {
  byId("gate-form").addEventListener("submit", submitted);
  byId("sign-out").addEventListener("click", leave);
  onRefused(() => gate(true));
  const session = await get("session");
  scopes = new Set(session.scopes);
  show(byId("sign-out"), session.needs_token && scopes.size > 0);
  const isIn = scopes.has("read");
  gate(!isIn);
  return isIn;
}

function gate(isShut) {
  if (byId("gate").hidden === !isShut) return;
  show(byId("gate"), isShut);
  show(byId("content"), !isShut);
  show(byId("search"), !isShut);
  show(byId("link-state"), !isShut);
  if (isShut) byId("gate-token").focus();
}

async function submitted(event) {
  event.preventDefault();
  const error = byId("gate-error");
  say(error, "");
  try {
    await post("session", { token: byId("gate-token").value.trim() });
    location.reload();
  } catch (refusal) {
    if (!(refusal instanceof ApiError)) throw refusal;
    say(error, refusal.message);
    byId("gate-token").select();
  }
}

async function leave() {
  await remove("session");
  location.reload();
}
