// Questions to the API. What it refuses becomes an `ApiError` with the API's own sentence.

import { t } from "./texts.js";

const TIMEOUT_MS = 15_000;

export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

const refused = new EventTarget();

/** Calls back when the API no longer lets us in. */
export const onRefused = (listener) => refused.addEventListener("refused", listener);

/** Asks for `/api/v1/<path>`; parameters that are null or empty are left out. */
export function get(path, parameters = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== null && value !== undefined && value !== "") query.set(name, value);
  }
  const text = query.toString();
  return send("GET", text ? `${path}?${text}` : path);
}

export const post = (path, body) => send("POST", path, body);
export const remove = (path) => send("DELETE", path);

async function send(method, path, body) {
  const headers = { Accept: "application/json" };
  if (method !== "GET") headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(`/api/v1/${path}`, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: "same-origin",
      cache: "no-store",
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
  } catch {
    throw new ApiError(0, t("error.away"));
  }
  const said = await answer.json().catch(() => null);
  if (answer.ok) return said;
  if (answer.status === 401 && path !== "session") refused.dispatchEvent(new Event("refused"));
  throw new ApiError(answer.status, said?.error ?? t("error.status", { status: answer.status }));
}
