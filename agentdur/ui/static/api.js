// The admin API, and nothing else. What goes wrong is an ApiError with the server's own words.
import { signal } from "./html.js";

export class ApiError extends Error {
  /** @param {number} status @param {string} message */
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** False while the server cannot be reached. */
export const online = signal(true);
/** True while the server asks who it is that looks. */
export const signedOut = signal(false);

/**
 * @param {string} method @param {string} path @param {any} [body] @param {Record<string, string>} [headers]
 * @returns {Promise<any>}
 */
async function ask(method, path, body, headers = {}) {
  let answer;
  try {
    answer = await fetch(path, {
      method,
      headers: { accept: "application/json",
        ...(body === undefined ? {} : { "content-type": "application/json" }), ...headers },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    online.value = false;
    throw new ApiError(0, "The server does not answer. It is tried again.");
  }
  online.value = true;
  if (answer.status === 401) signedOut.value = true;
  const text = await answer.text();
  let data = /** @type {any} */ (null);
  try {
    data = text ? JSON.parse(text) : null;
  } catch {
    data = null;
  }
  if (!answer.ok) throw new ApiError(answer.status, data?.message || text ||
    `${answer.status} ${answer.statusText}`);
  return data;
}

/**
 * What a route answers: which type that has, is known by its path.
 * @template {string} P @param {P} path @returns {Promise<Api.Answer<P>>}
 */
export const get = (path) => ask("GET", path);
export const post = (path, body = {}) => ask("POST", path, body);
export const patch = (path, body) => ask("PATCH", path, body);
export const del = (path) => ask("DELETE", path);
export const seg = encodeURIComponent;

/** Rows of a SELECT. @returns {Promise<Record<string, any>[]>} */
export async function sql(/** @type {string} */ query) {
  return (await ask("POST", "/query", { query })).rows;
}

/** A value as an SQL literal. */
export const lit = (value) => `'${String(value).replaceAll("'", "''")}'`;

/** Ask again and again; answers a function that stops it. Hidden pages do not ask. */
export function poll(seconds, work) {
  let stopped = false, timer = 0;
  const turn = async () => {
    if (stopped) return;
    if (!document.hidden) await work().catch(() => {});
    if (!stopped) timer = setTimeout(turn, seconds * 1000);
  };
  turn();
  return () => {
    stopped = true;
    clearTimeout(timer);
  };
}
