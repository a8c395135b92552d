// The stream of events, and how old the last of them is.

const FIRST_WAIT_MS = 1000;
const LAST_WAIT_MS = 5000;
const HIDDEN_MS = 60000;

/** Listens to the rig for ever; `on` has a function for each kind of event. */
export class Stream {
  constructor(on, onOpen) {
    this.on = on;
    this.onOpen = onOpen;
    this.lastId = "";
    this.heardAt = null;
    this.open = false;
    this.waitMs = FIRST_WAIT_MS;
    this.beatS = 2;
    this.source = null;
    document.addEventListener("visibilitychange", () => this.#visibility());
    this.#connect();
  }

  /** Seconds since anything was heard; null before the first time. */
  ageS() {
    return this.heardAt === null ? null : (performance.now() - this.heardAt) / 1000;
  }

  /** Whether what is on the page is not to be believed any more. */
  get lost() {
    const age = this.ageS();
    return age === null ? performance.now() > 5000 : age > 2.5 * this.beatS;
  }

  #connect() {
    clearTimeout(this.retry);
    this.source?.close();
    const source = new EventSource(`/events${this.lastId ? `?after=${this.lastId}` : ""}`);
    this.source = source;
    source.addEventListener("open", () => {
      this.open = true;
      this.waitMs = FIRST_WAIT_MS;
      this.onOpen();
    });
    source.addEventListener("error", () => {
      this.open = false;
      // A browser tries again by itself only where the connection broke, not where it was refused.
      source.close();
      this.#again();
    });
    for (const [kind, take] of Object.entries(this.on)) {
      source.addEventListener(kind, (event) => {
        if (source !== this.source) return;
        this.heardAt = performance.now();
        if (event.lastEventId) this.lastId = event.lastEventId;
        take(JSON.parse(event.data));
      });
    }
  }

  async #again() {
    this.retry = setTimeout(() => this.#connect(), this.waitMs);
    this.waitMs = Math.min(2 * this.waitMs, LAST_WAIT_MS);
    try {
      const page = await fetch("/", { cache: "no-store" });
      if (page.status === 401) location.reload(); // another token since
    } catch {
      // It is away: the retry goes on.
    }
  }

  /** A tab that nobody sees gives its connection back: a browser has six for one rig. */
  #visibility() {
    clearTimeout(this.rest);
    if (document.hidden) {
      this.rest = setTimeout(() => {
        clearTimeout(this.retry);
        this.source?.close();
        this.source = null;
      }, HIDDEN_MS);
    } else if (this.source === null) this.#connect();
  }
}
