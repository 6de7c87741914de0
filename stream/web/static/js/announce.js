// One live region for all of the page. It says little: what fires and resolves, and that the connection went or
// came; several within GATHER_MS in one sentence each, the last MOST of them.

import { byId } from "./dom.js";

const GATHER_MS = 800;
const MOST = 3;

let waiting = [];
let timer = null;

export function announce(sentence) {
  waiting.push(sentence);
  timer ??= setTimeout(() => {
    byId("announcer").textContent = waiting.slice(-MOST).join(" ");
    waiting = [];
    timer = null;
  }, GATHER_MS);
}
