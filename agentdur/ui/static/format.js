// How times, sizes and money are written.
import { signal } from "./html.js";

/** The time, once a second: only what ticks reads it. */
export const now = signal(Date.now());
setInterval(() => {
  if (!document.hidden) now.value = Date.now();
}, 1000);

/**
 * A time of the API; null when there is none.
 * @type {{(text: string): number, (text: string | null | undefined): number | null}}
 */
export const ms = (/** @type {any} */ text) => /** @type {any} */ (text ? Date.parse(text) : null);

/** A length of time in two units at most. */
export function span(value) {
  if (value == null || Number.isNaN(value)) return "";
  const s = Math.max(0, value) / 1000;
  if (s < 0.9995) return `${Math.round(s * 1000)} ms`;
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 60) return `${Math.round(s)} s`;
  const units = /** @type {[string, number][]} */ ([["d", 86400], ["h", 3600], ["m", 60], ["s", 1]]);
  const first = units.findIndex(([, size]) => s >= size);
  let [name, size] = units[first], whole = Math.floor(s / size), rest = s - whole * size;
  const next = units[first + 1], more = next ? Math.floor(rest / next[1]) : 0;
  return `${whole} ${name}${more ? ` ${more} ${next[0]}` : ""}`;
}

export const ago = (at, until = now.value) =>
  (at == null ? "" : until - at < 1500 ? "just now" : `${span(until - at)} ago`);
export const until = (at) => (at == null ? "" : at <= now.value ? "now" : `in ${span(at - now.value)}`);

export const clock = (at) =>
  at == null ? "" : new Date(at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit",
    second: "2-digit" });
export const stamp = (at) => (at == null ? "" : new Date(at).toLocaleString([], { dateStyle: "medium",
  timeStyle: "medium" }));

export function money(value) {
  if (value == null) return "";
  if (value === 0) return "$0";
  return value < 0.01 ? `$${value.toFixed(6).replace(/0+$/, "")}` : `$${value.toFixed(value < 1 ? 4 : 2)}`;
}

export const count = (n) =>
  n == null ? "" : n < 10_000 ? n.toLocaleString("en") : n < 1e6 ? `${(n / 1e3).toFixed(1)}k` :
    `${(n / 1e6).toFixed(1)}M`;

export const bytes = (n) => (n < 1024 ? `${n} B` : n < 1048576 ? `${(n / 1024).toFixed(1)} kB` :
  `${(n / 1048576).toFixed(1)} MB`);

export const short = (id) => (id && id.length > 20 ? `${id.slice(0, 8)}…${id.slice(-5)}` : id);

/** One line of a value, at most so many characters. */
export function line(value, most = 160) {
  if (value === undefined) return "";
  let text;
  if (redacted(value)) return secret(value);
  if (typeof value === "string") text = JSON.stringify(value.length > most * 2 ? value.slice(0, most * 2) :
    value);
  else if (value && typeof value === "object" && typeof value.bytes === "number" && "preview" in value)
    text = `${value.preview}… (${bytes(value.bytes)})`;
  else text = JSON.stringify(value) ?? "";
  return text.length > most ? `${text.slice(0, most)}…` : text;
}

/** True for what the server hides from who looks. */
export const redacted = (value) => !!value && typeof value === "object" && value.redacted === true &&
  typeof value.bytes === "number";
export const secret = (value) => `hidden (${bytes(value.bytes)})`;
/** A text of the server, in words when it is hidden. */
export const said = (value) => (redacted(value) ? secret(value) : value);

/** True for what the server sent the beginning of only. */
export const cut = (value) => !!value && typeof value === "object" && "preview" in value &&
  typeof value.bytes === "number" && Object.keys(value).length === 2;

export const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;
