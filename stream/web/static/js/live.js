// The stream of server-sent events, with a state that the page can show.
//
// Rules:
// - One stream a page. A stream that ends or says nothing for QUIET_MS is opened again, after a wait that grows to
//   WAIT_MOST_MS and is never the same for two viewers: a server that comes back is not run over.
// - What was missed is not asked for by us: whoever listens reads everything again when the state is `live` again.
// - A page nobody looks at holds no stream (browsers allow six connections to a server, for all tabs together).

const QUIET_MS = 20_000;
const WAIT_LEAST_MS = 1_000;
const WAIT_MOST_MS = 30_000;
const HIDDEN_MS = 120_000;

export class Live {
  /**
   * @param address of the stream; @param listeners by name of the event, given its data.
   * @param onState called with {state: "connecting" | "live" | "lost" | "paused", since, nextAt}, times in ms.
   */
  constructor(address, listeners, onState) {
    this.address = address;
    this.listeners = listeners;
    this.onState = onState;
    this.attempts = 0;
    this.since = Date.now();
    this.state = "connecting";
    document.addEventListener("visibilitychange", () => this.#lookedAt());
    addEventListener("online", () => this.retry());
    addEventListener("pagehide", () => this.#close());
    addEventListener("pageshow", (event) => event.persisted && this.open());
    this.open();
  }

  open() {
    this.#close();
    if (this.state !== "lost") this.#become("connecting");
    const source = new EventSource(this.address);
    this.source = source;
    source.addEventListener("open", () => this.#heard());
    source.addEventListener("error", () => this.source === source && this.#lost());
    for (const [name, listener] of Object.entries(this.listeners)) {
      source.addEventListener(name, (event) => {
        this.#heard();
        listener(JSON.parse(event.data));
      });
    }
    this.#watch();
  }

  /** Tries again now. */
  retry() {
    if (this.state === "lost" || this.state === "paused") this.open();
  }

  #heard() {
    this.attempts = 0;
    if (this.state !== "live") this.#become("live");
    this.#watch();
  }

  #watch() {
    clearTimeout(this.quiet);
    this.quiet = setTimeout(() => this.#lost(), QUIET_MS);
  }

  #lost() {
    this.#close();
    const longest = Math.min(WAIT_MOST_MS, WAIT_LEAST_MS * 2 ** this.attempts);
    const wait = longest * (0.5 + Math.random() / 2);
    this.attempts += 1;
    this.waiting = setTimeout(() => this.open(), wait);
    this.#become("lost", Date.now() + wait);
  }

  #lookedAt() {
    clearTimeout(this.hiding);
    if (document.hidden) {
      this.hiding = setTimeout(() => {
        this.#close();
        this.#become("paused");
      }, HIDDEN_MS);
    } else this.retry();
  }

  #close() {
    clearTimeout(this.quiet);
    clearTimeout(this.waiting);
    this.source?.close();
    this.source = null;
  }

  #become(state, nextAt = null) {
    if (state !== this.state) this.since = Date.now();
    this.state = state;
    this.onState({ state, since: this.since, nextAt });
  }
}
