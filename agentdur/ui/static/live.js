// One run, kept up to date: its record, its journal, and what its steps say while they run.
import { batch, signal } from "./html.js";
import { get, poll, seg } from "./api.js";
import { Journal } from "./parts/journal.js";

const TOGETHER_MS = 40;

export class Run {
  /** @param {string} id */
  constructor(id) {
    this.id = id;
    this.journal = new Journal();
    /** The invocation as the API shows it; null until it is known. */
    this.about = signal(/** @type {Api.Run | null} */ (null));
    /** Counts up with each change of the journal. */
    this.version = signal(0);
    /** What steps stream now, by completion id. */
    this.talk = signal(/** @type {Map<number, string>} */ (new Map()));
    this.live = signal(false);
    this.error = signal(/** @type {any} */ (null));
    /** @type {{rows: Api.Row[], about: Api.Run | undefined, timer: number} | null} */
    this.waiting = null;
  }

  /** Rows come in pages, often many at once: they are drawn together. */
  #later(rows, about) {
    this.waiting ??= { rows: [], about: undefined, timer: setTimeout(() => this.#flush(), TOGETHER_MS) };
    if (rows) this.waiting.rows.push(...rows);
    if (about !== undefined) this.waiting.about = about;
  }

  #flush() {
    const { waiting } = this;
    if (!waiting) return;
    clearTimeout(waiting.timer);
    this.waiting = null;
    this.#take(waiting.rows, waiting.about);
  }

  #take(rows, about) {
    batch(() => {
      if (rows?.length) {
        this.journal.add(rows);
        const talk = this.talk.value;
        if (talk.size && rows.some((row) => talk.has(row.completion_id))) {
          const left = new Map(talk);
          for (const row of rows) if (row.kind === "Completion") left.delete(row.completion_id);
          this.talk.value = left;
        }
      }
      if (about !== undefined) this.about.value = about;
      this.version.value++;
    });
  }

  /** Follow it by events; answers a function that stops. A hidden page lets go of its connection. */
  follow() {
    let source = /** @type {EventSource | null} */ (null), over = false;
    const close = () => {
      this.#flush();
      source?.close();
      source = null;
      this.live.value = false;
    };
    const open = () => {
      if (over || source || document.hidden) return;
      const opened = source = new EventSource(`/invocations/${seg(this.id)}/live?after=${this.journal.last}`);
      // Who comes back is told again what is not in the journal yet.
      opened.addEventListener("open", () => (this.talk.value = new Map()));
      opened.addEventListener("rows", (e) => this.#later(JSON.parse(e.data), undefined));
      opened.addEventListener("run", (e) => {
        this.live.value = true;
        this.error.value = null;
        this.#later(null, JSON.parse(e.data));
      });
      opened.addEventListener("chunk", (e) => this.#say(JSON.parse(e.data)));
      opened.addEventListener("void", (e) => this.#unsay(JSON.parse(e.data).run));
      opened.addEventListener("end", () => {
        over = true;
        this.#flush();
        close();
      });
      opened.onerror = () => {
        const refused = opened.readyState === EventSource.CLOSED;
        this.live.value = false;
        if (refused) {
          close();
          this.#explain();
        }
      };
    };
    const seen = () => (document.hidden ? close() : open());
    document.addEventListener("visibilitychange", seen);
    open();
    return () => {
      over = true;
      document.removeEventListener("visibilitychange", seen);
      close();
    };
  }

  /** An event stream tells no reason: ask the plain way. */
  async #explain() {
    try {
      await get(`/invocations/${seg(this.id)}/rows?after=${this.journal.last}&limit=1`);
    } catch (error) {
      this.error.value = error;
    }
  }

  /** Ask once for what is new; true when it has ended. */
  async refresh() {
    for (;;) {
      const { run, rows } = await get(`/invocations/${seg(this.id)}/rows?after=${this.journal.last}`);
      this.#take(rows, run);
      if (rows.length < 500) return run.status === "completed";
    }
  }

  /** Ask again and again until it has ended, also after a request that failed; answers what stops it. */
  keep(seconds) {
    const stop = poll(seconds, async () => {
      try {
        const over = await this.refresh();
        this.error.value = null;
        if (over) stop();
      } catch (error) {
        this.error.value = error;
      }
    });
    return stop;
  }

  #say({ run, data }) {
    const said = typeof data === "string" ? data : data?.delta ?? "";
    if (typeof said !== "string" || !said ||
      (data.type && !["text", "reasoning", "tool_call"].includes(data.type))) return;
    const talk = new Map(this.talk.value);
    talk.set(run, (talk.get(run) ?? "") + said);
    this.talk.value = talk;
  }

  #unsay(run) {
    const talk = new Map(this.talk.value);
    if (talk.delete(run)) this.talk.value = talk;
  }
}
