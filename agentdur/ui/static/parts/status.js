// Statuses: one set of names and colours everywhere.
import { html } from "../html.js";

/** Where `completed` is told apart. @param {Api.Run} run */
export function shown(run) {
  if (run.status === "running" && asksSomebody(run)) return "suspended";
  if (run.status !== "completed") return run.status;
  return run.completion_result === "failure" || run.completion_failure ? "failed" : "succeeded";
}

/** It is in memory still, and does nothing but wait for somebody. */
const asksSomebody = (/** @type {Api.Run} */ run) => !!run.waiting_for?.length &&
  run.waiting_for.every((one) => !one.startsWith("completion"));

export const STATUSES = ["running", "ready", "suspended", "backing-off", "paused", "pending", "scheduled",
  "succeeded", "failed"];
const WORDS = { "backing-off": "retrying", suspended: "waiting", pending: "queued" };
export const word = (status) => WORDS[status] ?? status;

export const Status = ({ run, status = shown(run) }) =>
  html`<span class="status is-${status}">${word(status)}</span>`;

export const ended = (/** @type {Api.Run} */ run) => run.status === "completed";
